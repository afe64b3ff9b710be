"""Acting without having learned anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.policies.true_state import TrueState
from agents.policies.vec_env import ObservedVecEnv
from jepa_worlds.data.environments import make_worlds
from jepa_worlds.policies.downstream import STARTS, Training
from jepa_worlds.policies.floors import idle_returns, random_returns
from jepa_worlds.shared.app import composed, plain


def training(folder: Path, env: str = "moving_dot_reach") -> Training:
    settings = plain(composed("evaluate", ["run=x", f"env={env}", "env.size=16", "distractor=none"]))
    task = {"env": settings["env"], "distractor": {}, "episode_length": 5}
    given = {"sees": {"state": ["location"]}, "finetune": None, "timesteps": 40, "evaluations": 4, "episodes": 3}
    return Training(folder=str(folder), seed=0, task=task, policy=settings["policy"], **given)


def test_random_returns__are_of_the_episodes_that_policies_are_evaluated_on(tmp_path: Path) -> None:
    found = random_returns(training(tmp_path))
    assert found == random_returns(training(tmp_path / "other")) and len(found) == 3
    assert found != random_returns(replace(training(tmp_path), seed=1))
    worlds = ObservedVecEnv(make_worlds(training(tmp_path).task, 3, held_out=True), TrueState(["location"]))
    worlds.seed(STARTS)
    worlds.action_space.seed(0)
    worlds.reset()
    total = sum(worlds.step(np.stack([worlds.action_space.sample() for _ in range(3)]))[1] for _ in range(5))
    np.testing.assert_allclose(found, total, rtol=1e-6)


def test_idle_returns__are_of_actions_that_do_nothing(tmp_path: Path) -> None:
    found = idle_returns(training(tmp_path))
    worlds = ObservedVecEnv(make_worlds(training(tmp_path).task, 3, held_out=True), TrueState(["location"]))
    worlds.seed(STARTS)
    worlds.reset()
    _, rewards, _, _ = worlds.step(np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(found, 5 * rewards, rtol=1e-6)  # the dot stays, and its goal as far away as it is
    assert len(set(rewards)) == 3


def test_idle_returns__there_are_none_of_choices(tmp_path: Path) -> None:
    assert idle_returns(training(tmp_path, "acrobot")) is None
