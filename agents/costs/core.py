"""What terms of a cost see, and how they become the one cost that a planner is given."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from agents.costs.imagination import imagine
from agents.planners.core import Cost
from agents.world_models.core import WorldModel

Readout = Callable[[Tensor], Tensor]  # [..., D] -> [..., F], such as `Probe.predict`
Steps = Literal["last", "mean"]

ROWS = 300  # candidates judged at a time on a CPU, without gradients: what is read and written stays in the cache


@dataclass(frozen=True)
class Aims:
    """What a plan is for, and what was fitted to judge it. Each term says in its ``needs`` what it takes of this.

    Attributes:
        goal: [B, G], what `WorldModel.achieved_goal` makes of the latent of what should be seen.
        factors: {name: [B, F]}, values that factors should have.
        readouts: {name: [..., D] -> [..., F]}, probes of factors, in their units.
        heads: {name: module}, see `agents.heads`.
    """

    goal: Tensor | None = None
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    readouts: Mapping[str, Readout] = field(default_factory=dict)
    heads: Mapping[str, nn.Module] = field(default_factory=dict)

    def missing(self, needs: set[str]) -> list[str]:
        """Those of the needs, such as ``goal`` or ``factors.location``, that are not here."""
        parts = {"factors": self.factors, "readouts": self.readouts, "heads": self.heads}
        there = {f"{part}.{name}" for part, named in parts.items() for name in named}
        return sorted(needs - there - ({"goal"} if self.goal is not None else set()))


@dataclass(frozen=True)
class Imagined:
    """What would happen under N candidates in each of B environments.

    Attributes:
        latents: [B, N, H, D], after each action.
        actions: [B, N, H, A], in the environment's units.
        start: [B, D], the latents of now.
        aims: what the plans are for.
        achieved: [B, N, H, G], what of the latents is compared with goals (`WorldModel.achieved_goal`).
    """

    latents: Tensor
    actions: Tensor
    start: Tensor
    aims: Aims
    achieved: Tensor


class Term(nn.Module, ABC):
    """One thing that candidates are judged by.

    Attributes:
        needs: what it takes of `Aims`: ``goal``, ``factors.<name>``, ``readouts.<name>``, ``heads.<name>``.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, imagined: Imagined) -> Tensor:
        """[B, N], the lower the better."""


