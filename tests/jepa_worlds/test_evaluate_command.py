"""The comparison of policies: what it writes, what it adds to, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.external.vector import InThisProcess
from envs.vector_face import WorldVectorEnv
from jepa_worlds import evaluate, train
from jepa_worlds.data.environments import make_worlds
from jepa_worlds.policies.comparing import chosen_task, compared_rows
from jepa_worlds.policies.returns import FLOORS
from jepa_worlds.policies.saved import read_policy_card
from jepa_worlds.shared.app import EXPECTED, command, composed, plain
from jepa_worlds.shared.files import Plain

MODEL = ["model.latent_dim=16", "encoder.width=8", "batch_size=8", "precision=fp32", "steps=2"]
SMALL = [
    *("env=moving_dot_reach", "distractor=none", "episode_length=4", "timesteps=16", "jobs=1"),
    *("protocol.evaluations=2", "protocol.episodes=2", "policy.num_envs=2", "policy.arguments.n_steps=4"),
    *("policy.arguments.batch_size=8", "policy.arguments.n_epochs=1", "policy.arguments.policy_kwargs.net_arch=[8]"),
]
SHAPE = {"command", "metrics", "floors", "diagnostics", "seeds", "protocol", "dataset", "versions", "seconds"}


@pytest.fixture(scope="module")
def run(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model that has learned a little, over static noise."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        return train.main(composed("train", [f"data={dataset_path}", f"out={out}", *MODEL]))


def evaluated(run: Path, out: Path, *overrides: str) -> Plain:
    return evaluate.main(composed("evaluate", [f"run={run}", f"out={out}", *SMALL, *overrides]))


@pytest.fixture(scope="module")
def compared(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with every row and one seed."""
    out = tmp_path_factory.mktemp("evaluations") / "out"
    evaluated(run, out, "seeds=1", "compare=[untrained,pixels,state,finetuned]")
    return out


@pytest.fixture
def out(compared: Path, tmp_path: Path) -> Path:
    """Where to evaluate to, with nothing there."""
    return tmp_path / "out"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "learning_curves", lambda *_: None)


