"""Actions drawn uniformly."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour, low_and_span
from envs import random
from envs.core import Factors, State
from envs.random import Key


@dataclass(frozen=True)
class Uniform(Behaviour):
    """Independent actions, uniform over the action space (a bounded Box, or Discrete)."""

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        low, span = low_and_span("uniform", action_space)
        tile = (len(key), *[1] * low.ndim)
        return {"low": np.tile(low, tile), "span": np.tile(span, tile), "key": key}

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        low, key = state["low"], random.fold_in(state["key"], 0)
        action = low + state["span"] * random.uniform(key, low.shape[1:])
        if low.dtype.kind in "iu":
            action = np.floor(action)
        return action.astype(low.dtype), {**state, "key": key}