class Costs(nn.Module):
    """Σ weight·term.

    Args:
        terms: by name.
        weights: of the terms, one each. A negative one rewards.

    Raises:
        ValueError: what is no term, a term without a weight, a weight without a term, one that is no finite number, or
            no term at all.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if not terms or terms.keys() != weights.keys():
            raise ValueError(
                f"every term needs one weight: the cost has the terms {sorted(terms)}, the configuration weights "
                f"{sorted(weights)}"
            )
        for name, term in terms.items():
            if not isinstance(term, Term):
                raise ValueError(f"cost.terms.{name} must be a term of agents.costs, got {term!r}")
            weight = weights[name]
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
                raise ValueError(f"cost.weights.{name} must be a finite number, got {weight!r}")
        self.terms, self.weights = nn.ModuleDict(dict(terms)), dict(weights)

    @property
    def needs(self) -> set[str]:
        """What the terms take of `Aims`, all together."""
        return set().union(*(term.needs for term in self.terms.values() if isinstance(term, Term)))

    def forward(self, imagined: Imagined) -> Tensor:
        """[B, N], the lower the better.

        Raises:
            ValueError: a term of another shape.
        """
        shape, total = imagined.latents.shape[:2], imagined.latents.new_zeros(())
        for name, term in self.terms.items():
            cost = term(imagined)
            if cost.shape != shape:
                raise ValueError(f"the term {name!r} should be {tuple(shape)}, a cost a candidate: {tuple(cost.shape)}")
            total = total + self.weights[name] * cost
        return total


def plan_cost(costs: Costs, model: WorldModel, state: Tensor, aims: Aims | None = None, bf16: bool = False) -> Cost:
    """The cost of candidates from where the environments are now; what a planner is given.

    Args:
        costs: what candidates are judged by.
        model: imagines what they lead to; in evaluation mode. `agents.costs.int8` makes a fast one.
        state: [B, D'], see `WorldModel.update`.
        aims: what the plans are for.
        bf16: imagine in bfloat16 where autocast deems it safe.

    Returns:
        Actions [B, N, H, A] -> costs [B, N]. Gradients flow to actions that require them.

    Raises:
        ValueError: something that a term needs is missing, of the wrong shape or not finite, or made for another model;
            a model in training mode. Later: actions that do not fit.
    """
    aims = aims or Aims()
    _check(costs, model, state, aims)
    start = state[:, : model.latent_dim].float()

    def cost(actions: Tensor) -> Tensor:
        if actions.ndim != 4 or len(actions) != len(start) or not actions.shape[2]:
            raise ValueError(
                f"candidates must be [B, N, H, A], of B = {len(start)} environments and over H ≥ 1 steps, got "
                f"{tuple(actions.shape)}"
            )
        grad = torch.is_grad_enabled() and actions.requires_grad
        rows = ROWS if actions.device.type == "cpu" and not grad else actions.shape[:2].numel()
        with torch.set_grad_enabled(grad):
            return torch.cat([judged(part) for part in actions.split(max(1, rows // len(start)), dim=1)], dim=1)

    def judged(actions: Tensor) -> Tensor:
        latents = imagine(model, state, actions, bf16)
        return costs(Imagined(latents, actions, start, aims, model.achieved_goal(latents)))

    return cost


def counted(latents: Tensor, steps: Steps) -> Tensor:
    """The steps that count: [B, N, H, D] -> [B, N, 1, D] for ``last``, all of them for ``mean``."""
    return latents[:, :, -1:] if steps == "last" else latents


def checked_steps(steps: Steps) -> Steps:
    """Which steps of a plan count.

    Raises:
        ValueError: neither ``last`` nor ``mean``.
    """
    if steps not in get_args(Steps):
        raise ValueError(f"steps must be 'last' or 'mean', got {steps!r}; for both, take two terms")
    return steps


def _check(costs: Costs, model: WorldModel, state: Tensor, aims: Aims) -> None:
    size = model.latent_dim
    if state.ndim != 2 or state.shape[1] < size or not state.isfinite().all():
        raise ValueError(
            f"the state must be [B, D'], the model's latent of {size} numbers first, and finite, got "
            f"{tuple(state.shape)}{_where(state)}"
        )
    if missing := aims.missing(costs.needs):
        raise ValueError(
            f"the cost needs {', '.join(missing)}, and there is no such thing: give it, or leave out the term that "
            f"needs it"
        )
    given = {name: x for name, x in aims.factors.items() if f"factors.{name}" in costs.needs}
    for name, x in given.items():
        if x.ndim != 2 or len(x) != len(state) or not x.isfinite().all():
            raise ValueError(
                f"the aim for {name!r} must be [{len(state)}, F], one an environment, and finite, got "
                f"{tuple(x.shape)}{_where(x)}"
            )
    wide = model.achieved_goal(state[:, :size]).shape[1]
    goal = aims.goal if "goal" in costs.needs else None
    if goal is not None and (goal.shape != (len(state), wide) or not goal.isfinite().all()):
        raise ValueError(
            f"the goal must be [{len(state)}, {wide}], what the model's achieved_goal() makes of a latent, one an "
            f"environment, and finite, got {tuple(goal.shape)}{_where(goal)}"
        )
    for name, head in aims.heads.items():
        for what, has in {"latent": size, "goal": wide}.items():
            takes = getattr(head, f"{what}_dim", has)
            if takes != has:
                raise ValueError(f"the head {name!r} takes {what}s of {takes} numbers, the model's have {has}")


def _where(x: Tensor) -> str:
    """What is wrong with numbers."""
    return "" if x.isfinite().all() else f" with {int((~x.isfinite()).sum())} numbers that are not finite"
