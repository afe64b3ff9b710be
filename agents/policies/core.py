"""What a policy sees of worlds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from gymnasium import spaces
from numpy.typing import NDArray

from envs.core import Factors, State


@dataclass(frozen=True)
class Goal:
    """Where worlds are to get, as it looks from there.

    Attributes:
        frames: of having arrived, [n, H, W, C].
        factors: of having arrived, {name: [n, ...]}.
    """

    frames: NDArray
    factors: Factors


class Observer(ABC):
    """What a policy sees of worlds, as pure functions over batches whose first axis is the world.

    It keeps a state a world, so that it can remember: `begin` makes that of new episodes, `advance` takes it on, and
    `observe` is what the policy is given of it. In tasks with a goal that frames do not show, the goal is seen the same
    way as the world is, and stands behind it in the observation.
    """

    @abstractmethod
    def space(self, frame_shape: tuple[int, ...], factor_space: spaces.Dict, goal: bool) -> spaces.Box:
        """The space of an observation.

        Args:
            frame_shape: (H, W, C) of a frame, which is uint8.
            factor_space: of the factors; empty for environments that tell none.
            goal: whether there is a goal that frames do not show.

        Raises:
            ValueError: worlds that cannot be seen this way.
        """

    @abstractmethod
    def begin(self, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        """The states at the first frames [n, H, W, C] of episodes: {name: [n, ...]}."""

    @abstractmethod
    def advance(self, state: State, actions: NDArray, frames: NDArray, factors: Factors) -> State:
        """The states after one more action and the frame that it led to.

        Actions are vectors as world models take them: float [n, A], choices one-hot (`agents.actions.vectors`).
        """

    @abstractmethod
    def observe(self, state: State) -> NDArray:
        """What the policy is given, in an array of its own: [n, *space.shape]."""
