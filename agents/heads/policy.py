"""Actions for goals: what goal-conditioned policies on latents share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.heads.core import GoalHead, Trajectories, mlp


class GoalPolicy(GoalHead):
    """a = network([z, z_goal]): the mean of a normal distribution, or logits of choices.

    Args:
        latent_dim, action_dim: sizes D and A.
        action_sizes: of choices, whose one-hot vectors make up an action; none if actions are numbers.
        hidden_dims: widths of the network's hidden layers.
        goal_dim: size G of a goal, see `WorldModel.achieved_goal`; None: that of a latent.

    Raises:
        ValueError: a size that is not positive, or sizes of choices that do not add up to A.
    """

    action_mean: Tensor
    action_std: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        action_sizes: Sequence[int] = (),
        hidden_dims: Sequence[int] = (256, 256),
        goal_dim: int | None = None,
    ) -> None:
        super().__init__(latent_dim, goal_dim)
        if action_sizes and sum(action_sizes) != action_dim:
            raise ValueError(f"choices among {list(action_sizes)!r} are not actions of {action_dim!r} numbers")
        self.action_sizes = tuple(action_sizes)
        self.policy = mlp(latent_dim + self.goal_dim, hidden_dims, action_dim)
        for name, start in (("action_mean", 0.0), ("action_std", 1.0), ("low", 0.0), ("high", 0.0)):
            self.register_buffer(name, torch.full((action_dim,), start))

    def prepare(self, data: Trajectories) -> None:
        super().prepare(data)
        actions = data.actions[data.steps()]
        if not self.action_sizes:
            self.action_mean.copy_(actions.mean(dim=0))
            self.action_std.copy_(actions.std(dim=0).clamp_min(1e-6))
        self.low.copy_(actions.amin(dim=0))
        self.high.copy_(actions.amax(dim=0))

    def act(self, latents: Tensor, goals: Tensor) -> Tensor:
        """Actions, in the environment's units and within what the data have: [B, D], [B, G] -> [B, A].

        Raises:
            ValueError: latents and goals of other shapes.
        """
        wanted = tuple((*latents.shape[:1], size) for size in (self.latent_dim, self.goal_dim))
        if (latents.shape, goals.shape) != wanted:
            raise ValueError(
                f"latents must be [B, {self.latent_dim}], goals [B, {self.goal_dim}], got {tuple(latents.shape)} and "
                f"{tuple(goals.shape)}"
            )
        with torch.no_grad():
            said = self._said(latents, goals)
        if not self.action_sizes:
            return (said * self.action_std + self.action_mean).clamp(self.low, self.high)
        parts = said.split(list(self.action_sizes), dim=-1)
        return torch.cat([F.one_hot(x.argmax(dim=-1), x.shape[-1]) for x in parts], dim=-1).float()

    def nll(self, latents: Tensor, goals: Tensor, actions: Tensor) -> Tensor:
        """−ln π(a | z, z_goal) up to a constant, with std 1 of standardised numbers: [B, D], [B, G], [B, A] -> [B]."""
        said = self._said(latents, goals)
        if not self.action_sizes:
            return 0.5 * (said - (actions - self.action_mean) / self.action_std).square().sum(dim=-1)
        pairs = zip(*(x.split(list(self.action_sizes), dim=-1) for x in (said, actions)), strict=True)
        return torch.stack([F.cross_entropy(logits, chosen, reduction="none") for logits, chosen in pairs]).sum(dim=0)

    def _said(self, latents: Tensor, goals: Tensor) -> Tensor:
        return self.policy(torch.cat([self.standardised(latents), self.standardised_goals(goals)], dim=-1))
