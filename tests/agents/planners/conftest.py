"""Problems whose best plans are known, and what watches a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from agents.planners.core import Cost, Plan, Planner, shifted


@dataclass(frozen=True)
class Problem:
    """Quadratic bowls around targets, one of each environment; [B, H, A] each."""

    start: Tensor
    targets: Tensor
    low: Tensor
    high: Tensor
    fill: Tensor  # [A], what a plan is continued with

    def cost(self, actions: Tensor) -> Tensor:
        half = (self.high - self.low) / 2
        return ((actions - self.targets[:, None]) / half).square().sum(dim=(-1, -2))

    def of(self, environments: list[int]) -> Problem:
        return Problem(self.start[environments], self.targets[environments], self.low, self.high, self.fill)

    def later(self) -> Problem:
        """One step on, where targets have moved along and the last one is new."""
        return Problem(self.start, shifted(self.targets, 1, self.targets[0, 0]), self.low, self.high, self.fill)

    def solve(self, planner: Planner, cost: Cost | None = None, seed: int = 0, **given: Tensor) -> Plan:
        generator = torch.Generator().manual_seed(seed)
        arguments = {"start": self.start, "low": self.low, "high": self.high} | given
        return planner.plan(cost or self.cost, generator=generator, **arguments)


class Watch:
    """A cost that remembers all that it was asked about."""

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.calls: list[Tensor] = []
        self.answers: list[Tensor] = []

    def __call__(self, actions: Tensor) -> Tensor:
        costs = self.cost(actions)
        self.calls.append(actions.detach().clone())
        self.answers.append(costs.detach().clone())
        return costs

    @property
    def candidates(self) -> Tensor:
        """All in one: [B, ΣN, H, A]."""
        return torch.cat(self.calls, dim=1)

    @property
    def costs(self) -> Tensor:
        """All in one: [B, ΣN]."""
        return torch.cat(self.answers, dim=1)


@pytest.fixture
def watch() -> type[Watch]:
    return Watch


@pytest.fixture
def bowls() -> Callable[..., Problem]:
    """``bowls()``: five environments, four steps of two numbers that have different bounds."""

    def make(dtype: torch.dtype = torch.double, beyond: float = 1.0, horizon: int = 4) -> Problem:
        low, high = torch.tensor([-2.0, 5.0], dtype=dtype), torch.tensor([2.0, 6.0], dtype=dtype)
        unit = beyond * (2 * torch.rand(5, horizon, 2, dtype=torch.double) - 1).to(dtype)
        middle, half = (low + high) / 2, (high - low) / 2
        return Problem(middle.expand(5, horizon, 2), middle + half * unit, low, high, middle)

    return make


@pytest.fixture
def choices() -> Callable[..., Problem]:
    """``choices()``: five environments, six steps of one choice among four; each step has a right one."""

    def make(dtype: torch.dtype = torch.double, horizon: int = 6) -> Problem:
        targets = torch.nn.functional.one_hot(torch.randint(4, (5, horizon)), 4).to(dtype)
        low, high = torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)
        uniform = torch.full((4,), 0.25, dtype=dtype)
        return Problem(uniform.expand(5, horizon, 4), targets, low, high, uniform)

    return make
