"""A square of one colour that has nothing to do with the agent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.arguments import require_whole
from envs.core import Factors, State
from envs.distractors.core import UNPLAYED, Distractor, Dynamics, FrameShape, Picture
from envs.random import Key


@dataclass(frozen=True)
class Square(Distractor):
    """An upright square in front of everything, in a colour and a place of its own.

    It is the smallest thing that stays the same within an episode and differs between episodes. Factor ``square``: its
    centre (x, y) in px.

    Attributes:
        side: in px.
        dynamics: ``static``: one place and colour an episode, on whole pixels; ``dynamic``: new ones every step;
            ``drifting``: one colour an episode, going straight on in a random direction and turned back by the edges.
        speed: of a drifting square, in px a step.

    Raises:
        ValueError: a side below 1 px or as large as the frame; other dynamics; a speed that is not finite.
    """

    side: int = 5
    dynamics: Dynamics = "static"
    speed: float = 1.0

    def __post_init__(self) -> None:
        require_whole(side=self.side)
        if self.dynamics not in UNPLAYED:
            raise ValueError(f"dynamics of a square must be one of {UNPLAYED}, got {self.dynamics!r}")
        if not np.isfinite(self.speed):
            raise ValueError(f"speed must be finite, got {self.speed!r}")

    def initial(self, key: Key, frame_shape: FrameShape, held_out: bool) -> State:
        room = self._room(frame_shape)
        corner = np.stack([random.integers(random.fold_in(key, i), room[i] + 1) for i in (0, 1)], axis=1)
        heading = random.uniform(random.fold_in(key, 2), high=2 * np.pi)
        return {
            "key": key,
            "centre": corner + (self.side - 1) / 2,  # [n, 2], (x, y) in px
            "velocity": self.speed * np.stack([np.cos(heading), np.sin(heading)], axis=1),
            "colour": random.random_bytes(random.fold_in(key, 3), (frame_shape[2],)),
        }

    def advance(self, state: State, time: NDArray[np.int64], frame_shape: FrameShape, held_out: bool) -> State:
        if self.dynamics == "dynamic":
            return {**self.initial(random.fold_in(state["key"], time), frame_shape, held_out), "key": state["key"]}
        if self.dynamics == "static":
            return state
        low, room = (self.side - 1) / 2, self._room(frame_shape)
        way = np.mod(state["centre"] - low + state["velocity"], 2 * room)  # there and back again
        back = way > room
        return {
            **state,
            "centre": low + np.where(back, 2 * room - way, way),
            "velocity": np.where(back, -state["velocity"], state["velocity"]),
        }

    def apply(self, picture: Picture, state: State) -> Picture:
        frame = picture.frame
        corner = state["centre"] - (self.side - 1) / 2  # [n, 2]
        first = np.minimum(np.floor(corner), self._room(frame.shape[1:]) - 1)
        pixel = first[:, :, None] + np.arange(self.side + 1)  # [n, 2, side + 1]: it may lie between pixels
        end = corner[:, :, None] + self.side
        share = np.clip(np.minimum(pixel + 1, end) - np.maximum(pixel, corner[:, :, None]), 0, 1).astype(np.float32)
        covered = (share[:, 1, :, None] * share[:, 0, None, :])[..., None]  # [n, h, w, 1]
        column, row = pixel.astype(np.int64).transpose(1, 0, 2)
        at = np.arange(len(frame))[:, None, None], row[:, :, None], column[:, None, :]
        frame[at] += (state["colour"][:, None, None] - frame[at]) * covered
        if picture.coverage is None:
            return picture
        coverage = picture.coverage.copy()
        coverage[at] += (1 - coverage[at]) * covered
        return replace(picture, coverage=coverage)

    def factor_space(self, frame_shape: FrameShape) -> dict[str, spaces.Box]:
        low = np.full(2, (self.side - 1) / 2, np.float32)
        return {"square": spaces.Box(low, (low + self._room(frame_shape)).astype(np.float32), (2,), np.float32)}

    def factors(self, state: State) -> Factors:
        return {"square": state["centre"].astype(np.float32)}

    def _room(self, frame_shape: tuple[int, ...]) -> NDArray[np.int64]:
        """How far it can go, (x, y) in px."""
        if self.side >= min(frame_shape[:2]):
            raise ValueError(f"a square of side={self.side!r} needs frames larger than {frame_shape[:2]} px")
        return np.array([frame_shape[1] - self.side, frame_shape[0] - self.side])
