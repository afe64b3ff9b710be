"""Inverse dynamics as a policy: the action between two latents, amortised over goals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.heads.core import Trajectories
from agents.heads.policy import GoalPolicy
from agents.objectives.core import Terms
from envs.arguments import require_whole


class GoalInverseDynamics(GoalPolicy):
    """−ln π(a_t | z_t, z_{t+k}), k uniform in 1 … K: K = 1 is inverse dynamics, K → ∞ is `GCBC`.

    Within a few steps, the action that was taken is the one that leads there, whatever the behaviour was after. Goals
    further away than K steps are not like those that it has seen.

    Args:
        latent_dim, action_dim, action_sizes, hidden_dims, goal_dim: see `GoalPolicy`.
        horizon: K, in steps.

    Raises:
        ValueError: a horizon below 1, or as `GoalPolicy` says.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        action_sizes: Sequence[int] = (),
        hidden_dims: Sequence[int] = (256, 256),
        horizon: int = 5,
        goal_dim: int | None = None,
    ) -> None:
        super().__init__(latent_dim, action_dim, action_sizes, hidden_dims, goal_dim)
        require_whole(horizon=horizon)
        self.horizon = horizon

    def loss(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Terms:
        goals = data.goals[data.later(frames, generator, horizon=self.horizon)]
        return {"inverse_dynamics": self.nll(data.latents[frames], goals, data.actions[frames]).mean()}
