"""Several behaviours in one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour, nested, part
from agents.policies.core import Goal
from envs import random
from envs.core import Factors, State, merge
from envs.random import Key


@dataclass(frozen=True)
class Mixture(Behaviour):
    """Every episode follows one of several behaviours from beginning to end, drawn by weight.

    Attributes:
        parts: the behaviours by name.
        weights: how often each is followed, by name; in any unit.
    """

    parts: Mapping[str, Behaviour]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, Behaviour) for part in self.parts.values()):
            raise ValueError(f"parts must be one behaviour or more, by name, got {self.parts!r}")
        if set(self.weights) != set(self.parts):
            raise ValueError(f"weights must name the parts {sorted(self.parts)}, got {dict(self.weights)!r}")
        weights = list(self.weights.values())
        if not (all(0 <= weight < np.inf for weight in weights) and sum(weights) > 0):
            raise ValueError(f"weights must be finite, at least 0, and not all 0, got {dict(self.weights)!r}")

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        shares = np.cumsum([self.weights[name] for name in self.parts])
        drawn = random.uniform(random.fold_in(key, 0), high=shares[-1])
        state: State = {"part": np.searchsorted(shares[:-1], drawn, side="right")}
        for i, (name, behaviour) in enumerate(self.parts.items()):
            state |= nested(name, behaviour.start(random.fold_in(key, 1 + i), action_space))
        return state

    def look(self, state: State, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        for name, behaviour in self.parts.items():  # in all worlds: states have the same variables everywhere
            state = {**state, **nested(name, behaviour.look(part(name, state), frames, factors, goal))}
        return state

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        actions: NDArray | None = None
        for i, (name, behaviour) in enumerate(self.parts.items()):
            mask = state["part"] == i
            if not mask.any():
                continue
            own = {variable: array[mask] for variable, array in part(name, state).items()}
            action, own = behaviour.act(own, frames[mask], {factor: array[mask] for factor, array in factors.items()})
            if actions is None:
                actions = np.empty((len(mask), *action.shape[1:]), action.dtype)
            actions[mask] = action
            state = merge(mask, nested(name, own), state)
        assert actions is not None
        return actions, state
