"""An environment of another library, seen as the worlds of this package are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, GrayscaleObservation
from numpy.typing import NDArray

from envs.arguments import check_types, require_whole
from envs.distractors.core import Distractor
from envs.distractors.wrapper import Distracted
from envs.external.frames import Frames
from envs.external.gl import VARIABLE
from envs.external.repeat import ActionRepeat


class PixelEnv(gymnasium.Env[NDArray[np.uint8], Any]):
    """What `envs.faces.WorldEnv` is to a world of this package, for an environment of another library.

    Observation: uint8 [size, size, C], the last ``frame_stack`` frames along the channels, oldest first (at the start
    the first frame is repeated). ``info["factors"]`` holds the ground truth, described by ``factor_space``.

    Args:
        env: the environment, rendering rgb_array or observing images.
        size: side of a frame in px.
        grey: one channel in place of three.
        frame_stack: how many frames an observation is made of.
        action_repeat: how many times an action is taken; the rewards are added up.
        key_colour, tolerance, info_factors: as in `envs.external.frames.Frames`.
        render_mode: None or ``"rgb_array"``: the newest frame that the agent saw, as [H, W, 3].
        distractor: one or several, added to the frames.
        held_out: whether distractors show the pictures kept for held-out episodes.

    Attributes:
        render_backend: what drew the pixels: MuJoCo's OpenGL backend, or ``"rgb_array"`` for the environment's own way.

    Raises:
        ValueError: an argument out of range, an environment without pixels.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        size: int = 64,
        grey: bool = False,
        frame_stack: int = 1,
        action_repeat: int = 1,
        key_colour: Sequence[int] | None = None,
        tolerance: int = 0,
        info_factors: Sequence[str] = (),
        render_mode: str | None = None,
        distractor: Distractor | Sequence[Distractor] = (),
        held_out: bool = False,
    ) -> None:
        check_types(PixelEnv.__init__, {"grey": grey, "tolerance": tolerance, "held_out": held_out})
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        require_whole(frame_stack=frame_stack)
        seen: gymnasium.Env[Any, Any] = Frames(
            ActionRepeat(env, action_repeat), size, key_colour, tolerance, info_factors
        )
        self.distracted = Distracted(GrayscaleObservation(seen, keep_dim=True) if grey else seen, distractor, held_out)
        self.env = FrameStackObservation(self.distracted, frame_stack) if frame_stack > 1 else self.distracted
        self.render_mode = render_mode
        fps = env.metadata.get("render_fps") or 30
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(fps / action_repeat))}
        channels = (1 if grey else 3) * frame_stack
        self.observation_space = spaces.Box(0, 255, (size, size, channels), np.uint8)
        self.action_space = env.action_space
        self.factor_space = self.distracted.factor_space
        self.distractors = self.distracted.distractors
        by_mujoco = hasattr(env.unwrapped, "mujoco_renderer") or hasattr(env.unwrapped, "labels")
        self.render_backend = os.environ.get(VARIABLE, "default") if by_mujoco else "rgb_array"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        frames, info = self.env.reset(seed=seed, options=options)
        return self._merged(frames), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        frames, reward, terminated, truncated, info = self.env.step(action)
        return self._merged(frames), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> NDArray[np.uint8] | None:
        return None if self.render_mode is None else self.distracted.render()

    def close(self) -> None:
        self.env.close()

    def _merged(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[k, H, W, C] -> [H, W, k·C]; a single frame [H, W, C] is left alone."""
        if frames.ndim == 3:
            return frames
        return np.moveaxis(frames, 0, 2).reshape(self.observation_space.shape)
