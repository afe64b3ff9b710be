"""What the tests of other libraries' environments share."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import pytest

from envs.external import gl


@pytest.fixture(scope="session")
def renders() -> None:
    """Skips a test where MuJoCo cannot render."""
    pytest.importorskip("mujoco", reason='needs MuJoCo: pip install "jepa_worlds[control]"')
    if not any(said == gl.OK for said in gl.backends().values()):
        pytest.skip(f"needs OpenGL: {gl.APT} ({gl.backends()})")


@pytest.fixture(scope="session")
def dm_control(renders: None) -> None:
    """Skips a test where dm_control is absent or cannot render."""
    pytest.importorskip("dm_control", reason='needs dm_control: pip install "jepa_worlds[control]"')
    gl.choose_backend()


@pytest.fixture(scope="session")
def pygame() -> None:
    """Skips a test where Gymnasium's classic control cannot draw."""
    pytest.importorskip("pygame", reason='needs pygame: pip install "jepa_worlds[classic]"')


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
