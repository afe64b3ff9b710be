"""What distractors are, and the world that they are added to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from envs import random
from envs.core import Factors, State, World
from envs.random import Key

FrameShape = tuple[int, int, int]  # (H, W, C)
Dynamics = Literal["static", "dynamic", "drifting", "playing"]
UNPLAYED: tuple[Dynamics, ...] = ("static", "dynamic", "drifting")  # of what has no time of its own
BACKGROUND_SIZE = 8  # numbers in the factor `background`
CHUNK = 8  # worlds seen at a time, so that what is in hand stays in the processor's cache


@dataclass(frozen=True)
class Picture:
    """Frames on their way from the world to the agent: what is in front + (1 − coverage)·backdrop.

    Attributes:
        frame: float32 [n, H, W, C], from 0 to 255.
        coverage: float32 [n, H, W, 1], how much of each pixel the scene covers; None unless this distractor or one
            after it asks for it.
        backdrop: what is behind the scene, as much of it as is left under what was added or laid over; broadcasts
            against ``frame``.
        dimmed: how many times the frame has been darkened to make room for what was added to it.
        seen: share of the frame that is the world's own, under what was added or laid over.
    """

    frame: NDArray[np.float32]
    coverage: NDArray[np.float32] | None = None
    backdrop: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1, np.float32))
    dimmed: float = 1.0
    seen: float = 1.0


class Distractor(ABC):
    """Something that changes what is seen of a world, and nothing of what happens in it.

    Batch first and pure, as `envs.core.World` is: its state is arrays whose first axis is the world, and all randomness
    comes from keys.

    Attributes:
        needs_coverage: whether `apply` reads ``picture.coverage``.
    """

    needs_coverage: bool = False

    @abstractmethod
    def initial(self, key: Key, frame_shape: FrameShape, held_out: bool) -> State:
        """The states in which episodes begin.

        ``held_out`` asks for pictures that are never shown otherwise, if there is a limited number of them.
        """

    @abstractmethod
    def advance(self, state: State, time: NDArray[np.int64], frame_shape: FrameShape, held_out: bool) -> State:
        """The states at step ``time`` [n], from those one step earlier."""

    @abstractmethod
    def apply(self, picture: Picture, state: State) -> Picture:
        """What is seen of a picture. May write into ``picture.frame``, and into nothing else."""

    def background(self, state: State) -> tuple[float, NDArray[np.uint8]] | None:
        """Its level and its picture [n, H, W, C], if it is one that is seen behind or over the world."""
        return None

    def factor_space(self, frame_shape: FrameShape) -> dict[str, spaces.Box]:
        """Names, shapes and bounds of its own ground-truth variables."""
        return {}

    def factors(self, state: State) -> Factors:
        """Its ground-truth variables: {name: [n, ...]}, float32."""
        return {}


class Layers:
    """Several distractors, one after the other, over frames of one shape.

    Adds the factor ``background`` [8]: a fixed random projection (signs, Achlioptas 2003) of the backgrounds, each
    weighted by its level, so that a probe can measure how much of the background a latent holds; it has variance 1 if
    the pixels are independent and uniform. It is 0 where there is no background.

    Raises:
        ValueError: what is not a distractor, or two that have a factor of the same name.
    """

    def __init__(
        self, distractors: Distractor | Sequence[Distractor], frame_shape: FrameShape, held_out: bool = False
    ) -> None:
        layers = (distractors,) if isinstance(distractors, Distractor) else distractors
        if not isinstance(layers, Sequence) or not all(isinstance(item, Distractor) for item in layers):
            raise ValueError(f"distractor must be an envs.distractors.core.Distractor or several, got {distractors!r}")
        self.distractors, self.frame_shape, self.held_out = tuple(layers), frame_shape, held_out
        pixels = int(np.prod(frame_shape))
        # Signs make the projection a sum of integers, exact in floating point: it cannot depend on the batch.
        dtype = np.float32 if pixels * 255 < 2**24 else np.float64
        self.signs = np.random.default_rng(0).choice([-1.0, 1.0], (BACKGROUND_SIZE, pixels)).astype(dtype)
        self.grey = 127.5 * self.signs.sum(axis=1, dtype=np.float64)  # the projection of a uniformly grey background
        bound = np.float32(np.sqrt(12 * pixels))
        self.factor_space: dict[str, spaces.Box] = {
            "background": spaces.Box(-bound, bound, (BACKGROUND_SIZE,), np.float32)
        }
        for distractor in self.distractors:
            new = distractor.factor_space(frame_shape)
            if self.factor_space.keys() & new.keys():
                raise ValueError(f"two distractors have factors named {sorted(self.factor_space.keys() & new.keys())}")
            self.factor_space |= new

    @property
    def need_coverage(self) -> bool:
        """Whether one of them has to know what the scene covers."""
        return any(distractor.needs_coverage for distractor in self.distractors)

    def initial(self, key: Key) -> State:
        """The states of all, under names that begin with ``distractor.``; ``key`` is that of the world's episode."""
        state: State = {"distractor.time": np.zeros(len(key), np.int64)}
        for i, distractor in enumerate(self.distractors):
            layer = distractor.initial(random.fold_in(key, 1000 + i), self.frame_shape, self.held_out)
            state |= {f"distractor.{i}.{name}": array for name, array in layer.items()}
        return state

    def advance(self, state: State) -> State:
        """The states of all one step later."""
        time = state["distractor.time"] + 1
        moved: State = {"distractor.time": time}
        for i, distractor in enumerate(self.distractors):
            layer = distractor.advance(self._layer(state, i), time, self.frame_shape, self.held_out)
            moved |= {f"distractor.{i}.{name}": array for name, array in layer.items()}
        return moved

    def apply(
        self, frame: NDArray[np.uint8], coverage: NDArray[np.float32] | None, backdrop: ArrayLike, state: State
    ) -> NDArray[np.uint8]:
        """What is seen: [n, H, W, C], [n, H, W, 1] -> [n, H, W, C]. Without distractors the frames are unchanged.

        ``backdrop`` is one for all frames, [C] or [H, W, C].
        """
        if not self.distractors:
            return frame
        behind = np.asarray(backdrop, np.float32) + np.zeros(frame.shape[3], np.float32)  # in all channels
        layers = [self._layer(state, i) for i in range(len(self.distractors))]
        seen = np.empty_like(frame)
        for part in (slice(i, i + CHUNK) for i in range(0, len(frame), CHUNK)):
            covered = None if coverage is None else coverage[part]
            picture = Picture(frame[part].astype(np.float32), covered, behind)
            for i, (distractor, layer) in enumerate(zip(self.distractors, layers, strict=True)):
                picture = distractor.apply(picture, {name: array[part] for name, array in layer.items()})
                if not any(later.needs_coverage for later in self.distractors[i + 1 :]):
                    picture = replace(picture, coverage=None)  # no need to keep it up to date any longer
            pixels = picture.frame
            pixels += np.float32(0.5)
            seen[part] = np.clip(pixels, 0, 255, out=pixels)
        return seen

    def factors(self, state: State) -> Factors:
        """The factors of all: {name: [n, ...]}."""
        n = len(state["distractor.time"])
        projected, total = np.zeros((n, BACKGROUND_SIZE)), 0.0
        own: Factors = {}
        for i, distractor in enumerate(self.distractors):
            layer = self._layer(state, i)
            own |= distractor.factors(layer)
            if (background := distractor.background(layer)) is None:
                continue
            level, image = background
            total += level
            pixels = image.reshape(n, -1, 1).astype(self.signs.dtype)  # [n, H·W·C, 1]
            # One small product a world: a single large one would wait for BLAS threads, for long on a busy machine.
            projected += ((self.signs @ pixels)[..., 0] - self.grey) * level
        projected *= np.sqrt(12 / self.signs.shape[1]) / 255 / max(total, 1e-12)
        return {"background": projected.astype(np.float32), **own}

    @staticmethod
    def _layer(state: State, i: int) -> State:
        prefix = f"distractor.{i}."
        return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


