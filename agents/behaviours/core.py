"""What a behaviour is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.policies.core import Goal
from envs.core import Factors, State
from envs.random import Key


class Behaviour(ABC):
    """A policy over a batch of worlds, as pure functions: `start`, `look`, and then `act` once a step.

    What it does in world ``i`` depends on that world's key and observations only (`envs.random`), so that an episode
    does not depend on which others are collected beside it.
    """

    @abstractmethod
    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        """The behaviour's own state at the beginning of episodes: [n] -> {name: [n, ...]}.

        Raises:
            ValueError: a space in which this behaviour cannot act.
        """

    def look(self, state: State, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        """The state after a look at what episodes begin with, and at where worlds are to get: unchanged by default.

        The first call of `act` is given the same frames [n, H, W, C] and factors. ``goal`` is None where there is none,
        or where frames show it.

        Raises:
            ValueError: worlds in which this behaviour cannot act.
        """
        return state

    @abstractmethod
    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        """Actions [n, *action_space.shape] and the next state, from frames [n, H, W, C] and factors."""


def nested(name: str, state: State) -> State:
    """A state as part of another one's: its variables are called ``name.variable`` there."""
    return {f"{name}.{variable}": array for variable, array in state.items()}


def part(name: str, state: State) -> State:
    """What `nested` has put into a state."""
    start = f"{name}."
    return {variable.removeprefix(start): array for variable, array in state.items() if variable.startswith(start)}


def low_and_span(wanted_by: str, action_space: gymnasium.Space) -> tuple[NDArray, NDArray[np.float64]]:
    """Where a space begins and how far it goes: low + span·u, with u uniform on [0, 1), is uniform over it.

    Numbers of an integer space are to be rounded down. Both have the shape of an action.

    Raises:
        ValueError: the space is neither a bounded Box nor Discrete.
    """
    if isinstance(action_space, gymnasium.spaces.Discrete):
        return np.array(action_space.start), np.array(float(action_space.n))
    if not (isinstance(action_space, gymnasium.spaces.Box) and action_space.is_bounded()):
        raise ValueError(f"{wanted_by} needs a bounded Box or a Discrete action space, got {action_space}")
    low, span = action_space.low, action_space.high.astype(np.float64) - action_space.low
    return low, span + (low.dtype.kind in "iu")  # the upper bound of integers belongs to them


def longest_step(wanted_by: str, action_space: gymnasium.Space) -> float:
    """The bound of a space of displacements in the plane: the nearest to 0, if its bounds differ.

    Raises:
        ValueError: the space is not a Box of two numbers with finite bounds around 0.
    """
    if not (isinstance(action_space, gymnasium.spaces.Box) and action_space.shape == (2,)):
        raise ValueError(
            f"{wanted_by} moves in the plane: it needs actions Box(…, (2,)), got {action_space}; choose "
            f"behaviour=correlated or behaviour=uniform"
        )
    longest = float(min(action_space.high.min(), -action_space.low.max()))
    if not 0 < longest < np.inf:
        raise ValueError(f"{wanted_by} steps in all directions: it needs bounds around 0, got {action_space}")
    return longest
