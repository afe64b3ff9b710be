"""Jitter of colours and of the camera, in the manner of the Distracting Control Suite, for any environment."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.arguments import within
from envs.core import Factors, State
from envs.distractors.core import UNPLAYED, Distractor, Dynamics, FrameShape, Picture
from envs.random import Key

SHIFT, ZOOM, ROLL = 0.25, 2.0, np.pi / 2  # of a camera at scale 1: share of the frame, factor, radians


@dataclass(frozen=True)
class Jitter(Distractor):
    """Settings of how a picture is seen, uniform on [−1, 1], times a scale.

    Attributes:
        scale: how much, from 0 (exactly nothing) to 1.
        dynamics: ``static``: one setting an episode; ``dynamic``: a new one every step; ``drifting``: one that walks
            at random, turned back at −1 and 1, as in the Distracting Control Suite.
        speed: of a drifting one: the standard deviation of a step.

    Raises:
        ValueError: a scale outside [0, 1]; other dynamics; a speed that is negative or not finite.
    """

    scale: float = 0.1
    dynamics: Dynamics = "static"
    speed: float = 0.03

    def __post_init__(self) -> None:
        within(0, 1, scale=self.scale)
        if self.dynamics not in UNPLAYED:
            raise ValueError(f"dynamics of a jitter must be one of {UNPLAYED}, got {self.dynamics!r}")
        if not (np.isfinite(self.speed) and self.speed >= 0):
            raise ValueError(f"speed must be finite and at least 0, got {self.speed!r}")

    @abstractmethod
    def size(self, frame_shape: FrameShape) -> int:
        """How many settings there are."""

    def initial(self, key: Key, frame_shape: FrameShape, held_out: bool) -> State:
        return {"key": key, "setting": random.uniform(key, (self.size(frame_shape),), -1, 1)}

    def advance(self, state: State, time: NDArray[np.int64], frame_shape: FrameShape, held_out: bool) -> State:
        if self.dynamics == "static":
            return state
        new = random.uniform(random.fold_in(state["key"], time), (self.size(frame_shape),), -1, 1)
        if self.dynamics == "drifting":  # steps uniform on ±√3·speed; beyond −1 and 1 the way leads back
            walked = state["setting"] + np.sqrt(3) * self.speed * new
            new = 1 - np.abs(np.mod(walked + 1, 4) - 2)
        return {**state, "setting": new}


@dataclass(frozen=True)
class ColourJitter(Jitter):
    """Colours that are a little off, all over the frame.

    Channel c goes towards white (setting x_c > 0) or black (x_c < 0): frame + scale·|x_c|·(255·[x_c > 0] − frame).
    The Distracting Control Suite moves the colour of every body by up to ±scale by itself, and leaves its videos alone;
    here all bodies share one setting. A background behind the scene is left alone if it comes later among the
    distractors, and coloured too if it comes before.

    Factor ``colour`` [C]: scale·x.
    """

    def size(self, frame_shape: FrameShape) -> int:
        return frame_shape[2]

    def apply(self, picture: Picture, state: State) -> Picture:
        setting = (self.scale * state["setting"]).astype(np.float32)[:, None, None]  # [n, 1, 1, C]
        kept, added = 1 - np.abs(setting), 255 * np.maximum(setting, 0)
        frame = picture.frame
        for c in range(frame.shape[3]):  # numpy is slow at loops as short as the channels
            frame[..., c] *= kept[..., c]
            frame[..., c] += added[..., c]
        return replace(picture, backdrop=picture.backdrop * kept + added)

    def factor_space(self, frame_shape: FrameShape) -> dict[str, spaces.Box]:
        bound = np.float32(self.scale)
        return {"colour": spaces.Box(-bound, bound, (frame_shape[2],), np.float32)}

    def factors(self, state: State) -> Factors:
        return {"colour": (self.scale * state["setting"]).astype(np.float32)}


@dataclass(frozen=True)
class CameraJitter(Jitter):
    """A camera that is a little off: shifted, zoomed and rolled about the middle of the frame.

    With settings x: shift scale·x₁·W/4 and scale·x₂·H/4 px, zoom 2^(scale·x₃), roll scale·x₄·π/2. What was at p is
    seen at c + shift + zoom·R(roll)·(p − c), between pixels bilinearly; beyond the edges the last pixels are repeated.
    The Distracting Control Suite moves the camera itself around the body by up to scale·π/2, nearer by half or farther
    by one and a half times the distance, with the same roll. Other factors, such as ``location``, tell where things are
    before the camera moves.

    Factor ``camera`` [4]: shift (x, y) as a share of the frame, zoom, roll in radians, clockwise as seen.
    """

    def size(self, frame_shape: FrameShape) -> int:
        return 4

    def apply(self, picture: Picture, state: State) -> Picture:
        frame, coverage, backdrop = picture.frame, picture.coverage, picture.backdrop
        moved = [frame]
        if coverage is not None:
            coverage = coverage.copy()
            moved.append(coverage)
            if backdrop.shape[-3:-1] == frame.shape[1:3]:
                backdrop = np.broadcast_to(backdrop, frame.shape).copy()
                moved.append(backdrop)
        corners = _corners(self._seen(state), frame.shape[1], frame.shape[2])
        for image in moved:
            _warp(image, corners)
        return replace(picture, coverage=coverage, backdrop=backdrop)

    def factor_space(self, frame_shape: FrameShape) -> dict[str, spaces.Box]:
        high = self._seen({"setting": np.ones((1, 4))})[0]
        low = self._seen({"setting": -np.ones((1, 4))})[0]
        return {"camera": spaces.Box(low, high, (4,), np.float32)}

    def factors(self, state: State) -> Factors:
        return {"camera": self._seen(state)}

    def _seen(self, state: State) -> NDArray[np.float32]:
        """Shift (x, y) as a share of the frame, zoom and roll: [n, 4]."""
        setting = self.scale * state["setting"]
        shift, zoom, roll = SHIFT * setting[:, :2], ZOOM ** setting[:, 2:3], ROLL * setting[:, 3:]
        return np.concatenate([shift, zoom, roll], axis=1).astype(np.float32)


Corner = tuple[NDArray[np.int32], NDArray[np.float32]]


def _corners(camera: NDArray[np.float32], height: int, width: int) -> list[Corner]:
    """Where the pixels of a picture were before: the four around, as indices into all pixels, and their weights.

    camera: [n, 4] -> four pairs of [n, H, W].
    """
    shift_x, shift_y, zoom, roll = (camera[:, i, None, None] for i in range(4))
    middle_x, middle_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    x = np.arange(width, dtype=np.float32) - middle_x - shift_x * width  # [n, 1, W]
    y = np.arange(height, dtype=np.float32)[:, None] - middle_y - shift_y * height  # [n, H, 1]
    cos, sin = np.cos(roll) / zoom, np.sin(roll) / zoom
    x, y = middle_x + cos * x + sin * y, middle_y - sin * x + cos * y  # [n, H, W]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = x.astype(np.int32), y.astype(np.int32)  # at the last column or row, what is beyond it weighs nothing
    x -= left
    y -= top
    at = np.arange(len(camera), dtype=np.int32)[:, None, None] * (height * width) + top * width + left
    both = x * y
    return [(at, 1 - x - y + both), (at + 1, x - both), (at + width, y - both), (at + (width + 1), both)]


def _warp(image: NDArray[np.float32], corners: list[Corner]) -> None:
    """Put in place of every pixel of [n, H, W, C] what was around it."""
    for channel in range(image.shape[3]):
        plane = image[..., channel].flatten()  # a copy
        image[..., channel] = 0
        for at, weight in corners:
            part = plane.take(at, mode="clip")
            part *= weight
            image[..., channel] += part