class DistractedWorld(World):
    """A world seen through distractors. With none it looks as it does by itself.

    Raises:
        ValueError: as `Layers`, and a world that has a factor named as one of theirs.
    """

    def __init__(self, world: World, distractors: Distractor | Sequence[Distractor], held_out: bool = False) -> None:
        self.world = world
        self.frame_shape, self.action_space = world.frame_shape, world.action_space
        self.render_fps, self.backdrop, self.seeks_goal = world.render_fps, world.backdrop, world.seeks_goal
        self.layers = Layers(distractors, self.frame_shape, held_out)
        if clash := world.factor_space.keys() & self.layers.factor_space.keys():
            raise ValueError(f"{type(world).__name__} and its distractors both have factors named {sorted(clash)}")
        self.factor_space = spaces.Dict({**world.factor_space.spaces, **self.layers.factor_space})

    def initial(self, key: Key) -> State:
        return {**self.world.initial(key), **self.layers.initial(key)}

    def transition(self, state: State, action: NDArray) -> State:
        return {**state, **self.world.transition(state, action), **self.layers.advance(state)}

    def render(self, state: State) -> NDArray[np.uint8]:
        coverage = self.world.coverage(state) if self.layers.need_coverage else None
        return self.layers.apply(self.world.render(state), coverage, self.backdrop, state)

    def coverage(self, state: State) -> NDArray[np.float32]:
        return self.world.coverage(state)

    def factors(self, state: State) -> Factors:
        return {**self.world.factors(state), **self.layers.factors(state)}

    def at_goal(self, state: State) -> State:
        """The states of having arrived, among the distractors of now."""
        return {**state, **self.world.at_goal(state)}

    def distance(self, state: State, factor: str, aim: NDArray) -> NDArray[np.float64]:
        return self.world.distance(state, factor, aim)

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        return self.world.reward(state, action, next_state)

    def terminated(self, state: State) -> NDArray[np.bool_]:
        return self.world.terminated(state)
