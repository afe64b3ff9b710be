"""The cross-entropy method refined by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.planners.cem import CEM
from agents.planners.core import Judge
from agents.planners.gradient import descend
from envs.arguments import at_least


@dataclass(frozen=True)
class CEMGradient(CEM):
    """CEM, which finds the way, and then steps of Adam on the best plans, which find where exactly it goes.

    (Bharadhwaj et al., 2020, take such steps on all candidates in every iteration, at several times the cost.)

    Attributes:
        refined: number of plans to refine: the best of all, and the best of the last elites.
        steps: number of steps of Adam.
        lr: of Adam, in units of half the way from bound to bound.
    """

    gradients: ClassVar[bool] = True

    iterations: int = 5
    refined: int = 5
    steps: int = 15
    lr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, refined=self.refined, steps=self.steps)
        at_least(self.refined, elites=self.elites)
        at_least(0, lr=self.lr)

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        elites = super().search(judge, start, low, high, generator, kept)
        best_of_all = judge.actions[:, None]  # no worse than elite 0
        plans = torch.cat([best_of_all, elites[:, 1 : self.refined]], dim=1)
        descend(judge, plans, low, high, self.lr, self.steps)
        return elites
