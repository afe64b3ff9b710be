"""The behaviour of the 2022 paper."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour, longest_step
from envs import random
from envs.core import Factors, State
from envs.random import Key


@dataclass(frozen=True)
class RandomWalk(Behaviour):
    """Steps in the plane that keep a loose heading (Sobal et al., 2022).

    Heading ~ von Mises(μ, κ) at every step, with μ ~ U[0, 2π) drawn once an episode; length ~ U[0, max_step], where
    max_step is the bound of the action space: the nearest to 0, if its bounds differ.

    Attributes:
        kappa: κ; 0 forgets the heading.
    """

    kappa: float = 0.2

    def __post_init__(self) -> None:
        if not (np.isfinite(self.kappa) and self.kappa >= 0):
            raise ValueError(f"kappa must be finite and at least 0, got {self.kappa!r}")

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        max_step = longest_step("random_walk", action_space)
        return {
            "heading": random.uniform(random.fold_in(key, 0), high=2 * np.pi),
            "max_step": np.full(len(key), max_step),
            "key": random.fold_in(key, 1),
        }

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        key = random.fold_in(state["key"], 0)
        angle = random.von_mises(random.fold_in(key, 1), state["heading"], self.kappa)
        length = random.uniform(random.fold_in(key, 2)) * state["max_step"]
        action = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1).astype(np.float32)
        return action, {**state, "key": key}
