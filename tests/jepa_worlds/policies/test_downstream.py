"""Training of one policy: every algorithm, taken up where it stopped, kept as Stable-Baselines3 keeps it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from agents.policies.vec_env import ObservedVecEnv
from jepa_worlds.data.environments import make_worlds
from jepa_worlds.policies import downstream
from jepa_worlds.policies.downstream import STARTS, Evaluation, Training, train_policy, trained
from jepa_worlds.policies.saved import make_observer, read_policy_card, recover, written
from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.files import Plain

SMALL = {
    "ppo": ["policy.arguments.n_steps=4", "policy.arguments.batch_size=8", "policy.arguments.n_epochs=1"],
    **{name: [f"policy.arguments.{x}=8" for x in ("learning_starts", "batch_size")] for name in ("sac", "td3", "dqn")},
}


def training(folder: Path, algorithm: str = "ppo", **changed: Any) -> Training:
    """A policy that sees the true state of small worlds."""
    world = ["env=acrobot", "env.size=16"] if algorithm == "dqn" else ["env=moving_dot_reach", "env.size=16"]
    overrides = ["run=x", *world, "distractor=none", f"policy={algorithm}", "policy.num_envs=2", *SMALL[algorithm]]
    settings = plain(composed("evaluate", [*overrides, "policy.arguments.policy_kwargs.net_arch=[8]"]))
    task = {"env": settings["env"], "distractor": {}, "episode_length": 5}
    names = ["location"] if algorithm != "dqn" else ["angle.elbow", "angle.shoulder"]
    given: Plain = {"sees": {"state": names}, "finetune": None, "timesteps": 40, "evaluations": 4, "episodes": 3}
    return Training(folder=str(folder), seed=0, task=task, policy=settings["policy"], **{**given, **changed})


@pytest.mark.parametrize(
    ("algorithm", "sees", "device"),
    [("ppo", {"latents": "x"}, "cpu"), ("ppo", {"pixels": 1}, "cuda"), ("sac", {"latents": "x"}, "cuda")],
)
def test_policy_device__is_a_gpu_for_what_is_large_or_learns_from_a_buffer(
    tmp_path: Path, algorithm: str, sees: Plain, device: str
) -> None:
    assert training(tmp_path, algorithm, sees=sees, device="cuda").policy_device == device


def curve(folder: Path) -> Plain:
    return dict(json.loads((folder / "curve.json").read_text()))


def silent(_: float) -> None:
    """No progress is shown."""


def stopped_after(steps: int) -> Callable[[float], None]:
    """A report that is interrupted."""
    done = 0.0

    def report(work: float) -> None:
        nonlocal done
        done += work
        if done > steps:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("algorithm", list(SMALL))
def test_train_policy__goes_on_where_it_was_stopped(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "SAVING", math.inf)  # a checkpoint after every evaluation
    plan = training(tmp_path / "policy", algorithm)
    with pytest.raises(KeyboardInterrupt):
        train_policy(plan, stopped_after(26))
    before = json.loads((tmp_path / "policy" / "checkpoint" / "curve.json").read_text())
    assert before["steps"] == [0, 10, 20] and trained(plan) == 20
    assert not (tmp_path / "policy" / "curve.json").exists()
    begun: list[tuple[int, int, float]] = []

    def spied(self: Evaluation) -> None:
        model = self.model
        seen = model.replay_buffer.size() * model.n_envs if isinstance(model, OffPolicyAlgorithm) else 0
        normaliser = model.get_vec_normalize_env()
        assert normaliser is not None
        begun.append((model.num_timesteps, seen, normaliser.ret_rms.count))
        started(self)

    started = Evaluation._on_training_start
    monkeypatch.setattr(Evaluation, "_on_training_start", spied)
    reported: list[float] = []
    train_policy(plan, reported.append)
    after = curve(tmp_path / "policy")
    assert begun[0][0] == 20 and begun[0][2] == pytest.approx(20, abs=0.01)
    assert begun[0][1] == (0 if algorithm == "ppo" else 18)  # the step in which it is evaluated is stored after
    assert sum(reported) == 20
    assert after["steps"] == [0, 10, 20, 30, 40] and trained(plan) == 40
    for name in ("steps", "seconds", "returns"):
        assert after[name][:3] == before[name]
    assert after["seconds"] == sorted(after["seconds"])
    assert not (tmp_path / "policy" / "checkpoint").exists()
    assert len(list((tmp_path / "policy").glob("*.monitor.csv"))) == 2


@pytest.mark.parametrize("algorithm", list(SMALL))
def test_train_policy__keeps_a_policy_that_plain_stable_baselines3_loads(algorithm: str, tmp_path: Path) -> None:
    plan = training(tmp_path, algorithm)
    train_policy(plan, silent)
    best, card = tmp_path / "best", read_policy_card(tmp_path / "best")
    worlds = ObservedVecEnv(make_worlds(plan.task, plan.episodes, held_out=True), make_observer(plan.sees))
    env = VecNormalize.load(str(best / "normaliser.pkl"), worlds)
    env.training = env.norm_reward = False
    model = getattr(stable_baselines3, algorithm.upper()).load(best / "policy.zip")
    env.seed(STARTS)
    observations, returns = env.reset(), np.zeros(3)
    for _ in range(5):
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, dones, _ = env.step(actions)
        returns += rewards
    assert dones.all()
    found = curve(tmp_path)
    number = found["steps"].index(card["step"])
    np.testing.assert_allclose(returns, found["returns"][number], rtol=1e-5)
    assert card["return"] == pytest.approx(np.mean(returns)) == max(np.mean(x) for x in found["returns"])


def test_train_policy__is_the_same_again_with_the_same_seed_and_another_with_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_policy(replace(training(tmp_path / name), seed=seed), silent)
    first, again, other = (curve(tmp_path / name)["returns"] for name in "abc")
    assert first == again != other


def test_train_policy__learns_in_worlds_of_its_own_with_every_seed_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "SAVING", math.inf)
    starts: list[tuple[float, ...]] = []

    def spied(self: Evaluation) -> None:
        env = self.model.get_vec_normalize_env()
        assert env is not None
        starts.extend(map(tuple, env.get_original_obs().tolist()))
        started(self)

    started = Evaluation._on_training_start
    monkeypatch.setattr(Evaluation, "_on_training_start", spied)
    for seed, stop in ((0, 26), (0, 100), (1, 100)):
        with suppress(KeyboardInterrupt):
            train_policy(replace(training(tmp_path / str(seed)), seed=seed), stopped_after(stop))
    assert len(starts) == len(set(starts)) == 6  # twice two worlds for the first, two for the second


def test_train_policy__refuses_one_that_was_begun_otherwise(tmp_path: Path) -> None:
    plan = training(tmp_path)
    train_policy(plan, silent)
    train_policy(plan, stopped_after(-1))  # has nothing to do, and reports nothing
    with pytest.raises(ValueError, match=r"trained otherwise, with timesteps=40 \(now 50\): choose"):
        train_policy(replace(plan, timesteps=50), silent)


def test_train_policy__goes_on_until_it_had_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**9))
    monkeypatch.setattr(downstream.time, "perf_counter", lambda: float(next(clock)))
    train_policy(training(tmp_path, seconds=8.0), silent)
    found = curve(tmp_path)
    assert found["steps"][-1] > 40 and found["seconds"][-2] < 8 <= found["seconds"][-1]
    assert set(np.diff(found["steps"])) == {10}


def test_checkpoint__of_frames_is_not_larger_than_what_was_seen(tmp_path: Path) -> None:
    worlds = ObservedVecEnv(make_worlds(training(tmp_path).task, 2, held_out=False), make_observer({"pixels": 1}))
    model = downstream.new_algorithm(training(tmp_path, "sac", sees={"pixels": 1}), worlds)
    assert isinstance(model, OffPolicyAlgorithm) and model.replay_buffer.observations.shape[:2] == (21, 2)


def test_checkpoint__takes_only_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "SAVING", 1e-9)
    plan = training(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_policy(plan, stopped_after(36))
    assert trained(plan) == 0  # the first, before training, was the last
    train_policy(plan, silent)
    assert curve(tmp_path)["steps"] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"timesteps": 0}, "timesteps must be an integer of at least 1, got 0"),
        ({"evaluations": 1.5}, "evaluations must be an integer of at least 1, got 1.5"),
        ({"episodes": True}, "episodes must be an integer of at least 1, got True"),
    ],
)
def test_training__refuses_numbers_out_of_range(tmp_path: Path, changed: Plain, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training(tmp_path, **changed)
    with pytest.raises(ValueError, match="episode_length must be an integer of at least 1, got 0"):
        replace(training(tmp_path), task={**training(tmp_path).task, "episode_length": 0})


def test_written__is_whole_or_as_before(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    for text in ("first", "second"):
        with written(folder) as new:
            (new / "file").write_text(text)
    with pytest.raises(KeyboardInterrupt), written(folder) as new:
        (new / "file").write_text("third")
        raise KeyboardInterrupt
    assert (folder / "file").read_text() == "second"


def test_written__killed_between_two_names_is_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with written(folder) as new:
        (new / "file").write_text("first")
    shutil.move(folder, tmp_path / ".kept.old")  # where it is at that moment
    assert (recover(folder) / "file").read_text() == "first"
    shutil.move(folder, tmp_path / ".kept.old")
    with written(folder) as new:
        assert (folder / "file").read_text() == "first"
        (new / "file").write_text("second")
    assert (folder / "file").read_text() == "second" and [path.name for path in tmp_path.iterdir()] == ["kept"]
