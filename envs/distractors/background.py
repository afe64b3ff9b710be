"""Backgrounds: pixels from a source, how they change, how bright they are, and how they mix with the frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs import random
from envs.core import State
from envs.distractors.core import Distractor, Dynamics, FrameShape, Picture
from envs.random import Key

Blend = Literal["add", "over", "behind"]


class Source(ABC):
    """Where the pixels of a background come from."""

    @abstractmethod
    def sample(self, key: Key, frame_shape: FrameShape, held_out: bool) -> NDArray[np.uint8]:
        """Independent backgrounds, one for every key: [n] -> [n, H, W, C].

        ``held_out`` asks for pictures that are never shown otherwise, if the source is made of a limited number.
        """

    def begin(self, key: Key, frame_shape: FrameShape, held_out: bool) -> State:
        """The beginning of a moving background, one for every key; ``image`` [n, H, W, C] is what is seen of it."""
        raise ValueError(f"{type(self).__name__} does not move by itself: choose dynamics=static, dynamic or drifting")

    def play(self, state: State, time: NDArray[np.int64], held_out: bool) -> State:
        """The moving background at step ``time`` [n], from its state one step earlier."""
        raise ValueError(f"{type(self).__name__} does not move by itself: choose dynamics=static, dynamic or drifting")


@dataclass(frozen=True)
class Background(Distractor):
    """A background process: pixels from a source, what becomes of them from step to step, and how they are seen.

    Attributes:
        source: where the pixels come from.
        dynamics: ``static``: one background an episode (the paper's fixed noise); ``dynamic``: a new one every step
            (changing noise); ``drifting``: one an episode, its columns rolled by int(t·speed) at step t; ``playing``:
            one an episode, moving as its source does (a video plays, a photograph is panned and zoomed).
        level: how bright or how opaque; for ``add`` in units of the brightest value that a frame can have, 255 (the
            peak of MovingDot's dot).
        speed: of a drifting background, in px a step; may be negative or a fraction.
        blend: ``add``: (frame + level·N) / (1 + level), the paper's additive noise scaled so that nothing saturates;
            several make (frame + Σ level·N) / (1 + Σ level). ``over``: (1 − level)·frame + level·N, with a level of
            at most 1. ``behind``: the same where the scene leaves its backdrop to be seen, so that agent, goals and
            walls stay as they are, and behind whatever else was added or laid over, in whichever order.

    Raises:
        ValueError: not a source; unknown dynamics or blend; a level that is negative, not finite or above what the
            blend can do; a speed that is not finite.
    """

    source: Source
    dynamics: Dynamics = "static"
    level: float = 1.0
    speed: float = 1.0
    blend: Blend = "add"

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise ValueError(f"source must be an envs.distractors.background.Source, got {self.source!r}")
        if self.dynamics not in get_args(Dynamics):
            raise ValueError(f"dynamics must be one of {get_args(Dynamics)}, got {self.dynamics!r}")
        if self.blend not in get_args(Blend):
            raise ValueError(f"blend must be one of {get_args(Blend)}, got {self.blend!r}")
        if not (np.isfinite(self.level) and self.level >= 0):
            raise ValueError(f"level must be finite and at least 0, got {self.level!r}")
        if self.blend != "add" and self.level > 1:
            raise ValueError(f"level is an opacity with blend={self.blend}, at most 1; got {self.level!r}")
        if not np.isfinite(self.speed):
            raise ValueError(f"speed must be finite, got {self.speed!r}")

    @property
    def needs_coverage(self) -> bool:  # type: ignore[override]
        return self.blend == "behind"

    def initial(self, key: Key, frame_shape: FrameShape, held_out: bool) -> State:
        if self.dynamics == "playing":
            return self.source.begin(key, frame_shape, held_out)
        return {"key": key, "image": self.source.sample(key, frame_shape, held_out)}

    def advance(self, state: State, time: NDArray[np.int64], frame_shape: FrameShape, held_out: bool) -> State:
        if self.dynamics == "playing":
            return self.source.play(state, time, held_out)
        image = state["image"]
        if self.dynamics == "dynamic":
            image = self.source.sample(random.fold_in(state["key"], time), frame_shape, held_out)
        elif self.dynamics == "drifting":
            shift = (np.trunc(time * self.speed) - np.trunc((time - 1) * self.speed)).astype(np.int64)  # [n], px
            image = image.copy()
            for columns in np.unique(shift):  # one value, or two at a fractional speed
                image[shift == columns] = np.roll(image[shift == columns], columns, axis=2)
        return {**state, "image": image}

    def apply(self, picture: Picture, state: State) -> Picture:
        frame, backdrop, level = picture.frame, picture.backdrop, np.float32(self.level)
        if self.blend == "add":  # after others that were added, so that together they are (frame + Σ l·N) / (1 + Σ l)
            dimmed = picture.dimmed + self.level
            kept = np.float32(picture.dimmed / dimmed)
            frame *= kept
            frame += np.multiply(state["image"], self.level / dimmed, dtype=np.float32)
            return replace(picture, backdrop=backdrop * kept, dimmed=dimmed, seen=picture.seen * float(kept))
        if self.blend == "over":
            frame += (state["image"].astype(np.float32) - frame) * level
            return replace(picture, backdrop=backdrop * (1 - level), seen=picture.seen * (1 - self.level))
        assert picture.coverage is not None
        seen, uncovered, behind = np.float32(picture.seen), 1 - picture.coverage[..., 0], np.empty_like(frame)
        for c in range(frame.shape[3]):  # numpy is slow at loops as short as the channels
            change = (state["image"][..., c].astype(np.float32) * seen - backdrop[..., c]) * level
            frame[..., c] += change * uncovered
            behind[..., c] = backdrop[..., c] + change
        return replace(picture, backdrop=behind)

    def background(self, state: State) -> tuple[float, NDArray[np.uint8]]:
        return self.level, state["image"]
