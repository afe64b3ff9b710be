"""How fast environments are, through Gymnasium's interface."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from gymnasium.vector import VectorEnv

import envs as _envs  # noqa: F401  registers the environments


def rate(count: int, seconds: float, function: Callable[..., object], *arguments: Any) -> float:
    """How many of ``count`` things a call are done a second, over ``seconds`` and 3 calls at least, after a first."""
    function(*arguments)
    started, calls, took = time.perf_counter(), 0, 0.0
    while took < seconds or calls < 3:
        function(*arguments)
        calls, took = calls + 1, time.perf_counter() - started
    return count * calls / took


def frames_per_second(env: VectorEnv, seconds: float) -> float:
    """Frames a second under random actions, resets too; closes the environment."""
    try:
        env.reset(seed=0)
        env.action_space.seed(0)
        actions = itertools.cycle([env.action_space.sample() for _ in range(32)])
        return rate(env.num_envs, seconds, lambda: env.step(next(actions)))
    finally:
        env.close()
