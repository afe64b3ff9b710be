"""Planning by gradient descent on actions, through a cost that is differentiable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.planners.core import Judge, Planner, normal
from envs.arguments import at_least


@dataclass(frozen=True)
class Gradient(Planner):
    """Adam (Kingma & Ba, 2015) on the actions of several plans at once, projected into the bounds after every step.

    Attributes:
        starts: number of plans: the start, and others that are drawn around it, clip(start + σ·ε), ε ~ N(0, I).
        iterations: number of steps.
        lr: of Adam, in units of half the way from bound to bound; about how far an action gets in one step.
        std: σ, in the same unit.
    """

    gradients: ClassVar[bool] = True

    starts: int = 10
    iterations: int = 30
    lr: float = 0.2
    std: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, starts=self.starts, iterations=self.iterations)
        at_least(0, lr=self.lr, std=self.std)

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        std = self.std * (high - low) / 2  # [H, A]
        noise = normal(self.starts, std, generator)
        noise[0] = 0
        descend(judge, (start[:, None] + std * noise).clamp_(low, high), low, high, self.lr, self.iterations)
        return kept[:, :0]


def descend(judge: Judge, plans: Tensor, low: Tensor, high: Tensor, lr: float, iterations: int) -> None:
    """Has the judge see plans [B, N, H, A], and what they become in so many steps of Adam.

    Its averages are short, β = (0.7, 0.9): with the usual ones, a few dozen steps end in oscillations.
    """
    half = ((high - low) / 2).clamp_min(torch.finfo(plans.dtype).tiny)
    unit = (plans - low) / half  # of one scale in all dimensions, as Adam is to see them
    unit.grad = torch.zeros_like(unit)
    adam = torch.optim.Adam([unit], lr=lr, betas=(0.7, 0.9))
    for _ in range(iterations):
        unit.grad.copy_(judge.slopes(plans) * half)
        adam.step()
        unit.clamp_(0, 2)
        plans = torch.addcmul(low, unit, half).clamp_(low, high)
    judge(plans)
