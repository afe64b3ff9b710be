"""What a planner is, and what all planners share: candidates are judged in parts, and the best one is remembered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.arguments import at_least

Cost = Callable[[Tensor], Tensor]  # actions [B, N, H, A] -> costs [B, N], the lower the better; NaN loses


@dataclass(frozen=True)
class Plan:
    """What a search has found for each of B environments.

    Attributes:
        actions: [B, H, A], the best candidate that was judged.
        costs: [B], what it costs; inf where no candidate had a cost.
        kept: [B, K, H, A], candidates that the next search may go on from, the best first; K = 0 where none are kept.
    """

    actions: Tensor
    costs: Tensor
    kept: Tensor


@dataclass(frozen=True)
class Planner(ABC):
    """A search for the actions that cost least, over all environments at once.

    What it finds for an environment depends on that one's costs and start and on the generator, not on which other
    environments are in the batch: noise is drawn once and shared by all of them.

    Attributes:
        at_once: how many candidates, of all environments together, one call of the cost judges at most (though one of
            each at least). It bounds memory and changes no plan.
        choices: whether it searches choices among n, one-hot, instead of numbers within bounds.
        gradients: whether it needs a cost that has a gradient.
    """

    choices: ClassVar[bool] = False
    gradients: ClassVar[bool] = False

    at_once: int = field(default=8192, kw_only=True)

    def __post_init__(self) -> None:
        at_least(1, at_once=self.at_once)

    @torch.no_grad()
    def plan(
        self,
        cost: Cost,
        start: Tensor,
        low: Tensor,
        high: Tensor,
        generator: torch.Generator,
        kept: Tensor | None = None,
    ) -> Plan:
        """The best plan that was found; never worse than ``start``.

        Args:
            cost: judges candidates, actions [B, N, H, A] within the bounds -> [B, N].
            start: where the search begins, [B, H, A]: the middle of the bounds, or the last plan `shifted`. It tells
                B, H, A, device and dtype.
            low, high: bounds of an action, [A].
            generator: of all that is random, on start's device.
            kept: what the last plan kept, `shifted` like its actions: [B, K, H, A].

        Raises:
            ValueError: shapes that do not fit, a horizon of 0, bounds that are infinite or crossed, a start that is not
                finite, a generator on another device, or a cost of the wrong shape.
        """
        kept = start[:, None][:, :0] if kept is None else kept
        low, high = _checked(start, low, high, generator, kept)
        judge = Judge(cost, self.at_once)
        kept = self.search(judge, start.clamp(low, high), low, high, generator, kept.clamp(low, high))
        return Plan(judge.actions, judge.costs, kept)

    @abstractmethod
    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        """Has candidates judged, ``start`` as the very first one, and says what to keep: [B, K, H, A].

        All arguments are valid, ``start`` and ``kept`` within the bounds, which are [H, A] here. Gradients are off.
        """


class Judge:
    """Judges candidates in parts, and remembers the best of each environment.

    Attributes:
        actions: [B, H, A], the best so far; the very first candidate as long as none had a cost.
        costs: [B], what these cost.
    """

    actions: Tensor
    costs: Tensor

    def __init__(self, cost: Cost, at_once: int) -> None:
        self._cost, self._at_once = cost, at_once

    def __call__(self, candidates: Tensor) -> Tensor:
        """Costs of candidates, inf instead of NaN: [B, N, H, A] -> [B, N]."""
        return self._remember(candidates, torch.cat([self._ask(part) for part in self._parts(candidates)], dim=1))

    def slopes(self, candidates: Tensor) -> Tensor:
        """How costs change with actions, 0 instead of NaN and inf: [B, N, H, A] -> [B, N, H, A].

        Raises:
            ValueError: the cost has no gradient.
        """
        costs, slopes = [], []
        for part in self._parts(candidates):
            with torch.inference_mode(False), torch.enable_grad():
                actions = part.clone().requires_grad_()
                cost = self._ask(actions)
                if not cost.requires_grad:
                    raise ValueError("this planner needs a cost that has a gradient; choose planner=cem for this one")
                slopes.append(torch.autograd.grad(cost.sum(), actions)[0].nan_to_num(0, 0, 0))
            costs.append(cost.detach())
        self._remember(candidates, torch.cat(costs, dim=1))
        return torch.cat(slopes, dim=1)

    def _parts(self, candidates: Tensor) -> Iterator[Tensor]:
        yield from candidates.split(max(1, self._at_once // len(candidates)), dim=1)

    def _ask(self, actions: Tensor) -> Tensor:
        costs = self._cost(actions)
        if costs.shape != actions.shape[:2]:
            raise ValueError(
                f"a cost gives one number for each candidate, {tuple(actions.shape[:2])} for actions "
                f"{tuple(actions.shape)}, got {tuple(costs.shape)}"
            )
        return costs.to(actions.dtype)

    def _remember(self, candidates: Tensor, costs: Tensor) -> Tensor:
        costs = costs.nan_to_num(nan=torch.inf, posinf=torch.inf)
        if not hasattr(self, "actions"):
            self.actions, self.costs = candidates[:, 0].clone(), torch.full_like(costs[:, 0], torch.inf)
        lowest, index = costs.min(dim=1)  # [B]
        better = lowest < self.costs
        self.actions = torch.where(better[:, None, None], chosen(candidates, index[:, None])[:, 0], self.actions)
        self.costs = torch.where(better, lowest, self.costs)
        return costs


def shifted(actions: Tensor, steps: int, fill: Tensor) -> Tensor:
    """Plans [..., H, A] after their first ``steps`` actions were executed, filled up with ``fill`` [A] at the end.

    Raises:
        ValueError: a negative number of steps.
    """
    at_least(0, steps=steps)
    rest = actions[..., steps:, :]
    *leading, left, size = rest.shape
    return torch.cat([rest, fill.to(rest).expand(*leading, actions.shape[-2] - left, size)], dim=-2)


def chosen(candidates: Tensor, index: Tensor) -> Tensor:
    """Candidates of each environment: [B, N, H, A], indices [B, K] -> [B, K, H, A]."""
    return candidates[torch.arange(len(index), device=index.device)[:, None], index]


def mean_and_std(samples: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Over those samples of each environment that are valid: [B, N, ...], [B, N] -> [B, ...] twice.

    The variance is divided by their number. Where none is valid both are 0.
    """
    weight = valid.to(samples.dtype)
    weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1)
    weight = weight.reshape(*valid.shape, *[1] * (samples.ndim - 2))  # [B, N, ...]
    mean = (weight * samples).sum(dim=1)
    return mean, (weight * (samples - mean[:, None]).square()).sum(dim=1).sqrt()


