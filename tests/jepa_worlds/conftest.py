"""What the tests of `jepa_worlds` share. No `__init__.py` here: it would shadow the real package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs import random
from envs.core import World
from envs.registry import register
from jepa_worlds import collect
from jepa_worlds.shared.app import composed


def _collect(out: Path | str, *overrides: str) -> Path:
    return collect.main(composed("collect", ["episodes=20", "episode_length=5", *overrides, f"out={out}"]))


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is interrupted in this process silences what fails as it ends; the next test hears it again."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.fixture(scope="session")
def dataset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MovingDot dataset over static uniform noise: 48 episodes of 16 steps (38 train, 5 validation, 5 test)."""
    noise = ["distractor=uniform", "distractor.dynamics=static"]
    return _collect(tmp_path_factory.mktemp("datasets") / "static", *noise, "episodes=48", "episode_length=16")


@pytest.fixture(scope="session")
def collect_to() -> Callable[..., Path]:
    """``collect_to(out, "seed=1", …)``: the collect command in this process, by default for 20 episodes of 5 steps."""
    return _collect


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """``contents(folder)``: every file in a folder, hidden ones included, by its path in there."""
    return lambda folder: {str(x.relative_to(folder)): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


@pytest.fixture
def run_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_command("collect", "episodes=0", cwd=…, env={…})``: ``python -m jepa_worlds.collect episodes=0``.

    The process runs in ``tmp_path`` unless told otherwise; ``env`` is added to the environment.
    """

    def run(
        module: str, *overrides: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"jepa_worlds.{module}", *overrides],
            cwd=cwd or tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


class Race(World):
    """A counter that its actions move to a goal: episodes that end early, with discrete actions and scalar factors."""

    def __init__(self) -> None:
        self.frame_shape = (4, 6, 3)
        self.action_space = spaces.Discrete(3)
        self.factor_space = spaces.Dict(
            {"position": spaces.Box(0, np.inf, (), np.float32), "goal": spaces.Box(1, 9, (), np.float32)}
        )

    def initial(self, key):
        return {"position": np.zeros(len(key)), "goal": 1.0 + random.integers(random.fold_in(key, 0), 9)}

    def transition(self, state, action):
        return {**state, "position": state["position"] + action}

    def render(self, state):
        frames = np.zeros((len(state["goal"]), *self.frame_shape), np.uint8)
        frames[..., 0], frames[..., 1] = (state[name][:, None, None] for name in ("position", "goal"))
        return frames

    def factors(self, state):
        return {name: state[name].astype(np.float32) for name in ("position", "goal")}

    def reward(self, state, action, next_state):
        return next_state["position"] + 0.5 * action

    def terminated(self, state):
        return state["position"] >= state["goal"]


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides that collect from `Race`, which is registered for the length of a test."""
    module = ModuleType("race_of_the_tests")
    module.Race = Race  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Race, "__module__", module.__name__)
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    register("TestRace-v0", Race, max_episode_steps=6)
    return ["env.id=jepa_worlds/TestRace-v0", "~env.size", "~env.sigma", "~env.max_step", "behaviour=uniform"]
