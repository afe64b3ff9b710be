"""The cross-entropy method over choices: sample plans, count what the best of them choose, sample again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.planners.cem import best
from agents.planners.core import Judge, Planner, mean_and_std
from envs.arguments import at_least, within


@dataclass(frozen=True)
class CategoricalCEM(Planner):
    """From the probabilities p of n choices, each iteration draws N plans and fits p to the K best.

    ``start`` holds probabilities [B, H, n], uniform to begin with, or a plan of choices; bounds are 0 and 1. Candidates
    [B, N, H, n] are one-hot. Each choice is drawn from (1 − ξ)·p + ξ/n. The first of the N is the most probable plan,
    and the last of these is judged too. Candidates without a finite cost are never among the best; where there are none
    but such, p stays.

    Attributes:
        candidates: N.
        elites: K.
        iterations: number of them.
        exploration: ξ, the share of choices that are uniform: the search never quite stops, and can leave a plan that
            it was started from.
        momentum: α, the share of the old p in the new one.
    """

    choices: ClassVar[bool] = True

    candidates: int = 300
    elites: int = 30
    iterations: int = 10
    exploration: float = 0.1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, elites=self.elites, iterations=self.iterations)
        at_least(self.elites, candidates=self.candidates)
        within(0, 1, exploration=self.exploration, momentum=self.momentum)

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        _require_probabilities(start, low, high)
        probabilities, (horizon, choices) = start, start.shape[1:]
        for _ in range(self.iterations):
            noise = torch.rand(self.candidates, horizon, generator=generator, device=start.device, dtype=start.dtype)
            candidates = drawn((1 - self.exploration) * probabilities + self.exploration / choices, noise)
            candidates[:, 0] = most_probable(probabilities)
            elites, costs = best(candidates, judge(candidates), self.elites)
            valid = costs.isfinite()  # [B, K]
            fitted = torch.lerp(mean_and_std(elites, valid)[0], probabilities, self.momentum)
            probabilities = torch.where(valid.any(dim=1)[:, None, None], fitted, probabilities)
        judge(most_probable(probabilities)[:, None])
        return kept[:, :0]


def drawn(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Choices by the inverse of the distribution function: [B, H, n], uniform [N, H] -> one-hot [B, N, H, n]."""
    upper = probabilities.cumsum(dim=-1)
    upper[..., -1] = 2  # whatever rounding has made of 1
    lower = upper.roll(1, dims=-1)
    lower[..., 0] = 0
    noise = noise[..., None].repeat(1, 1, probabilities.shape[-1])  # [N, H, n], much faster to compare with
    return ((lower[:, None] <= noise) & (noise < upper[:, None])).to(probabilities.dtype)


def most_probable(probabilities: Tensor) -> Tensor:
    """[..., n] -> one-hot [..., n]."""
    return F.one_hot(probabilities.argmax(dim=-1), probabilities.shape[-1]).to(probabilities.dtype)


def _require_probabilities(start: Tensor, low: Tensor, high: Tensor) -> None:
    if (low != 0).any() or (high != 1).any():
        raise ValueError(f"choices are one-hot, with bounds 0 and 1, got {low[0].tolist()} and {high[0].tolist()}")
    sums = start.sum(dim=-1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(
            f"start holds probabilities, of sum 1 at each step, got sums from {sums.min()} to {sums.max()}"
        )