def normal(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Noise that all environments share: [count, H, A] from N(0, 1), for ``like`` [H, A]."""
    return torch.randn(count, *like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _checked(
    start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """The bounds [H, A], of start's dtype: repeated for each step, they are much faster to clamp with."""
    if start.ndim != 3 or 0 in start.shape or not start.is_floating_point():
        raise ValueError(
            f"a search starts from actions of all environments, floats [B, H, A] with a horizon H of 1 or more, got "
            f"{start.dtype} {tuple(start.shape)}"
        )
    horizon, size = start.shape[1:]
    if kept.ndim != 4 or (kept.shape[0], *kept.shape[2:]) != start.shape:
        raise ValueError(f"kept must be [B, K, H, A] with start's {tuple(start.shape)}, got {tuple(kept.shape)}")
    if low.shape != (size,) or high.shape != (size,):
        raise ValueError(f"bounds must be [A], here [{size}], got {list(low.shape)} and {list(high.shape)}")
    if not (low.isfinite().all() and high.isfinite().all() and (low <= high).all()):
        raise ValueError(f"bounds must be finite, and low not above high, got {low.tolist()} and {high.tolist()}")
    if not (start.isfinite().all() and kept.isfinite().all()):
        raise ValueError("a search starts from finite actions, got NaN or inf in start or kept")
    if generator.device.type != start.device.type:
        raise ValueError(f"the generator must be on the device of start, {start.device}, got {generator.device}")
    return low.to(start).repeat(horizon, 1), high.to(start).repeat(horizon, 1)
