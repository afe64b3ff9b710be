"""Environments of other libraries side by side, in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from envs.arguments import require_whole
from envs.external.gl import VARIABLE

EnvFns = Sequence[Callable[[], gymnasium.Env]]


def vectorised(
    name: str,
    num_envs: int,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    processes: bool = True,
    **kwargs: Any,
) -> VectorEnv:
    """``num_envs`` environments of a registered id, each in a process of its own, frames in shared memory.

    Args:
        name: the id, of this package.
        max_episode_steps: steps until an episode is truncated; None or -1 for the environment's own limit.
        autoreset_mode: as in `envs.vector_face.WorldVectorEnv`.
        processes: False for all in this process; a single one always is.
        kwargs: of the environment.

    Raises:
        ValueError: no environments.
    """
    require_whole(num_envs=num_envs)
    make = partial(_make, name, max_episode_steps, kwargs)
    if num_envs == 1 or not processes:
        return InThisProcess([make] * num_envs, autoreset_mode=autoreset_mode)
    return InWorkers([make] * num_envs, autoreset_mode=autoreset_mode)


class InThisProcess(SyncVectorEnv):
    """Gymnasium's `SyncVectorEnv`, and what this package adds to an environment."""

    def __init__(self, env_fns: EnvFns, **kwargs: Any) -> None:
        super().__init__(env_fns, **kwargs)
        self.factor_space = self.envs[0].unwrapped.factor_space  # type: ignore[attr-defined]
        self.render_backend = self.envs[0].unwrapped.render_backend  # type: ignore[attr-defined]


class InWorkers(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv`, and what this package adds to an environment.

    Workers are never forked from this process, whose threads and OpenGL contexts would not survive in them.
    """

    def __init__(self, env_fns: EnvFns, **kwargs: Any) -> None:
        single = env_fns[0]()  # here, so that what is wrong with it is said here, and rendering is chosen once
        self.factor_space = single.unwrapped.factor_space  # type: ignore[attr-defined]
        self.render_backend = single.unwrapped.render_backend  # type: ignore[attr-defined]
        single.close()
        # One process a core: rendering needs no threads of its own, neither Mesa's nor dm_control's.
        environ = {"LP_NUM_THREADS": "0", "DISABLE_RENDER_THREAD_OFFLOADING": "1"}
        environ |= {key: os.environ[key] for key in (VARIABLE,) if key in os.environ}
        context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        if context == "forkserver":
            multiprocessing.get_context(context).set_forkserver_preload([__name__])  # imported once for all workers
        with _main_left_out():
            super().__init__([partial(_in_worker, environ, fn) for fn in env_fns], context=context, **kwargs)


def _make(name: str, max_episode_steps: int | None, kwargs: dict[str, Any]) -> gymnasium.Env:
    return gymnasium.make(name, max_episode_steps=max_episode_steps, disable_env_checker=True, **kwargs)


def _in_worker(environ: dict[str, str], make: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    for key, value in environ.items():
        os.environ.setdefault(key, value)
    return make()


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Processes that are started inside do not import the script that this one runs.

    They have no use for it (what they need is pickled, by value if it is defined there), it may be slow to import, and
    one without ``if __name__ == "__main__"`` would start itself over and over.
    """
    main: Any = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    main.__spec__ = None
    vars(main).pop("__file__", None)
    try:
        yield
    finally:
        vars(main).update(kept)
