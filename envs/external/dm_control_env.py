"""Tasks of the DeepMind Control Suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from envs.core import Factors
from envs.external.extras import load, require
from envs.external.gl import choose_backend, dropped
from envs.external.pixels import PixelEnv
from envs.external.vector import vectorised
from envs.registry import NAMESPACE

ID = f"{NAMESPACE}/DMControl-v0"


class SuiteTask(gymnasium.Env[Factors, NDArray[np.float32]]):
    """A task of `dm_control.suite` as a `gymnasium.Env` that observes what the task does and renders rgb_array.

    All that is random in an episode follows from one draw of ``np_random`` at its beginning. The end of an episode is
    its truncation if dm_control's discount is still 1 (the time limit), else its termination.

    Args:
        domain, task: as in ``dm_control.suite.load``, such as walker, walk.
        size: side of a picture in px.
        camera_id: number or name of the camera; −1 is the free one.
        fast: render without `envs.external.gl.EFFECTS`: some twenty times faster in software, before a plain
            background.
        keep: those to keep nevertheless.

    Raises:
        ValueError: an unknown domain, task, camera or effect; dm_control is absent, or nothing renders.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as Gymnasium declares it)
    render_mode = "rgb_array"

    def __init__(
        self, domain: str, task: str, size: int, camera_id: int | str, fast: bool, keep: Sequence[str]
    ) -> None:
        self._dropped = dropped(fast, keep)
        suite = _suite()
        tasks = suite.TASKS_BY_DOMAIN
        if domain not in tasks:
            raise ValueError(f"unknown domain={domain!r}: dm_control.suite has {', '.join(tasks)}")
        if task not in tasks[domain]:
            raise ValueError(f"unknown task={task!r}: dm_control's {domain} has {', '.join(tasks[domain])}")
        self.name, self.size, self.camera_id = f"{domain}-{task}", size, camera_id
        self._task = suite.load(domain, task, task_kwargs={"random": 0})  # models that are random are all the same one
        spec = self._task.action_spec()
        self.action_space = spaces.Box(spec.minimum.astype(np.float32), spec.maximum.astype(np.float32))
        shapes = {name: array.shape for name, array in self._task.observation_spec().items()}
        self.observation_space: Any = spaces.Dict(
            {name: spaces.Box(-np.inf, np.inf, shape, np.float32) for name, shape in shapes.items()}
        )
        self.metadata = {**type(self).metadata, "render_fps": round(1 / self._task.control_timestep())}
        self._camera = self._built_camera()

    @property
    def model(self) -> Any:
        """The MuJoCo model."""
        return self._task.physics.model

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Factors, dict[str, Any]]:
        super().reset(seed=seed)
        self._task.task.random.seed(int(self.np_random.integers(2**32)))
        return self._observed(self._task.reset()), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Factors, float, bool, bool, dict[str, Any]]:
        step = self._task.step(np.asarray(action, np.float64))
        over, reward = step.last(), float(step.reward or 0.0)
        return self._observed(step), reward, over and step.discount == 0, over and step.discount != 0, {}

    def render(self) -> NDArray[np.uint8]:
        flags = dict.fromkeys(self._dropped - {"multisampling"}, False)
        return self._camera.render(render_flag_overrides=flags).copy()

    def labels(self) -> NDArray[np.int32]:
        """(object id, object type) of each pixel [size, size, 2]; (−1, −1) is the void."""
        return self._camera.render(segmentation=True)

    def close(self) -> None:
        self._task.close()

    def __str__(self) -> str:
        return f"dm_control {self.name}"

    def _observed(self, step: Any) -> Factors:
        return {name: np.array(value, np.float32) for name, value in step.observation.items()}

    def _built_camera(self) -> Any:
        """A camera that stays: with ``physics.render`` every frame would build a new one, which takes longer."""
        from dm_control.mujoco.engine import Camera

        if "multisampling" in self._dropped:
            self.model.vis.quality.offsamples = 0
        buffer = self.model.vis.global_
        buffer.offwidth, buffer.offheight = max(buffer.offwidth, self.size), max(buffer.offheight, self.size)
        names = [self.model.id2name(i, "camera") for i in range(self.model.ncam)]
        if self.camera_id not in names and self.camera_id not in range(-1, len(names)):
            raise ValueError(
                f"{self} has no camera_id={self.camera_id!r}: it has {names}, numbered from 0, and −1, the free one"
            )
        return Camera(self._task.physics, self.size, self.size, camera_id=self.camera_id)


class DMControlEnv(PixelEnv, EzPickle):
    """A task of the DeepMind Control Suite from pixels; factors are its observations, by their names.

    A pickled copy begins anew: MuJoCo's state is not in it.

    Args:
        domain, task, camera_id, fast, keep: as in `SuiteTask`.
        size: side of a frame in px.
        kwargs: as in `PixelEnv`.
    """

    def __init__(
        self,
        domain: str,
        task: str,
        camera_id: int | str = 0,
        fast: bool = True,
        keep: Sequence[str] = (),
        size: int = 64,
        **kwargs: Any,
    ) -> None:
        EzPickle.__init__(self, domain, task, camera_id, fast, keep, size, **kwargs)
        super().__init__(SuiteTask(domain, task, size, camera_id, fast, keep), size, **kwargs)


def make_vec(num_envs: int, **kwargs: Any) -> gymnasium.vector.VectorEnv:
    """Many in worker processes. Takes what `DMControlEnv` and `envs.external.vector.vectorised` do."""
    return vectorised(ID, num_envs, **kwargs)


def _suite() -> Any:
    """`dm_control.suite`, which chooses how to render as soon as it is imported."""
    wanted_by = "jepa_worlds/DMControl-v0"
    require("dm_control", wanted_by)
    backend = choose_backend()
    suite = load("dm_control.suite", wanted_by)
    chosen = getattr(sys.modules.get("dm_control._render"), "BACKEND", None)
    if backend not in (chosen, "default"):
        raise ValueError(
            f"dm_control was imported before and renders with {chosen!r}, but {backend!r} is what works here: set "
            f"MUJOCO_GL={backend} before it is imported"
        )
    return suite


gymnasium.register(id=ID, entry_point=f"{__name__}:DMControlEnv", vector_entry_point=f"{__name__}:make_vec")
