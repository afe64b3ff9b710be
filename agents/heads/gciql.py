"""Goal-conditioned implicit Q-learning (Kostrikov et al., 2022; for goals: Park et al., 2025, OGBench)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.averages import follow
from agents.heads.core import Trajectories, expectile_loss, mlp
from agents.heads.policy import GoalPolicy
from agents.objectives.core import Terms
from envs.arguments import within

HEAVIEST = 100.0  # weight of an action, as in IQL


class GCIQL(GoalPolicy):
    """What the best of the data would do, pieces of several trajectories put together.

    With reward −1 for every step until the goal is reached:
    V(s, g) is the expectile of min(Q̄₁, Q̄₂)(s, a, g) over the actions of the data;
    Q(s, a, g) is fitted to r + γ·V(s′, g), by mean squared error; and
    −min(exp(β·(min(Q̄₁, Q̄₂) − V)), 100)·ln π(a | s, g) is the policy's loss (advantage-weighted regression).
    Q̄ is a slow copy. Goals of the values are the state itself, later in the trajectory with P(k) ∝ γᵏ, or anywhere;
    those of the policy come uniformly from later in the trajectory, or from anywhere.

    Args:
        latent_dim, action_dim, action_sizes, hidden_dims, goal_dim: see `GoalPolicy`.
        expectile: τ, above ½.
        discount: γ of a step.
        temperature: β.
        tau: by which the slow copy follows.
        random_goals, same_goals: shares of the values' goals from anywhere and of the state itself.
        random_policy_goals: share of the policy's goals from anywhere. Only where values are good do they tell which of
            the actions that were taken for other reasons leads there.

    Raises:
        ValueError: an argument that is out of range.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        action_sizes: Sequence[int] = (),
        hidden_dims: Sequence[int] = (256, 256),
        expectile: float = 0.9,
        discount: float = 0.99,
        temperature: float = 3.0,
        tau: float = 0.005,
        random_goals: float = 0.3,
        same_goals: float = 0.2,
        random_policy_goals: float = 0.0,
        goal_dim: int | None = None,
    ) -> None:
        super().__init__(latent_dim, action_dim, action_sizes, hidden_dims, goal_dim)
        within(0, 1, expectile=expectile, tau=tau, random_goals=random_goals, random_policy_goals=random_policy_goals)
        within(0, 1, random_and_same_goals=random_goals + same_goals)
        if not 0 < discount < 1 or temperature < 0 or same_goals < 0:
            raise ValueError(
                f"discount must be between 0 and 1, temperature and same_goals at least 0, got {discount!r}, "
                f"{temperature!r} and {same_goals!r}"
            )
        self.expectile, self.discount, self.temperature, self.tau = expectile, discount, temperature, tau
        self.random_goals, self.same_goals, self.random_policy_goals = random_goals, same_goals, random_policy_goals
        joined = latent_dim + self.goal_dim
        self.value = mlp(joined, hidden_dims, 1)
        self.critics = nn.ModuleList([mlp(joined + action_dim, hidden_dims, 1) for _ in range(2)])
        self.slow_critics = copy.deepcopy(self.critics).requires_grad_(False)

    def loss(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Terms:
        here, there = (self.standardised(data.latents[i]) for i in (frames, frames + 1))
        actions = data.actions[frames]
        told = (actions - self.action_mean) / self.action_std
        number = self._goals(data, frames, generator)
        goals = self.standardised_goals(data.goals[number])
        away = (frames != number).float()

        value = self._value(here, goals)
        with torch.no_grad():
            best = self._q(self.slow_critics, here, told, goals).amin(dim=0)
            follows = self.discount * away * (frames + 1 != number) * self._value(there, goals)  # V(g, g) = 0
            target = (follows - away).clamp(-1 / (1 - self.discount), 0)
        q = self._q(self.critics, here, told, goals)  # [2, B]

        random = torch.rand(len(frames), generator=generator, device=frames.device) < self.random_policy_goals
        number = torch.where(random, data.anywhere(len(frames), generator), data.later(frames, generator))
        with torch.no_grad():
            goals = self.standardised_goals(data.goals[number])
            advantage = self._q(self.slow_critics, here, told, goals).amin(dim=0) - self._value(here, goals)
            weight = (self.temperature * advantage).exp().clamp_max(HEAVIEST)
        nll = self.nll(data.latents[frames], data.goals[number], actions)
        return {
            "value": expectile_loss(best - value, best - value, self.expectile),
            "critic": (target - q).square().mean(dim=1).sum(),
            "policy": (weight * nll).mean(),
        }

    def after_step(self) -> None:
        follow(self.slow_critics, self.critics, self.tau)

    def _goals(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Tensor:
        """The values' goals: [B]."""
        drawn = torch.rand(len(frames), generator=generator, device=frames.device)
        later, anywhere = data.later(frames, generator, self.discount), data.anywhere(len(frames), generator)
        goal = torch.where(drawn < self.random_goals, anywhere, later)
        return torch.where(drawn >= 1 - self.same_goals, frames, goal)

    def _value(self, latents: Tensor, goals: Tensor) -> Tensor:
        return self.value(torch.cat([latents, goals], dim=-1))[..., 0]

    def _q(self, critics: nn.ModuleList, latents: Tensor, actions: Tensor, goals: Tensor) -> Tensor:
        """[2, B]."""
        joined = torch.cat([latents, actions, goals], dim=-1)
        return torch.stack([critic(joined)[..., 0] for critic in critics])
