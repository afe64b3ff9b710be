"""What the tests of other libraries' environments share."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import pytest


@pytest.fixture(scope="session")
def rollout() -> Callable[..., list]:
    """``rollout(env, steps, seed)``: all that an environment, single or vector, returns under random actions."""

    def run(env: gymnasium.Env, steps: int, seed: int) -> list:
        env.action_space.seed(0)
        seen: list = [env.reset(seed=seed)]
        for _ in range(steps):
            seen.append(env.step(env.action_space.sample()))
            if isinstance(env, gymnasium.Env) and (seen[-1][2] or seen[-1][3]):
                seen.append(env.reset())
        return seen

    return run
