"""What a reward head, fitted on a dataset's rewards, makes of imagined steps."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.costs.core import Imagined, Term


class RewardCost(Term):
    """−Σ_k γᵏ·r(z_k, a_k, z_{k+1}), k = 0 … H−1, with the head ``reward`` (`agents.heads.reward`).

    Args:
        discount: γ of a step, in (0, 1].

    Raises:
        ValueError: a discount that is out of range.
    """

    needs = frozenset({"heads.reward"})

    def __init__(self, discount: float = 1.0) -> None:
        super().__init__()
        if not 0 < discount <= 1:
            raise ValueError(f"discount must be above 0 and at most 1, got {discount!r}")
        self.discount = discount

    def forward(self, imagined: Imagined) -> Tensor:
        after, actions = imagined.latents, imagined.actions
        start = imagined.start[:, None, None].expand(-1, after.shape[1], -1, -1)  # [B, N, 1, D]
        before = torch.cat([start, after[:, :, :-1]], dim=2)
        rewards = imagined.aims.heads["reward"](before, actions.float(), after)  # [B, N, H]
        powers = torch.arange(rewards.shape[-1], device=rewards.device)
        return -(rewards * self.discount**powers).sum(dim=-1)