def test_evaluate__writes_results_in_the_shape_of_every_command(compared: Path, run: Path) -> None:
    found = json.loads((compared / "results.json").read_text())
    names = ["tiny", "untrained", "pixels", "finetuned", "state"]
    assert found.keys() == SHAPE | {"rows"} and (found["command"], found["seeds"]) == ("evaluate", [0])
    assert set(found["metrics"]) == {*names, *FLOORS} and set(found["floors"]) == {*FLOORS, "untrained"}
    assert [row["name"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row.keys() >= SHAPE | {"name", "config"}
        assert row["metrics"] == found["metrics"][row["name"]] and row["seconds"] > 0
        steps = row["curves"][0]["steps"]
        assert steps[:3] == [0, 8, 16] and (len(steps) == 3 or row["name"] == "pixels")  # which have as long as the run
        assert (row["dataset"] is None) == (row["name"] != "tiny")
        card = read_policy_card(Path(row["best"]))
        assert card["sees"] == row["config"]["sees"] and card["task"]["distractor"] == {}
    assert found["dataset"]["hash"] == json.loads((run / "model.json").read_text())["dataset"]["hash"]
    assert found["protocol"]["id"] == "evaluate/v1" and len(found["protocol"]["hash"]) == 12
    assert (compared / "learning_curves.png").stat().st_size > 10_000


def test_evaluate__prints_a_table_the_data_and_how_to_film(
    compared: Path, run: Path, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(run, compared, "seeds=1")
    said = capsys.readouterr().out
    assert "| what the policy sees |" in said and "| random actions |" in said
    assert "\njepa_worlds/MovingDotReach-v0 dense, PPO:\n" in said
    assert re.search(
        r"\ntiny: vicreg, 2 steps on .* \(\w{12}\), \d+ episodes of \d+ steps in jepa_worlds/MovingDot-v0 over "
        r"Background\(UniformNoise, static\) under RandomWalk\n",
        said,
    )
    assert f"jepa_worlds.record run={compared / 'tiny' / 'seed-0' / 'best'} " in said


def test_evaluate__says_of_imported_data_what_is_known() -> None:
    known = {"path": "data/mine", "hash": "0" * 64, "objective": {"terms": {"vicreg": {}}}, "steps": 2, "episodes": 50}
    data = {
        **known,
        "episode_length": None,
        "behaviour": {"imported": "mine"},
        "env": {"id": "mine"},
        "distractor": None,
    }
    said = evaluate._said({"name": "tiny", "dataset": data})
    assert said == "tiny: vicreg, 2 steps on data/mine (000000000000), 50 episodes in mine"


def test_evaluate__adds_seeds_and_leaves_what_is_trained(
    compared: Path, run: Path, tmp_path: Path, undrawn: None
) -> None:
    copy = Path(shutil.copytree(compared, tmp_path / "out", copy_function=shutil.copy2))
    shutil.rmtree(copy / "untrained")  # names the folder of its model
    before = {file: file.read_bytes() for file in (copy / "pixels" / "seed-0").rglob("*") if file.is_file()}
    cards = json.loads((copy / "tiny" / "seed-0" / "curve.json").read_text())
    found = evaluated(run, copy, "seeds=2", "compare=[pixels]")
    assert found["seeds"] == [0, 1] and [row["name"] for row in found["rows"]] == ["tiny", "pixels"]
    assert found["metrics"]["tiny"]["seeds"] == 2 and found["metrics"]["tiny"]["final_return_ci95"] is not None
    assert {file: file.read_bytes() for file in before} == before
    assert found["rows"][0]["curves"][0] == cards


def test_evaluate__draws_another_untrained_model_for_every_seed(run: Path, out: Path, undrawn: None) -> None:
    evaluated(run, out, "seeds=2", "compare=[untrained]")
    weights = [(out / "untrained" / f"model-{seed}" / "model.safetensors").read_bytes() for seed in (0, 1)]
    assert weights[0] != weights[1]
    card = out / "untrained" / "model-1" / "model.json"
    card.write_text(card.read_text().replace('"width": 8', '"width": 4'))
    with pytest.raises(ValueError, match=r"model-1' is no untrained model like .*: choose another out"):
        evaluated(run, out, "seeds=2", "compare=[untrained]")


def test_evaluate__gives_pixels_as_much_time_as_the_run(
    run: Path, out: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, float]] = []
    actual = evaluate.run_jobs

    def spied(function: Any, jobs: Any, *more: Any) -> Any:
        given.extend((Path(job.folder).parent.name, job.seconds) for job in jobs)
        return actual(function, jobs, *more)

    monkeypatch.setattr(evaluate, "run_jobs", spied)
    found = evaluated(run, out, "seeds=1", "compare=[pixels]")
    assert given == [("tiny", 0.0), ("pixels", found["rows"][0]["curves"][0]["seconds"][-1])]
    given.clear()
    evaluated(run, out.with_name("unequal"), "seeds=1", "compare=[pixels]", "equal_seconds=false")
    assert given == [("tiny", 0.0), ("pixels", 0.0)]


def test_chosen_task__is_that_of_the_models_data_as_far_as_not_given(run: Path) -> None:
    def task(*overrides: str) -> Plain:
        return chosen_task({**composed("evaluate", [f"run={run}", *overrides])})

    data = task()
    assert data["env"]["id"] == "jepa_worlds/MovingDot-v0" and data["distractor"]["dynamics"] == "static"
    assert task("distractor=none") == {**data, "distractor": {}}
    assert task("env=pendulum")["distractor"] == data["distractor"]
    assert task("distractor=uniform")["distractor"]["dynamics"] == "dynamic"


@pytest.mark.parametrize("distractor", ["square", "camera_jitter", "uniform"])
def test_compared_rows__show_the_state_of_worlds_without_their_distractors(
    distractor: str, run: Path, tmp_path: Path
) -> None:
    settings = plain(composed("evaluate", [f"run={run}", "env=moving_dot_reach", f"distractor={distractor}"]))
    rows = compared_rows(settings, chosen_task(settings), tmp_path)
    assert [training.sees for training in rows["state"]] == [{"state": ["location"]}] * 5


def test_compared_rows__have_arguments_of_their_own_where_a_policy_learns_to_see(run: Path, tmp_path: Path) -> None:
    given = [f"run={run}", "env=moving_dot_reach", "distractor=none", "+policy.pixel_arguments.learning_rate=0.125"]
    settings = plain(composed("evaluate", [*given, "compare=[untrained,pixels,finetuned,state]"]))
    usual = settings["policy"]["arguments"]
    for name, row in compared_rows(settings, chosen_task(settings), tmp_path).items():
        own = {"learning_rate": 0.125} if name in ("pixels", "finetuned") else {}
        for training in row:
            assert training.policy["arguments"] == {**usual, **own} != {} and "pixel_arguments" not in training.policy


def test_evaluate__has_another_protocol_only_where_arguments_of_pixels_matter() -> None:
    policy = {"algorithm": "SAC", "arguments": {}}
    for none in ({}, {"pixel_arguments": {}}):
        assert evaluate._settled({**policy, **none}, {"pixels": []}) == policy
    other = {**policy, "pixel_arguments": {"learning_rate": 0.5}}
    assert evaluate._settled(other, {"state": []}) == policy
    assert evaluate._settled(other, {"pixels": []}) == evaluate._settled(other, {"finetuned": []}) == other


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["policy=dqn", "~policy.arguments.n_steps", "~policy.arguments.n_epochs"], "DQN cannot act here, .* sac and"),
        (["env.size=32"], r"does not take frames of shape \(32, 32, 1\)"),
        (["timesteps=0"], "timesteps must be an integer of at least 1, got 0"),
        (["seeds=0"], "seeds must be an integer of at least 1, got 0"),
        (["jobs=0"], "jobs must be an integer of at least 1, or null, got 0"),
        (["first_seed=-1"], "seed of a policy must be an integer from 0"),
        (["episode_length=0"], "episode_length must be an integer of at least 1, got 0"),
        (["policy.normalise_rewards=maybe"], "policy.normalise_rewards must be true or false, got 'maybe'"),
        (["policy.arguments=null"], "policy.arguments must be key: value, …, got None"),
        (["policy.pixel_arguments=3"], "policy.pixel_arguments must be key: value, …, got 3"),
        (["protocol.levels=[2]"], r"protocol.levels must be a list of shares above 0 and at most 1, got \[2\]"),
        (["protocol.levels=3"], "protocol.levels must be a list of shares above 0 and at most 1, got 3"),
        (["+policy.arguments.typo=1"], "PPO does not take these policy.arguments: .*'typo'"),
        (["policy.arguments.batch_size=0"], "PPO does not take these policy.arguments: .*greater than 1"),
        (["policy.algorithm=Dreamer"], r"policy.algorithm must be one of \['PPO', .*got 'Dreamer'"),
        (["compare=[everything]"], r"compare takes \['untrained', .*got \['everything'\]"),
        (["runs=[elsewhere/tiny]"], "runs are told apart by the names of their folders"),
        (["runs=[elsewhere/pixels]"], "runs are told apart by the names of their folders"),
        (["runs=[nowhere]"], "no model in 'nowhere'"),
        (["device=quantum"], "device='quantum' is not available here"),
        (
            ["env=moving_dot", "env.frame_stack=1"],
            "jepa_worlds/MovingDot-v0 has no rewards to learn from: choose a task",
        ),
        (["env=moving_dot", "distractor=uniform", "compare=[]"], "jepa_worlds/MovingDot-v0 has no rewards"),
        (["env=acrobot", "env.size=28", "policy=sac", "compare=[state]"], "does not take frames"),
    ],
)
def test_evaluate__refuses_bad_input_before_anything_is_written(
    run: Path, out: Path, overrides: list[str], message: str
) -> None:
    kept = [x for x in SMALL if not (x.startswith("policy.arg") and any(o.startswith("policy=") for o in overrides))]
    overrides = [x for x in overrides if not x.startswith("~")]
    with pytest.raises(EXPECTED, match=message):
        evaluate.main(composed("evaluate", [f"run={run}", f"out={out}", *kept, *overrides]))
    assert not out.exists()


