"""The returns of acting without having learned anything, on the episodes that policies are evaluated on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.policies.pixels import Pixels
from agents.policies.vec_env import ObservedVecEnv
from jepa_worlds.data.environments import make_worlds
from jepa_worlds.policies.downstream import STARTS, Training


def random_returns(training: Training) -> list[float]:
    """The returns of random actions on the episodes that policies are evaluated on."""
    worlds = _evaluated(training)
    worlds.action_space.seed(training.seed)
    return _returns(worlds, worlds.action_space.sample)


def idle_returns(training: Training) -> list[float] | None:
    """The returns of no action, 0, on the same episodes; None where actions are choices, or 0 is none of them."""
    worlds = _evaluated(training)
    space = worlds.action_space
    idle = np.zeros(space.shape or (), space.dtype)
    if isinstance(space, spaces.Box) and space.contains(idle):
        return _returns(worlds, lambda: idle)
    worlds.close()
    return None


def _evaluated(training: Training) -> ObservedVecEnv:
    """The episodes that policies are evaluated on."""
    worlds = ObservedVecEnv(
        make_worlds(training.task, training.episodes, held_out=True, trust=training.trust), Pixels()
    )
    worlds.seed(STARTS)
    return worlds


def _returns(worlds: ObservedVecEnv, action: Callable[[], NDArray]) -> list[float]:
    worlds.reset()
    returns, going = np.zeros(worlds.num_envs), np.ones(worlds.num_envs, bool)
    while going.any():
        _, rewards, dones, _ = worlds.step(np.stack([action() for _ in going]))
        returns += np.where(going, rewards, 0)
        going &= ~dones
    worlds.close()
    return [float(x) for x in returns]
