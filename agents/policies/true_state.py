"""Worlds seen as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.policies.core import Goal, Observer
from envs.core import Factors, State


@dataclass(frozen=True)
class TrueState(Observer):
    """Ground-truth factors in one row, and behind them those of the goal: what no one has who only sees frames.

    Observation: float32 [F] or [2·F].

    Attributes:
        names: of the factors.

    Raises:
        ValueError: not a list of names, or an empty one.
    """

    names: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not self.names:
            raise ValueError(f"names must be a list of factors, got {self.names!r}")

    def space(self, frame_shape: tuple[int, ...], factor_space: spaces.Dict, goal: bool) -> spaces.Box:
        if missing := sorted(set(self.names) - factor_space.keys()):
            raise ValueError(f"there are no factors {missing} among {sorted(factor_space)}")
        size = sum(spaces.flatdim(factor_space[name]) for name in self.names)
        return spaces.Box(-np.inf, np.inf, (size * (1 + goal),), np.float32)

    def begin(self, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        state = {"factors": self._row(factors)}
        return state if goal is None else {**state, "goal": self._row(goal.factors)}

    def advance(self, state: State, actions: NDArray, frames: NDArray, factors: Factors) -> State:
        return {**state, "factors": self._row(factors)}

    def observe(self, state: State) -> NDArray:
        return np.concatenate([state["factors"], state["goal"]], axis=1) if "goal" in state else state["factors"].copy()

    def _row(self, factors: Factors) -> NDArray[np.float32]:
        """{name: [n, ...]} -> [n, F]."""
        rows = [factors[name].reshape(len(factors[name]), -1) for name in self.names]
        return np.concatenate(rows, axis=1, dtype=np.float32)
