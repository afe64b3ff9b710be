"""A distractor = source × dynamics × level, and the world that one or more of them are added to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.core import Factors, State, World
from envs.random import Key

Dynamics = Literal["static", "dynamic", "drifting"]
BACKGROUND_SIZE = 8  # numbers in the factor `background`


class Source(ABC):
    """Where the pixels of a background come from."""

    @abstractmethod
    def sample(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> NDArray[np.uint8]:
        """Independent backgrounds, one for every key: [n] -> [n, H, W, C].

        ``held_out`` asks for pictures that are never shown otherwise, if the source is made of a limited number.
        """


@dataclass(frozen=True)
class Distractor:
    """A background process: pixels from a source, and what becomes of them from step to step.

    Attributes:
        source: where the pixels come from.
        dynamics: ``static``: one background an episode (the paper's fixed noise); ``dynamic``: a new one every step
            (changing noise); ``drifting``: one an episode, its columns rolled by int(t·speed) at step t.
        level: brightness in units of the brightest value that a frame can have, 255 (the peak of MovingDot's dot).
        speed: of a drifting background, in px a step; may be negative or a fraction.

    Raises:
        ValueError: not a source; unknown dynamics; a level that is negative or not finite; a speed that is not finite.
    """

    source: Source
    dynamics: Dynamics = "static"
    level: float = 1.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise ValueError(f"source must be an envs.distractors.core.Source, got {self.source!r}")
        if self.dynamics not in get_args(Dynamics):
            raise ValueError(f"dynamics must be one of {get_args(Dynamics)}, got {self.dynamics!r}")
        if not (np.isfinite(self.level) and self.level >= 0):
            raise ValueError(f"level must be finite and at least 0, got {self.level!r}")
        if not np.isfinite(self.speed):
            raise ValueError(f"speed must be finite, got {self.speed!r}")

    def initial(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> State:
        """The backgrounds with which episodes begin."""
        return {"key": key, "image": self.source.sample(key, frame_shape, held_out)}

    def advance(self, state: State, time: NDArray[np.int64], held_out: bool) -> State:
        """The backgrounds at step ``time`` [n], from those one step earlier."""
        image = state["image"]
        if self.dynamics == "dynamic":
            image = self.source.sample(random.fold_in(state["key"], time), image.shape[1:], held_out)
        elif self.dynamics == "drifting":
            shift = (np.trunc(time * self.speed) - np.trunc((time - 1) * self.speed)).astype(np.int64)  # [n], px
            image = image.copy()
            for columns in np.unique(shift):  # one value, or two at a fractional speed
                image[shift == columns] = np.roll(image[shift == columns], columns, axis=2)
        return {"key": state["key"], "image": image}


class DistractedWorld(World):
    """A world with distractors added to its frames.

    A frame is (frame + Σ_i level_i·N_i) / (1 + Σ_i level_i): the paper's additive noise, scaled so that nothing
    saturates and the ratio of signal to noise stays what the levels say. With no distractors the frames are unchanged.

    Adds the factor ``background`` [8]: a fixed random projection (signs, Achlioptas 2003) of the backgrounds, each
    weighted by its level, so that a probe can measure how much of the background a latent holds; it has variance 1 if
    the pixels are independent and uniform. It is 0 where there is no distractor.
    """

    def __init__(self, world: World, distractors: Sequence[Distractor], held_out: bool = False) -> None:
        self.world, self.distractors, self.held_out = world, tuple(distractors), held_out
        self.frame_shape, self.action_space = world.frame_shape, world.action_space
        self.render_fps = world.render_fps
        pixels = int(np.prod(self.frame_shape))
        # Signs make the projection a sum of integers, exact in floating point: it cannot depend on the batch.
        dtype = np.float32 if pixels * 255 < 2**24 else np.float64
        self.signs = np.random.default_rng(0).choice([-1.0, 1.0], (BACKGROUND_SIZE, pixels)).astype(dtype)
        self.grey = 127.5 * self.signs.sum(axis=1, dtype=np.float64)  # the projection of a uniformly grey background
        self.level = sum(distractor.level for distractor in self.distractors)
        bound = np.float32(np.sqrt(12 * pixels))
        background = spaces.Box(-bound, bound, (BACKGROUND_SIZE,), np.float32)
        self.factor_space = spaces.Dict({**world.factor_space.spaces, "background": background})

    def initial(self, key: Key) -> State:
        state = self.world.initial(key)
        for i, distractor in enumerate(self.distractors):
            layer = distractor.initial(random.fold_in(key, 1000 + i), self.frame_shape, self.held_out)
            state |= {f"distractor.{i}.{name}": array for name, array in layer.items()}
        return {**state, "distractor.time": np.zeros(len(key), np.int64)}

    def transition(self, state: State, action: NDArray) -> State:
        time = state["distractor.time"] + 1
        moved = {**state, **self.world.transition(state, action), "distractor.time": time}
        for i, distractor in enumerate(self.distractors):
            layer = distractor.advance(self._layer(state, i), time, self.held_out)
            moved |= {f"distractor.{i}.{name}": array for name, array in layer.items()}
        return moved

    def render(self, state: State) -> NDArray[np.uint8]:
        frame = self.world.render(state)
        if not self.distractors:
            return frame
        scale = np.float32(1 / (1 + self.level))
        blend = frame * scale
        for i, distractor in enumerate(self.distractors):
            blend += state[f"distractor.{i}.image"] * (scale * np.float32(distractor.level))
        blend += np.float32(0.5)
        return blend.astype(np.uint8)

    def factors(self, state: State) -> Factors:
        background = np.zeros((len(state["distractor.time"]), BACKGROUND_SIZE))
        for i, distractor in enumerate(self.distractors):
            image = state[f"distractor.{i}.image"]
            pixels = image.reshape(len(image), -1, 1).astype(self.signs.dtype)  # [n, H·W·C, 1]
            # One small product a world: a single large one would wait for BLAS threads, for long on a busy machine.
            background += ((self.signs @ pixels)[..., 0] - self.grey) * (distractor.level / max(self.level, 1e-12))
        background *= np.sqrt(12 / self.signs.shape[1]) / 255
        return {**self.world.factors(state), "background": background.astype(np.float32)}

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        return self.world.reward(state, action, next_state)

    def terminated(self, state: State) -> NDArray[np.bool_]:
        return self.world.terminated(state)

    @staticmethod
    def _layer(state: State, i: int) -> dict[str, Any]:
        return {name: state[f"distractor.{i}.{name}"] for name in ("key", "image")}
