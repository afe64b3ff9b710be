"""What a behaviour is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import gymnasium
from numpy.typing import NDArray

from envs.core import Factors, State
from envs.random import Key


class Behaviour(ABC):
    """A policy over a batch of worlds, as pure functions.

    What it does in world ``i`` depends on that world's key and observations only (`envs.random`), so that an episode
    does not depend on which others are collected beside it.
    """

    @abstractmethod
    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        """The behaviour's own state at the beginning of episodes: [n] -> {name: [n, ...]}.

        Raises:
            ValueError: a space in which this behaviour cannot act.
        """

    @abstractmethod
    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        """Actions [n, *action_space.shape] and the next state, from frames [n, H, W, C] and factors."""
