"""Worlds seen as they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.policies.core import Goal, Observer
from envs.arguments import require_whole
from envs.core import Factors, State


@dataclass(frozen=True)
class Pixels(Observer):
    """The last K frames, the newest last, and behind them the frame of the goal, side by side along the channels.

    Observation: uint8 [K·C, H, W] or [(K+1)·C, H, W], which Stable-Baselines3 takes as an image. At the beginning of
    an episode the first frame stands for those before it.

    Attributes:
        frames: number K of frames.

    Raises:
        ValueError: a number of frames that is not positive.
    """

    frames: int = 1

    def __post_init__(self) -> None:
        require_whole(frames=self.frames)

    def space(self, frame_shape: tuple[int, ...], factor_space: spaces.Dict, goal: bool) -> spaces.Box:
        height, width, channels = frame_shape
        channels *= self.frames + goal
        if channels > min(height, width):  # Stable-Baselines3 takes the smallest axis for the channels
            raise ValueError(f"{channels} channels are too many for images of {height}×{width} px: see fewer frames")
        return spaces.Box(0, 255, (channels, height, width), np.uint8)

    def begin(self, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        state = {"frames": np.tile(_channels_first(frames), (1, self.frames, 1, 1))}  # [n, K·C, H, W]
        return state if goal is None else {**state, "goal": _channels_first(goal.frames).copy()}

    def advance(self, state: State, actions: NDArray, frames: NDArray, factors: Factors) -> State:
        newest = _channels_first(frames)
        return {**state, "frames": np.concatenate([state["frames"][:, newest.shape[1] :], newest], axis=1)}

    def observe(self, state: State) -> NDArray:
        return np.concatenate([state["frames"], state["goal"]], axis=1) if "goal" in state else state["frames"].copy()


def _channels_first(frames: NDArray) -> NDArray:
    """[n, H, W, C] -> [n, C, H, W]."""
    return np.moveaxis(frames, 3, 1)
