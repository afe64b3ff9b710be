"""A space in which distance is the time that it takes (HILP: Park, Kreiman & Levine, 2024)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.averages import follow
from agents.heads.core import GoalHead, Trajectories, expectile_loss, mlp
from agents.objectives.core import Terms
from envs.arguments import within


class TemporalDistance(GoalHead):
    """d(s, g) = ‖φ(s) − φ(g)‖, of which −d is the value of goal-conditioned offline reinforcement learning.

    With reward −1 for every step until the goal is reached, V(s, g) = −d(s, g) is fitted to r + γ·V̄(s′, g) by expectile
    regression, as in IQL: the best of what the data show is what counts. As in the authors' code
    (github.com/seohongpark/HILP), there are two φ; errors are weighted by the sign of r + γ·min(V̄₁, V̄₂) − mean(V̄₁, V̄₂),
    and V̄ is a slow copy. Goals come later in the trajectory, P(k) ∝ γᵏ, or from anywhere.

    d is a discounted number of steps: n steps are (1 − γⁿ) / (1 − γ) of them. It is a metric, so it takes as long there
    as back, and of s it takes what there is of g too: `WorldModel.achieved_goal`.

    Args:
        latent_dim: size D.
        hidden_dims: widths of φ's hidden layers.
        dim: of φ(s).
        expectile: τ, above ½.
        discount: γ of a step.
        tau: by which the slow copy follows.
        random_goals: share of goals from anywhere.
        goal_dim: size G of a goal; None: that of a latent.

    Raises:
        ValueError: an argument that is out of range.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dims: Sequence[int] = (256, 256),
        dim: int = 32,
        expectile: float = 0.95,
        discount: float = 0.99,
        tau: float = 0.005,
        random_goals: float = 0.375,
        goal_dim: int | None = None,
    ) -> None:
        super().__init__(latent_dim, goal_dim)
        within(0, 1, expectile=expectile, tau=tau, random_goals=random_goals)
        if dim < 1 or not 0 < discount < 1:
            raise ValueError(f"dim must be positive and discount between 0 and 1, got {dim!r} and {discount!r}")
        self.expectile, self.discount, self.tau, self.random_goals = expectile, discount, tau, random_goals
        self.maps = nn.ModuleList([mlp(self.goal_dim, hidden_dims, dim) for _ in range(2)])
        self.slow_maps = copy.deepcopy(self.maps).requires_grad_(False)

    def forward(self, achieved: Tensor, goals: Tensor) -> Tensor:
        """d, in discounted steps, the mean over both φ: [..., G], [..., G] -> [...]; shapes are broadcast."""
        return -self._values(self.maps, achieved, goals).mean(dim=0)

    def loss(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Terms:
        later, anywhere = data.later(frames, generator, self.discount), data.anywhere(len(frames), generator)
        random = torch.rand(len(frames), generator=generator, device=frames.device) < self.random_goals
        goal = torch.where(random, anywhere, later)
        here, there, goals = data.goals[frames], data.goals[frames + 1], data.goals[goal]
        away = (frames != goal).float()  # 0 where the goal is reached: no reward is missed, and nothing follows
        with torch.no_grad():
            after = self._values(self.slow_maps, there, goals)  # [2, B]
            advantage = self.discount * away * after.amin(dim=0) - away
            advantage = advantage - self._values(self.slow_maps, here, goals).mean(dim=0)
            target = self.discount * away * after - away
        error = target - self._values(self.maps, here, goals)
        return {"temporal_distance": 2 * expectile_loss(advantage.expand_as(error), error, self.expectile)}

    def after_step(self) -> None:
        follow(self.slow_maps, self.maps, self.tau)

    def _values(self, maps: nn.ModuleList, achieved: Tensor, goals: Tensor) -> Tensor:
        """V of both maps: [..., G], [..., G] -> [2, ...]."""
        achieved, goals = self.standardised_goals(achieved), self.standardised_goals(goals)
        return torch.stack([-_length(phi(achieved) - phi(goals)) for phi in maps])


def _length(x: Tensor) -> Tensor:
    """‖x‖ with a gradient at 0: [..., F] -> [...]."""
    return x.square().sum(dim=-1).clamp_min(1e-6).sqrt()
