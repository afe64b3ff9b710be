"""The cross-entropy method (Rubinstein & Kroese, 2004): sample plans, fit a Gaussian to the best, sample again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.planners.core import Judge, Planner, chosen, mean_and_std, normal
from envs.arguments import at_least, within


@dataclass(frozen=True)
class CEM(Planner):
    """From (μ, σ), each iteration draws N plans clip(μ + σ·ε), ε ~ N(0, I), and fits μ and σ to the K best.

    The first of the N is μ itself, and the last μ is judged too. Candidates without a finite cost are never among the
    best; where there are none but such, μ and σ stay. The defaults are the protocol of LeWM (Maes et al., 2026), with
    the σ of PETS (Chua et al., 2018), a quarter of the way from bound to bound.

    Attributes:
        candidates: N.
        elites: K.
        iterations: number of them.
        std: σ to begin with, in units of half the way from bound to bound.
        min_std: least σ, in the same unit: the search never quite stops.
        momentum: α, the share of the old μ and σ in the new ones.
    """

    candidates: int = 300
    elites: int = 30
    iterations: int = 10
    std: float = 0.5
    min_std: float = 0.05
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, elites=self.elites, iterations=self.iterations)
        at_least(self.elites, candidates=self.candidates)
        at_least(0, std=self.std, min_std=self.min_std)
        within(0, 1, momentum=self.momentum)

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        half = (high - low) / 2  # [H, A]
        mean, std = start, (self.std * half).expand_as(start)
        for _ in range(self.iterations):
            noise = normal(self.candidates, half, generator)
            noise[0] = 0
            candidates = torch.addcmul(mean[:, None], std[:, None], noise).clamp_(low, high)  # [B, N, H, A]
            elites, costs = best(candidates, judge(candidates), self.elites)
            mean, std = refitted(elites, costs, mean, std, self.momentum, self.min_std * half)
        judge(mean.clamp(low, high)[:, None])
        return elites


def best(candidates: Tensor, costs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Those that cost least, and what they cost: [B, N, H, A], [B, N] -> [B, K, H, A], [B, K], the best first."""
    lowest = costs.topk(count, dim=1, largest=False)
    return chosen(candidates, lowest.indices), lowest.values


def refitted(
    elites: Tensor, costs: Tensor, mean: Tensor, std: Tensor, momentum: float, min_std: Tensor
) -> tuple[Tensor, Tensor]:
    """The next μ and σ [B, H, A], of each environment: those of the elites [B, K, H, A], mixed with the old ones."""
    valid = costs.isfinite()  # [B, K]
    any_valid = valid.any(dim=1)[:, None, None]
    new_mean, new_std = mean_and_std(elites, valid)
    new_mean = torch.where(any_valid, torch.lerp(new_mean, mean, momentum), mean)
    new_std = torch.where(any_valid, torch.lerp(new_std, std, momentum), std)
    return new_mean, torch.maximum(new_std, min_std)
