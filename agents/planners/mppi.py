"""MPPI: model predictive path integral control (Williams et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.planners.core import Judge, Planner, mean_and_std, normal
from envs.arguments import at_least


@dataclass(frozen=True)
class MPPI(Planner):
    """From μ, each iteration draws N plans v_n = clip(μ + σ·ε_n), ε ~ N(0, I), and averages them: μ ← Σ w_n·v_n with

        w = softmax(−S / λ), S = the costs, or (normalised) their standard scores within the environment's N.

    The first of the N is μ itself, and the last μ is judged too. Candidates without a finite cost weigh nothing; where
    there are none but such, μ stays. Left out of the paper's algorithm: the cost of steering away from the old plan,
    λ·Σ μᵀσ⁻²ε, since what control costs is up to the cost.

    Attributes:
        candidates: N.
        iterations: number of them.
        std: σ, in units of half the way from bound to bound; it stays, so it is less than what CEM begins with.
        temperature: λ; the lower, the more the best count. In the unit of the cost, unless costs are normalised.
        normalise: whether they are: one λ then does for costs of any scale.
    """

    candidates: int = 300
    iterations: int = 10
    std: float = 0.25
    temperature: float = 0.2
    normalise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, candidates=self.candidates, iterations=self.iterations)
        at_least(0, std=self.std)
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature!r}")

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        std, mean = self.std * (high - low) / 2, start  # [H, A], [B, H, A]
        for _ in range(self.iterations):
            noise = normal(self.candidates, std, generator)
            noise[0] = 0
            candidates = (mean[:, None] + std * noise).clamp_(low, high)  # [B, N, H, A]
            weights = self.weights(judge(candidates))[:, :, None, None]
            mean = mean + (weights * (candidates - mean[:, None])).sum(dim=1)
        judge(mean.clamp(low, high)[:, None])
        return kept[:, :0]

    def weights(self, costs: Tensor) -> Tensor:
        """w, of sum 1, or all 0 where no cost is finite: [B, N] -> [B, N]."""
        valid = costs.isfinite()
        scale = torch.ones_like(costs[:, :1])
        if self.normalise:
            scale = mean_and_std(costs.where(valid, 0), valid)[1][:, None]
            scale = scale.where(scale > 0, 1)
        lowest = costs.min(dim=1, keepdim=True).values
        return torch.softmax((lowest - costs) / (scale * self.temperature), dim=1).nan_to_num(0)