def test_evaluate__says_that_keys_of_a_group_need_an_option(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", f"run={run}", "env.reward=sparse"])
    with pytest.raises(SystemExit):
        command("evaluate")(evaluate.main)()
    assert "'env.reward' is of a group from which nothing is chosen here: give env=… too" in capsys.readouterr().err


def test_evaluate__refuses_a_run_that_is_not_finished(run: Path, out: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "begun", ignore=shutil.ignore_patterns("model.*"))
    with pytest.raises(FileNotFoundError, match="its training has not finished"):
        evaluated(tmp_path / "begun", out)
    assert not out.exists()


def test_make_worlds__keeps_those_of_other_libraries_in_this_process() -> None:
    others = {"via": "jepa_worlds/Gymnasium-v0", "id": "CartPole-v1"}
    for env, kept in ((others, InThisProcess), ({"id": "jepa_worlds/Pendulum-v0"}, WorldVectorEnv)):
        worlds = make_worlds({"env": env, "distractor": {}, "episode_length": 5}, 2, held_out=True)
        assert isinstance(worlds.unwrapped, kept) and worlds.num_envs == 2
        worlds.close()


def test_evaluate__says_that_an_extra_is_missing(run: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(ValueError, match=r"jepa_worlds\[control\]"):
        evaluated(run, out, "env=dm_control")
    assert not out.exists()


@pytest.mark.parametrize("what", ["run", "file", "otherwise"])
def test_evaluate__refuses_to_write_over_something_else(
    run: Path, compared: Path, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]], what: str
) -> None:
    place = {"run": run, "otherwise": compared}.get(what, tmp_path / "file")
    if what == "file":
        place.write_text("in the way")
    before = contents(place.parent)
    message = (
        r"holds a policy trained otherwise, with timesteps=16 \(now" if what == "otherwise" else "holds no evaluation"
    )
    with pytest.raises(ValueError, match=message):
        evaluated(run, place, "seeds=1", "timesteps=24")
    assert contents(place.parent) == before


