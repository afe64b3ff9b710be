"""Stacks of frames, for agents that see one observation at a time: velocities cannot be read from a single frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.arguments import require_whole
from envs.core import Factors, State, World
from envs.distractors.core import DistractedWorld
from envs.random import Key


class StackedWorld(World):
    """A world whose frame is its last ``depth`` frames side by side along the channels, the oldest first.

    At the start of an episode, or of one that begins from a given state, the first frame is repeated: as Gymnasium's
    ``FrameStackObservation`` does, with its first axis merged into the channels. `coverage` is that of the newest
    frame.

    Raises:
        ValueError: a depth below 1.
    """

    def __init__(self, world: DistractedWorld, depth: int) -> None:
        require_whole(frame_stack=depth)
        self.world, self.depth = world, depth
        height, width, channels = world.frame_shape
        self.frame_shape = (height, width, channels * depth)
        self.action_space, self.factor_space = world.action_space, world.factor_space
        self.render_fps, self.seeks_goal = world.render_fps, world.seeks_goal
        self.backdrop = tuple(np.broadcast_to(world.backdrop, channels).tolist()) * depth
        self._drawn: tuple[State, NDArray[np.uint8]] | None = None  # the last state and its frames: drawn once a step

    def initial(self, key: Key) -> State:
        return {
            **self.world.initial(key),
            "stack.frames": np.zeros((len(key), *self.frame_shape), np.uint8),  # of the state before
            "stack.time": np.zeros(len(key), np.int64),
        }

    def transition(self, state: State, action: NDArray) -> State:
        drawn = self._drawn
        frames = drawn[1] if drawn is not None and drawn[0] is state else self.render(state)
        return {
            **state,
            **self.world.transition(state, action),
            "stack.frames": frames.copy(),
            "stack.time": state["stack.time"] + 1,
        }

    def render(self, state: State) -> NDArray[np.uint8]:
        newest, before = self.world.render(state), state["stack.frames"]
        channels = newest.shape[3]
        frames = np.empty_like(before)
        frames.reshape(-1)[:-channels] = before.reshape(-1)[channels:]  # every frame of every pixel moves down by one
        for c in range(channels):
            frames[..., c - channels] = newest[..., c]
        if (fresh := state["stack.time"] == 0).any():
            frames[fresh] = np.tile(newest[fresh], self.depth)
        self._drawn = state, frames
        return frames

    def coverage(self, state: State) -> NDArray[np.float32]:
        return self.world.coverage(state)

    def factors(self, state: State) -> Factors:
        return self.world.factors(state)

    def at_goal(self, state: State) -> State:
        """The states of having arrived, and of having been there all along: the goal's frame ``depth`` times."""
        return {**state, **self.world.at_goal(state), "stack.time": np.zeros_like(state["stack.time"])}

    def distance(self, state: State, factor: str, aim: NDArray) -> NDArray[np.float64]:
        return self.world.distance(state, factor, aim)

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        return self.world.reward(state, action, next_state)

    def terminated(self, state: State) -> NDArray[np.bool_]:
        return self.world.terminated(state)
