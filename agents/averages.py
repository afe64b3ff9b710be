"""Moving averages of networks."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, tau: float) -> None:
    """average ← average + τ·(network − average), in place; of parameters, not of buffers."""
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, tau)
