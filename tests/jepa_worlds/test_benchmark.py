"""The benchmark: every part yields rows, a table shows them, ratios compare what should be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from omegaconf import OmegaConf

from envs.vector_face import WorldVectorEnv
from jepa_worlds import benchmark
from jepa_worlds.benchmark import line, words_as_parts
from jepa_worlds.machine import benchmarking
from jepa_worlds.machine.benchmarking import collection, environments, sampling, training
from jepa_worlds.shared.app import composed, plain

NATIVE = ["jepa_worlds/MovingDot-v0", "jepa_worlds/Pendulum-v0"]
SPEEDS = {WorldVectorEnv: 100.0, SyncVectorEnv: 10.0, AsyncVectorEnv: 4.0}  # a world


def settings(*overrides: str, **replaced: Any) -> dict[str, Any]:
    return plain(composed("benchmark", ["seconds=0", "episodes=30", *overrides])) | replaced


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[VectorEnv]:
    """What was measured, in order; the speeds are `SPEEDS`, a tenth under a distractor."""
    envs: list[VectorEnv] = []

    def frames_per_second(env: VectorEnv, seconds: float) -> float:
        envs.append(env)
        distracted = isinstance(env, WorldVectorEnv) and bool(env.world.layers.distractors)
        env.close()
        return SPEEDS[type(env)] * env.num_envs / (10 if distracted else 1)

    monkeypatch.setattr(benchmarking, "frames_per_second", frames_per_second)
    monkeypatch.setattr(benchmarking, "native_ids", lambda: NATIVE)
    return envs


def test_environments__compares_the_fastest_of_ours_and_theirs(measured):
    peers = {"theirs": {"id": "CartPole-v1", "of": "Pendulum-v0"}, "another": {"id": "CartPole-v1", "of": "NoSuch-v0"}}
    distractors = {"none": ["distractor=none"], "noise": ["distractor=uniform"]}
    rows = dict(environments(settings("worlds=[1,3]", "faces=[1,2]", distractors=distractors, peers=peers)))
    theirs = {"Sync 1": 10.0, "Sync 2": 20.0, "Async 1": 4.0, "Async 2": 8.0}
    assert list(rows) == [f"{world}, {x}" for world in ("MovingDot-v0", "Pendulum-v0") for x in ("none", "noise")] + [
        "theirs",
        "another",
    ]
    for world in ("MovingDot-v0", "Pendulum-v0"):
        assert rows[f"{world}, none"] == {"1": 100, "3": 300, **theirs, "ratio": 15}
        assert rows[f"{world}, noise"] == {"1": 10, "3": 30, **theirs, "ratio": 1.5}
    assert rows["theirs"] == {**theirs, "ratio": 15}  # to the world without a distractor
    assert rows["another"] == theirs
    assert len(measured) == 4 * 6 + 2 * 4


def test_environments__measures_the_same_task_on_both_sides(measured):
    distractors = {"noise": ["distractor=uniform", "distractor.level=0.25"]}
    list(environments(settings("worlds=[2]", "faces=[2]", distractors=distractors, peers={})))
    for number, env_id in enumerate(NATIVE):
        native, sync, _ = measured[3 * number : 3 * number + 3]
        single = sync.envs[0].unwrapped
        for face in (native, single):
            assert f"jepa_worlds/{type(face.world.world).__name__}-v0" == env_id
            assert [distractor.level for distractor in face.world.layers.distractors] == [0.25]


def test_environments__gives_peers_pictures_to_observe(measured):
    pytest.importorskip("pygame", reason="pip install pygame")
    list(environments(settings("faces=[1]", distractors={}, peers={"theirs": {"id": "CartPole-v1"}})))
    assert [type(env) for env in measured] == [SyncVectorEnv, AsyncVectorEnv]
    for env in measured:
        assert env.single_observation_space.shape == (400, 600, 3)


def test_environments__lets_those_that_are_wrapped_here_vectorise_themselves(measured, monkeypatch):
    def make_vec(env_id: str, num_envs: int, processes: bool, task: str) -> VectorEnv:
        assert (env_id, task) == ("jepa_worlds/Wrapped-v0", "walk")
        kind = AsyncVectorEnv if processes and num_envs > 1 else SyncVectorEnv
        return kind([lambda: gymnasium.make(NATIVE[0])] * num_envs)

    monkeypatch.setattr(benchmarking.gymnasium, "make_vec", make_vec)
    peers = {"theirs": {"id": "jepa_worlds/Wrapped-v0", "kwargs": {"task": "walk"}}}
    rows = dict(environments(settings("faces=[1,2]", distractors={}, peers=peers)))
    assert rows == {"theirs": {"Sync 1": 10.0, "Sync 2": 20.0, "Async 2": 8.0}}


@pytest.mark.parametrize(
    "error",
    [
        ImportError("there is\nno such package"),
        gymnasium.error.DependencyNotInstalled("there is no such package"),
        OSError("there is no such package"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_environments__goes_on_without_a_peer_that_is_absent(measured, monkeypatch, error):
    def make(env_id: str, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(benchmarking.gymnasium, "make", make)
    rows = list(environments(settings(distractors={}, peers={"theirs": {"id": "CartPole-v1"}})))
    assert rows == [("theirs: left out, there is no such package", {})]
    assert line(rows[0], ["1"]) == rows[0][0]


def test_parts__measure_collection_sampling_and_training():
    small = ["batch_size=4", "model.latent_dim=8", "encoder.width=8"]
    chosen = settings(distractors={"none": []}, models={"VICReg": ["objective=vicreg"]}, train=small)
    rows = [row for part in (collection, sampling, training) for row in part(chosen)]
    assert [name.split(",")[0] for name, _ in rows] == [
        "collection to disk",
        "window sampling",
        "window sampling",
        "training",
    ]
    assert all(list(numbers) == ["frames/s"] and numbers["frames/s"] > 0 for _, numbers in rows)


def test_benchmark__prints_a_table_and_writes_results(measured, tmp_path, capsys):
    config = settings("worlds=[1,12]", "faces=[1]", "parts=[envs]", peers={}, distractors={"none": []}, out=tmp_path)
    benchmark.main(OmegaConf.create({**config, "out": str(tmp_path / "out")}))
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    numbers = {"1": 100, "12": 1200, "Sync 1": 10, "Async 1": 4, "ratio": 120}
    assert content["metrics"] == {"envs": {"MovingDot-v0, none": numbers, "Pendulum-v0, none": numbers}}
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].split() == ["envs,", "frames/s", "1", "12", "Sync", "1", "Async", "1", "ratio"]
    assert printed[3].split() == ["MovingDot-v0,", "none", "100", "1,200", "10", "4.0", "120"]
    assert len({len(row) for row in printed[2:]}) == 1


def test_line__has_dashes_where_there_is_no_number():
    assert line(("x", {"ratio": 1.26}), ["1", "ratio"]).split() == ["x", "–", "1.3"]
    assert line(("x", {"1": 1234.5, "ratio": 123.4}), ["1", "ratio"]).split() == ["x", "1,234", "123"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["envs"], ["parts=[envs]"]),
        (["training", "seconds=1", "envs"], ["seconds=1", "parts=[training,envs]"]),
        (["parts=[envs]", "out=x"], ["parts=[envs]", "out=x"]),
        (["--info", "config"], ["--info", "config"]),
        (["+x=1", "~y", "--help"], ["+x=1", "~y", "--help"]),
        ([], []),
    ],
)
def test_words__are_parts(arguments, expected):
    assert words_as_parts(arguments) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parts=[envs,trainings]", r"parts must be among \['envs', .*\], got \['trainings'\]"),
        ("worlds=16", "worlds must be a list of numbers of worlds, each at least 1, got 16"),
        ("worlds=[1,0]", r"worlds must be .*, got \[1, 0\]"),
        ("faces=[]", r"faces must be .*, got \[\]"),
    ],
)
def test_benchmark__refuses(override, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        benchmark.main(composed("benchmark", [override, f"out={tmp_path / 'out'}"]))
    assert not (tmp_path / "out").exists()


def test_process__takes_parts_as_words(run_command, tmp_path: Path):
    ended = run_command("benchmark", "sampling", "seconds=0", "episodes=30", "out=out")
    assert ended.returncode == 0, ended.stderr
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]) == ["sampling"]
