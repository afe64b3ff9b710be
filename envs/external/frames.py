"""Frames of one size from whatever an environment shows, and factors from what it observes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AddRenderObservation
from numpy.typing import NDArray

from envs.arguments import require_whole
from envs.core import Factors
from envs.distractors.wrapper import checked_colour, keyed
from envs.external.gl import foreground, labels_of_viewer

STATE, RENDERED = "state", "rendered"  # the keys that AddRenderObservation is told to use
VECTORS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Frames(gymnasium.Wrapper[NDArray[np.uint8], Any, Any, Any]):
    """Observations are frames [size, size, 3]: what the environment observes if that is an image, else what it renders.

    Resized by averaging areas (Gymnasium's own wrapper would need OpenCV). What the environment observed beside goes to
    ``info["factors"]``, flattened: ``state`` where it is one vector, each entry by its name where it is a dictionary,
    and ``positions`` (qpos) and ``velocities`` (qvel) of Gymnasium's MuJoCo environments.

    Args:
        env: observes an image or has render_mode="rgb_array".
        size: side of a frame in px.
        key_colour, tolerance: of the backdrop, as in `envs.distractors.wrapper.Distracted`; in the picture before it
            is resized.
        info_factors: entries of ``info`` that are factors too.

    Raises:
        ValueError: an environment without pixels, a size that is not positive, no such entries of ``info``.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        size: int,
        key_colour: Sequence[int] | None = None,
        tolerance: int = 0,
        info_factors: Sequence[str] = (),
    ) -> None:
        require_whole(size=size)
        self.observes_image = is_image(env.observation_space)
        if not self.observes_image:
            env = _with_rendering(env)
        super().__init__(env)
        self.size, self.tolerance, self.info_factors = size, tolerance, tuple(info_factors)
        self.key_colour = None if key_colour is None else checked_colour(key_colour)
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        by_mujoco = hasattr(env.unwrapped, "mujoco_renderer") and not self.observes_image
        self._joints: Any = env.unwrapped.data if by_mujoco else None  # type: ignore[attr-defined]
        self.factor_space = self._factor_space()
        self._image: NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        return self._observe(*self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> tuple[NDArray[np.uint8], SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        frame, info = self._observe(observation, info)
        return frame, reward, terminated, truncated, info

    def scene(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How much of each pixel of the present frame the scene covers [H, W, 1], and what is behind it [H, W, 3].

        A frame is coverage·scene + (1 − coverage)·backdrop.

        Raises:
            ValueError: this environment has no way to tell.
        """
        assert self._image is not None
        behind = (~self._in_front()).astype(np.float32)
        bare = shrunk(behind, self.size)
        channels = [shrunk(behind * self._image[..., c], self.size) for c in range(3)]
        backdrop = np.stack(channels, axis=-1) / np.maximum(bare, 1e-6)[..., None]
        return (1 - bare)[..., None], backdrop.astype(np.float32)

    def _in_front(self) -> NDArray[np.bool_]:
        """Which pixels of the picture, before it is resized, show the scene."""
        if self.key_colour is not None:
            assert self._image is not None
            return ~keyed(self._image, self.key_colour, self.tolerance)
        inner: Any = self.unwrapped
        if hasattr(inner, "labels"):  # [H, W, 2], as MuJoCo's segmentation gives them
            return foreground(inner.labels(), inner.model)
        if hasattr(inner, "mujoco_renderer"):
            renderer = inner.mujoco_renderer
            return foreground(labels_of_viewer(renderer._get_viewer("rgb_array"), renderer.camera_id), inner.model)
        raise ValueError(
            f"{inner} does not tell what its scene covers: give key_colour=(r, g, b), the colour of its backdrop, or "
            f"choose blend=add or blend=over"
        )

    def _observe(self, observation: Any, info: dict[str, Any]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        image = np.asarray(observation if self.observes_image else observation[RENDERED])
        self._image = image if image.ndim == 3 and image.shape[-1] == 3 else _coloured(image)
        factors = {name: np.asarray(info[name], np.float32).reshape(-1) for name in self.info_factors}
        if not self.observes_image:
            factors |= self._factors(observation)
        return resized(self._image, self.size), {**info, "factors": factors}

    def _factors(self, observation: dict[str, Any]) -> Factors:
        observed = self.env.observation_space
        assert isinstance(observed, spaces.Dict)
        factors = {
            name: np.asarray(spaces.flatten(space, observation[name]), np.float32)
            for name, space in observed.spaces.items()
            if name in self.factor_space.spaces
        }
        if self._joints is not None:
            factors |= {
                "positions": self._joints.qpos.astype(np.float32),
                "velocities": self._joints.qvel.astype(np.float32),
            }
        return factors

    def _factor_space(self) -> spaces.Dict:
        found: dict[str, spaces.Space] = {}
        if isinstance(self.env.observation_space, spaces.Dict) and not self.observes_image:
            for name, space in self.env.observation_space.spaces.items():
                if isinstance(space, VECTORS) and not is_image(space):
                    flat = spaces.flatten_space(space)
                    assert isinstance(flat, spaces.Box)
                    found[name] = spaces.Box(flat.low.astype(np.float32), flat.high.astype(np.float32))
        if self._joints is not None:
            found |= {"positions": _unbounded(self._joints.qpos.size), "velocities": _unbounded(self._joints.qvel.size)}
        if self.info_factors:
            _, info = self.env.reset()
            for name in self.info_factors:
                if name not in info:
                    raise ValueError(f"info_factors: {self.unwrapped} has no {name!r} in its info, only {sorted(info)}")
                found[name] = _unbounded(np.asarray(info[name], np.float32).size)
        return spaces.Dict(found)


def is_image(space: spaces.Space) -> bool:
    """Whether a space is one of pictures: uint8, from 0 to 255, [H, W], [H, W, 1] or [H, W, 3]."""
    if not (isinstance(space, spaces.Box) and space.dtype == np.uint8):
        return False
    shaped = len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[-1] in (1, 3))
    return shaped and bool((space.low == 0).all() and (space.high == 255).all())


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture [H, W, 3] as [size, size, 3], each pixel the mean of the area that it stands for."""
    from PIL import Image

    if image.shape[:2] == (size, size):
        return image.copy()
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def shrunk(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The same for one channel of real numbers, [H, W] -> [size, size]."""
    from PIL import Image

    if image.shape == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def _with_rendering(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    if env.render_mode != "rgb_array":
        modes = env.metadata.get("render_modes", [])
        raise ValueError(
            f"{env} has no pixels: it does not observe an image, and its render_modes {modes} lack rgb_array"
        )
    return AddRenderObservation(env, render_only=False, render_key=RENDERED, obs_key=STATE)


def _coloured(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = image.reshape(*image.shape[:2], 1)
    return np.repeat(grey, 3, axis=-1)


def _unbounded(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)
