"""Random actions that last: exploration for control tasks, where independent ones average out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour, low_and_span
from envs import random
from envs.core import Factors, State
from envs.random import Key

_erf = np.frompyfunc(math.erf, 1, 1)  # element by element: the same number in a batch of any size


@dataclass(frozen=True)
class Correlated(Behaviour):
    """Actions that are uniform over the action space, one by one, and change slowly.

    In a bounded Box, each component is a Gaussian process of the Ornstein–Uhlenbeck kind, x ← ρ·x + √(1 − ρ²)·N(0, 1)
    with x ~ N(0, 1) to begin with, squashed to the bounds by its distribution function: low + (high − low)·Φ(x). In a
    Discrete space an action is kept with probability ρ and else drawn anew. ρ = exp(−1/time): correlations fall by the
    factor e in ``time`` steps.

    Attributes:
        time: correlation time in steps.
    """

    time: float = 8.0

    def __post_init__(self) -> None:
        if not 0 < self.time < np.inf:
            raise ValueError(f"time must be positive and finite, got {self.time!r}")

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        low, span = low_and_span("correlated", action_space)
        tile, discrete = (len(key), *[1] * low.ndim), isinstance(action_space, gymnasium.spaces.Discrete)
        first = random.fold_in(key, 0)
        return {
            "low": np.tile(low, tile),
            "span": np.tile(span, tile),
            "x": random.uniform(first) if discrete else _normal(first, low.shape),  # what the next action comes from
            "discrete": np.full(len(key), discrete),
            "key": random.fold_in(key, 1),
        }

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        low, x, key = state["low"], state["x"], random.fold_in(state["key"], 0)
        kept = math.exp(-1 / self.time)
        if state["discrete"].any():  # in all worlds, then
            unit = x
            x = np.where(random.uniform(random.fold_in(key, 1)) < kept, x, random.uniform(random.fold_in(key, 2)))
        else:
            unit = 0.5 * (1 + np.asarray(_erf(x / math.sqrt(2)), np.float64))
            x = kept * x + math.sqrt(1 - kept**2) * _normal(random.fold_in(key, 1), low.shape[1:])
        action = low + state["span"] * unit
        if low.dtype.kind in "iu":
            action = np.minimum(np.floor(action), low + state["span"] - 1)
        return action.astype(low.dtype), {**state, "x": x, "key": key}


def _normal(key: Key, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers: [n, *shape], by Box and Muller's method."""
    unit = random.uniform(key, (2, *shape))
    return np.sqrt(-2 * np.log1p(-unit[:, 0])) * np.cos(2 * np.pi * unit[:, 1])
