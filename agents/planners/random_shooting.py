"""Random shooting: the best of many random plans."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.planners.core import Judge, Planner
from envs.arguments import at_least


@dataclass(frozen=True)
class RandomShooting(Planner):
    """The best of N plans: the start, and N − 1 that are uniform within the bounds.

    Attributes:
        candidates: N, by default as many as CEM judges in all.
    """

    candidates: int = 3000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, candidates=self.candidates)

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        batch, *shape = start.shape
        unit = torch.rand(self.candidates - 1, *shape, generator=generator, device=start.device, dtype=start.dtype)
        random = torch.lerp(low, high, unit).clamp(low, high)  # [N−1, H, A]
        judge(torch.cat([start[:, None], random.expand(batch, *random.shape)], dim=1))
        return kept[:, :0]
