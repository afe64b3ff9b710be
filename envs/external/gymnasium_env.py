"""Any environment that is registered with Gymnasium."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from envs.external.extras import EXTRAS, advice, load, require
from envs.external.frames import is_image
from envs.external.gl import choose_backend, dropped, simplify, uncollected
from envs.external.pixels import PixelEnv
from envs.external.vector import vectorised
from envs.registry import NAMESPACE

ID = f"{NAMESPACE}/Gymnasium-v0"
VIEW = set(inspect.signature(PixelEnv).parameters) - {"env", "size"}


class GymnasiumEnv(PixelEnv, EzPickle):
    """A registered environment from pixels, its observation as factors: see `PixelEnv` and `envs.external.frames`.

    Its registered limit of steps stays in force. A pickled copy begins anew: few environments can be pickled as they
    are. Of a seed it gets the last 31 bits: many take no more.

    Args:
        env_id: the id, before which the module that registers it and a colon may stand, or the specification.
        module: imported first, to register it.
        fast, keep: of Gymnasium's MuJoCo environments, as in `envs.external.dm_control_env.SuiteTask`; they are
            rendered at the size of a frame, unless their own ``width`` and ``height`` are given.
        kwargs: those that `PixelEnv` takes go there, the others to the environment.

    Raises:
        ValueError: it has no pixels, or a package that it needs is absent.
        gymnasium.error.Error: there is no such id.
    """

    def __init__(
        self,
        env_id: str | EnvSpec,
        module: str | None = None,
        fast: bool = True,
        keep: Sequence[str] = (),
        size: int = 64,
        **kwargs: Any,
    ) -> None:
        EzPickle.__init__(self, env_id, module, fast, keep, size, **kwargs)
        if module is not None:
            load(module, f"env_id={env_id!r}")
        view = {name: kwargs.pop(name) for name in VIEW & kwargs.keys()}
        env = _made(env_id, kwargs)
        if hasattr(env.unwrapped, "mujoco_renderer"):
            _prepare_mujoco(env.unwrapped, None if kwargs.keys() & {"width", "height"} else size, dropped(fast, keep))
            env = InItsContext(env)
        super().__init__(env, size, **view)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        return super().reset(seed=seed if seed is None or seed < 0 else seed % 2**31, options=options)


class InItsContext(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's MuJoCo environments draw into whichever OpenGL context was used last; these into their own."""

    def render(self) -> Any:
        with uncollected():
            self.unwrapped.mujoco_renderer._get_viewer("rgb_array").make_context_current()  # type: ignore[attr-defined]
            return self.env.render()


def make_vec(num_envs: int, env_id: str | EnvSpec, module: str | None = None, **kwargs: Any) -> Any:
    """Many in worker processes. Takes what `GymnasiumEnv` and `envs.external.vector.vectorised` do."""
    if module is not None:
        load(module, f"env_id={env_id!r}")
    # Workers are given the specification: an id that was registered by a script is known to this process alone.
    return vectorised(ID, num_envs, env_id=_spec(env_id), module=module, **kwargs)


def _spec(env_id: str | EnvSpec) -> EnvSpec:
    """What is registered under an id; the module before its colon, if it has one, is imported first."""
    if not isinstance(env_id, str):
        return env_id
    module, _, name = env_id.rpartition(":")
    if module:
        load(module, f"env_id={env_id!r}")
    return gymnasium.spec(name)


def _made(env_id: str | EnvSpec, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """The environment, able to render where it can."""
    spec = _spec(env_id)
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or pygame complains that there is no display
    if str(spec.entry_point).startswith("gymnasium.envs.mujoco"):
        require("mujoco", f"env_id={spec.id!r}")
        choose_backend()
    try:
        creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
        modes = getattr(creator, "metadata", {}).get("render_modes", [])
        if renders := "rgb_array" in modes:
            kwargs = {"render_mode": "rgb_array", **kwargs}
        env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
        if renders and not is_image(env.observation_space) and not hasattr(env.unwrapped, "mujoco_renderer"):
            env.reset()
            env.render()  # some import what they draw with no sooner
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        hint = next((f": {advice(package)}" for package in EXTRAS if package in str(error)), "")
        raise ValueError(f"env_id={spec.id!r} needs a package that does not import: {error}{hint}") from error
    except TypeError as error:
        said = str(error).split(" was raised from")[0]
        raise ValueError(f"env_id={spec.id!r} cannot be made with {kwargs}: {said}") from error
    return env


def _prepare_mujoco(env: Any, size: int | None, effects: set[str]) -> None:
    """Choose what MuJoCo renders with, how large and how prettily."""
    choose_backend()
    renderer = env.mujoco_renderer
    if size is not None:
        renderer.width = renderer.height = size
    with uncollected():  # this makes its context
        simplify(renderer, env.model, effects)


gymnasium.register(id=ID, entry_point=f"{__name__}:GymnasiumEnv", vector_entry_point=f"{__name__}:make_vec")
