"""Actions drawn uniformly."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour
from envs import random
from envs.core import Factors, State
from envs.random import Key


@dataclass(frozen=True)
class Uniform(Behaviour):
    """Independent actions, uniform over the action space (a bounded Box, or Discrete)."""

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        if isinstance(action_space, gymnasium.spaces.Discrete):
            low, high = np.array(action_space.start), np.array(action_space.start + action_space.n)
        elif isinstance(action_space, gymnasium.spaces.Box) and action_space.is_bounded():
            low, high = action_space.low, action_space.high
        else:
            raise ValueError(f"uniform needs a bounded Box or a Discrete action space, got {action_space}")
        tile = (len(key), *[1] * low.ndim)
        return {"low": np.tile(low, tile), "high": np.tile(high, tile), "key": key}

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        low, high, key = state["low"], state["high"], random.fold_in(state["key"], 0)
        action = low + (high - low) * random.uniform(key, low.shape[1:])
        return np.floor(action).astype(low.dtype) if low.dtype.kind == "i" else action.astype(low.dtype), {
            **state,
            "key": key,
        }
