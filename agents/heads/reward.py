"""What a step is rewarded with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.heads.core import Head, Trajectories, mlp
from agents.objectives.core import Terms
from agents.probes.core import moments


class Reward(Head):
    """r(z_t, a_t, z_{t+1}) = network([z_t, a_t, z_{t+1}]), fitted by mean squared error on standardised rewards.

    Costs judge latents that the model imagines. Fitted on such, it takes no harm from what the model always gets wrong.

    Args:
        latent_dim, action_dim: sizes D and A.
        hidden_dims: widths of the network's hidden layers.
        imagined: see `Head`.

    Raises:
        ValueError: a size that is not positive; in `prepare`, a dataset without rewards or with a single one.
    """

    action_mean: Tensor
    action_std: Tensor
    reward_mean: Tensor
    reward_std: Tensor

    def __init__(
        self, latent_dim: int, action_dim: int, hidden_dims: Sequence[int] = (256, 256), imagined: bool = True
    ) -> None:
        super().__init__(latent_dim)
        self.imagined = imagined
        self.network = mlp(2 * latent_dim + action_dim, hidden_dims, 1)
        self.register_buffer("action_mean", torch.zeros(action_dim))
        self.register_buffer("action_std", torch.ones(action_dim))
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_std", torch.ones(()))

    def prepare(self, data: Trajectories) -> None:
        super().prepare(data)
        if data.rewards is None:
            raise ValueError("a reward head is fitted on rewards, and the dataset has none")
        steps = data.steps()
        actions, rewards = data.actions[steps], data.rewards[steps]
        if not (rewards != rewards[0]).any():
            raise ValueError(
                f"all {len(rewards)} rewards of the dataset are {float(rewards[0])}: there is nothing to tell apart; "
                f"plan for a goal instead"
            )
        self.action_mean.copy_(actions.mean(dim=0))
        self.action_std.copy_(moments(actions)[1])  # 1 for what never varies: another value of it is no giant
        self.reward_mean.copy_(rewards.mean())
        self.reward_std.copy_(rewards.std())

    def forward(self, before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Rewards, in the environment's units: [..., D], [..., A], [..., D] -> [...]."""
        return self._standard(before, actions, after) * self.reward_std + self.reward_mean

    def loss(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Terms:
        assert data.rewards is not None
        guess = self._standard(data.latents[frames], data.actions[frames], data.latents[frames + 1])
        return {"reward": (guess - (data.rewards[frames] - self.reward_mean) / self.reward_std).square().mean()}

    def _standard(self, before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        actions = (actions - self.action_mean) / self.action_std
        return self.network(torch.cat([self.standardised(before), actions, self.standardised(after)], dim=-1))[..., 0]
