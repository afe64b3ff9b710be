"""Distractors on any environment whose observations are frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import ArrayLike, NDArray

from envs.core import State
from envs.distractors.core import Distractor, Layers

Frame = NDArray[np.uint8]
GREY = (0.2125, 0.7154, 0.0721)  # as gymnasium.wrappers.GrayscaleObservation weighs red, green and blue


class Distracted(gymnasium.Wrapper[Frame, Any, Frame, Any], RecordConstructorArgs):
    """Any environment of frames, seen through distractors.

    What happens in the environment is never changed. Distractors have a generator of their own, seeded as the
    environment is and asked for one key an episode, just as the worlds of this package do: wrapping one of them gives
    number for number what ``gymnasium.make(…, distractor=…)`` gives, alone or vectorised. ``render()`` in mode
    ``rgb_array`` shows exactly what the agent saw. The distractors' factors join ``info["factors"]`` and
    ``factor_space``.

    A background is blended behind the scene where the environment offers ``scene()``, which returns how much of each
    pixel of the present frame the scene covers [H, W, 1] and what is seen behind it ([C] or [H, W, C]), or where the
    backdrop has a colour of its own, ``key_colour``.

    Args:
        env: its observations are uint8 [H, W, 1] or [H, W, 3].
        distractor: one or several.
        held_out: whether distractors show the pictures kept for held-out episodes.
        key_colour: (r, g, b) of the backdrop; what differs from it is scene.
        tolerance: by how much a channel of the backdrop may differ from ``key_colour``.

    Raises:
        ValueError: observations of another kind, distractors on top of others, factors of the same name, a blend
            behind a scene that nobody knows.
    """

    def __init__(
        self,
        env: gymnasium.Env[Frame, Any],
        distractor: Distractor | Sequence[Distractor],
        held_out: bool = False,
        key_colour: Sequence[int] | None = None,
        tolerance: int = 0,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, distractor=distractor, held_out=held_out, key_colour=key_colour, tolerance=tolerance
        )
        gymnasium.Wrapper.__init__(self, env)
        space = env.observation_space
        if not (isinstance(space, spaces.Box) and space.dtype == np.uint8 and space.shape[2:] in ((1,), (3,))):
            raise ValueError(
                f"distractors need frames, Box(0, 255, (H, W, 1 or 3), uint8), and {env} observes {space}: make it "
                f"with gymnasium.make('jepa_worlds/Gymnasium-v0', env_id=…, distractor=…), and stack frames afterwards"
            )
        if env.has_wrapper_attr("distractors") and env.get_wrapper_attr("distractors"):
            raise ValueError(f"{env} is seen through distractors already: give all of them to one wrapper, as a list")
        height, width, channels = space.shape
        self.layers = Layers(distractor, (height, width, channels), held_out)
        self.distractors = self.layers.distractors
        self.key_colour = None if key_colour is None else checked_colour(key_colour)
        self.tolerance = tolerance
        if self.layers.need_coverage and self.key_colour is None and not env.has_wrapper_attr("scene"):
            raise ValueError(
                f"{env} does not tell what its scene covers: give key_colour=(r, g, b), the colour of its backdrop, or "
                f"choose blend=add or blend=over"
            )
        self.factor_space = self._factor_space()
        self._generator: np.random.Generator | None = None
        self._state: State | None = None
        self._frame: Frame | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, dict[str, Any]]:
        frame, info = self.env.reset(seed=seed, options=options)
        if seed is not None or self._generator is None:
            self._generator = np.random.default_rng(seed)
        key = np.array([self._generator.integers(0, 2**64, dtype=np.uint64)])
        self._state = self.layers.initial(key)
        return self._observe(frame, info)

    def step(self, action: Any) -> tuple[Frame, SupportsFloat, bool, bool, dict[str, Any]]:
        frame, reward, terminated, truncated, info = self.env.step(action)
        if self._state is None:
            raise ValueError("call reset() before step()")
        self._state = self.layers.advance(self._state)
        frame, info = self._observe(frame, info)
        return frame, reward, terminated, truncated, info

    def render(self) -> Any:
        if self.render_mode != "rgb_array":
            return self.env.render()
        if self._frame is None:
            raise ValueError("call reset() before render()")
        return np.repeat(self._frame, 3, axis=-1) if self._frame.shape[-1] == 1 else self._frame.copy()

    def _observe(self, frame: Frame, info: dict[str, Any]) -> tuple[Frame, dict[str, Any]]:
        assert self._state is not None
        coverage, backdrop = self._scene(frame) if self.layers.need_coverage else (None, 0)
        batch = None if coverage is None else coverage[None]
        self._frame = self.layers.apply(frame[None], batch, backdrop, self._state)[0]
        factors = {name: array[0].copy() for name, array in self.layers.factors(self._state).items()}
        return self._frame.copy(), {**info, "factors": {**info.get("factors", {}), **factors}}

    def _scene(self, frame: Frame) -> tuple[NDArray[np.float32], ArrayLike]:
        """How much of each pixel the scene covers [H, W, 1], and what is behind it, in the channels of the frame."""
        if self.key_colour is not None:
            return (~keyed(frame, self.key_colour, self.tolerance))[..., None].astype(np.float32), frame
        coverage, backdrop = self.env.get_wrapper_attr("scene")()
        backdrop = np.asarray(backdrop, np.float32)
        if backdrop.shape[-1] == 3 and frame.shape[-1] == 1:
            backdrop = backdrop @ np.array(GREY, np.float32)[:, None]
        return coverage, backdrop

    def _factor_space(self) -> spaces.Dict:
        own = self.layers.factor_space
        inner = self.env.get_wrapper_attr("factor_space").spaces if self.env.has_wrapper_attr("factor_space") else {}
        if clash := (inner.keys() & own.keys()) - {"background"}:
            raise ValueError(f"{self.env} and its distractors both have factors named {sorted(clash)}")
        return spaces.Dict({**inner, **own})


def checked_colour(colour: Sequence[int]) -> NDArray[np.uint8]:
    """A colour as an array [3].

    Raises:
        ValueError: it is not three integers from 0 to 255.
    """
    try:
        array = np.array([int(value) for value in colour])
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (3,) or array.min() < 0 or array.max() > 255 or array.tolist() != list(colour):
        raise ValueError(f"key_colour must be (r, g, b), three integers from 0 to 255; got {colour!r}")
    return array.astype(np.uint8)


def keyed(image: Frame, key_colour: NDArray[np.uint8], tolerance: int) -> NDArray[np.bool_]:
    """Which pixels of a picture [H, W, 3] show its backdrop: all channels within ``tolerance`` of the key: [H, W].

    A grey picture [H, W, 1] is compared with the grey that the key becomes.
    """
    key = key_colour.astype(np.int16)
    if image.shape[-1] == 1:
        key = np.array([int(np.sum(key * np.array(GREY)))], np.int16)
    return (np.abs(image.astype(np.int16) - key) <= tolerance).all(axis=-1)