def test_evaluate__notices_another_model_in_the_same_place(run: Path, tmp_path: Path, undrawn: None) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "tiny"))
    evaluated(copy, tmp_path / "out", "seeds=1", "compare=[]")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="trained otherwise, with weights="):
        evaluated(copy, tmp_path / "out", "seeds=1", "compare=[]")


def test_evaluate__keeps_the_others_when_one_fails(
    run: Path, out: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = evaluate.train_policy

    def failing(training: Any, report: Any) -> None:
        if training.seed == 0:
            raise OSError("no space left")
        actual(training, report)

    monkeypatch.setattr(evaluate, "train_policy", failing)
    with pytest.raises(ValueError, match=r"1 of 2 policies failed, the others are kept:\n.*tiny/seed-0: no space left"):
        evaluated(run, out, "seeds=2", "compare=[]")
    assert (out / "tiny" / "seed-1" / "curve.json").is_file() and not (out / "results.json").exists()
    monkeypatch.setattr(evaluate, "train_policy", actual)
    assert evaluated(run, out, "seeds=2", "compare=[]")["seeds"] == [0, 1]


def test_evaluate__stopped_ends_its_processes_and_goes_on_when_run_again(run: Path, out: Path, undrawn: None) -> None:
    endless = ["compare=[]", "seeds=2", "jobs=2", "timesteps=200000", "protocol.evaluations=20000"]
    command = [sys.executable, "-m", "jepa_worlds.evaluate", f"run={run}", f"out={out}", *SMALL, *endless]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    checkpoint, deadline = out / "tiny" / "seed-0" / "checkpoint" / "curve.json", time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)  # SIGTERM ends jobs alike: see test_jobs.py
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped; run the same command again to go on" in said and "Traceback" not in said
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes are left")
    assert math.isfinite(json.loads(checkpoint.read_text())["seconds"][-1])
    with pytest.raises(ValueError, match="timesteps=200000"):  # it is taken up, not begun anew
        evaluated(run, out, "compare=[]", "seeds=2")
