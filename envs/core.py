"""What an environment is here: a class of pure functions over batches of worlds.

The `gymnasium.Env` and `gymnasium.vector.VectorEnv` of every world are derived from it in `envs.faces` and
`envs.vector_face`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.random import Key

State = dict[str, np.ndarray]  # every array's first axis is the world
Factors = dict[str, np.ndarray]  # float32, [n, *shape]


class World(ABC):
    """A world of pixels, batch first.

    Every function is pure: it returns new arrays and leaves its inputs alone, and world ``i`` of the result depends on
    world ``i`` of the inputs only. Randomness comes from keys (`envs.random`): `initial` is given one a world, and a
    world whose transitions are random carries its key in its state.

    Attributes:
        frame_shape: (H, W, C) of a frame; frames are uint8.
        action_space: of a single world.
        factor_space: names, shapes and bounds of the ground-truth variables of the scene.
        render_fps: frames per second at which a video of this world looks right.
        backdrop: the colour [C] of what is behind the scene, seen where it covers nothing.
        seeks_goal: whether the task is to get to a goal that frames do not show; `at_goal` tells where it is.
    """

    frame_shape: tuple[int, int, int]
    action_space: spaces.Space
    factor_space: spaces.Dict
    render_fps: int = 10
    backdrop: tuple[int, ...] = (0,)
    seeks_goal: bool = False

    @abstractmethod
    def initial(self, key: Key) -> State:
        """The states in which episodes begin, one for every key: [n] -> {name: [n, ...]}."""

    @abstractmethod
    def transition(self, state: State, action: NDArray) -> State:
        """The states one step later. action: [n, *action_space.shape]."""

    @abstractmethod
    def render(self, state: State) -> NDArray[np.uint8]:
        """What the agent sees: [n, H, W, C]."""

    @abstractmethod
    def factors(self, state: State) -> Factors:
        """The ground-truth variables: {name: [n, *factor_space[name].shape]}, float32."""

    def coverage(self, state: State) -> NDArray[np.float32]:
        """How much of each pixel the scene covers (the agent, goals, walls): [n, H, W, 1], from 0 to 1.

        A frame is coverage·scene + (1 − coverage)·backdrop.

        Raises:
            ValueError: this world does not know its scene from its backdrop.
        """
        raise ValueError(f"{type(self).__name__} does not tell what its scene covers: choose blend=add or blend=over")

    def at_goal(self, state: State) -> State:
        """The states of having arrived at the goals of these states.

        Raises:
            ValueError: this world has no goals.
        """
        raise ValueError(f"{type(self).__name__} has no goals: choose a world in which something is to get somewhere")

    def distance(self, state: State, factor: str, aim: NDArray) -> NDArray[np.float64]:
        """How far a factor has to go until it is ``aim`` [n, *shape], in its unit: [n].

        The straight line, unless a world knows what is in the way: then it is the length of the way around, which
        never grows while the shortest way is followed.
        """
        return apart(self.factors(state)[factor], aim)

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        """Reward of a step: [n]. Zero unless a world says otherwise: the data are reward-free."""
        return np.zeros(len(action))

    def terminated(self, state: State) -> NDArray[np.bool_]:
        """Whether the task has ended in this state: [n]. Never, unless a world says otherwise."""
        return np.zeros(len(next(iter(state.values()))), dtype=bool)


def apart(one: NDArray, other: NDArray) -> NDArray[np.float64]:
    """The straight-line distances ‖one − other‖ of factors: [n, ...], [n, ...] -> [n]."""
    difference = (one.astype(np.float64) - other).reshape(len(one), -1)
    return np.sqrt((difference**2).sum(axis=1))


def merge(mask: NDArray[np.bool_], new: State, old: State) -> State:
    """The new state where ``mask`` [n] is set, the old one elsewhere. ``new`` holds the masked worlds only."""
    merged = {name: array.copy() for name, array in old.items()}
    for name, array in new.items():
        merged[name][mask] = array
    return merged


def replace(state: State, given: dict[str, object]) -> State:
    """The state with the arrays in ``given`` put in place of its own.

    Raises:
        ValueError: a name that the state does not have, or an array of another shape or that is not finite.
    """
    replaced = dict(state)
    for name, value in given.items():
        if name not in state:
            raise ValueError(f"unknown state variable {name!r}; this world has {sorted(state)}")
        array = np.array(value, dtype=state[name].dtype)
        if array.shape != state[name].shape:
            raise ValueError(f"state variable {name!r} has shape {state[name].shape}, got {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"state variable {name!r} must be finite, got {value!r}")
        replaced[name] = array
    return replaced
