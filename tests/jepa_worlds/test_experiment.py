"""The experiment command: every cell once, whatever happens in between, and all that was found in one file."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa_worlds import collect, experiment, probe, train
from jepa_worlds.models.training import Trainer
from jepa_worlds.shared.app import command, composed, plain
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import read_config
from jepa_worlds.studies import running
from jepa_worlds.studies.cells import make_jobs
from jepa_worlds.studies.reading import read_grid
from jepa_worlds.studies.running import run_cell

TINY = ["encoder.width=8", "model.latent_dim=16", "precision=fp32"]
SMALL = [
    *("preset=debug", "methods=[vicreg,supervised]", "panels=[static-uniform,dynamic-uniform]", "levels=[0,1]"),
    *("jobs=1", "steps=2", "window=9", "episode_length=8", "explain=false", f"train={json.dumps(TINY)}"),
]
FEW = ["protocol.episodes=3", "protocol.seeds=[0]", "protocol.budget=3", "protocol.horizon=2"]
QUICK = ["planner.candidates=8", "planner.elites=4", "planner.iterations=1", "baselines=[gcbc]", "fit.steps=2"]
PLAN = ["protocol=moving_dot/v1", *FEW, *QUICK]
ONE = ["panels=[static-uniform]", "levels=[1]"]
CELLS = [
    "vicreg none 0 seed 0",
    "supervised none 0 seed 0",
    "vicreg static-uniform 1 seed 0",
    "supervised static-uniform 1 seed 0",
    "vicreg dynamic-uniform 1 seed 0",
    "supervised dynamic-uniform 1 seed 0",
]
SHAPE = {"command", "metrics", "floors", "diagnostics", "seeds", "protocol", "dataset", "versions", "seconds"}


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Any:
    """No pictures, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        patch.setattr(probe, "draw", lambda *_: None)
        yield


def run(out: Path, *overrides: str) -> Plain:
    return experiment.main(composed("experiment", [*SMALL, *overrides, f"out='{out}'"]))


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plain]:
    """A small experiment with explanations, and what the command returned."""
    out = tmp_path_factory.mktemp("experiments") / "a study"
    return out, run(out, "explain=true")


@pytest.fixture
def study(studied: tuple[Path, Plain], tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(studied[0], tmp_path / "a study"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which anything is collected, trained or probed."""
    monkeypatch.setattr(collect, "main", lambda config: pytest.fail("collected"))
    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: pytest.fail("trained"))
    monkeypatch.setattr(running, "probe_run", lambda settings: pytest.fail("probed"))


# --- what it writes


def test_experiment__writes_a_row_for_every_cell(studied: tuple[Path, Plain]) -> None:
    out, returned = studied
    content = json.loads((out / "results.json").read_text())
    assert content == returned
    assert content.keys() == SHAPE | {"experiment", "rows", "failed"} and content["command"] == "experiment"
    assert content["experiment"] == {
        "name": "slow_features",
        "chosen": ["experiment=slow_features"],
        "title": "Joint embedding predictive architectures focus on slow features",
        "preset": "debug",
        "score": ["location"],
        "methods": {"vicreg": "VICReg", "supervised": "supervised"},
        "panels": {
            name: {"title": title, "levels": [0, 1], "score": ["location"], "axis": None}
            for name, title in {
                "static-uniform": "fixed uniform noise",
                "dynamic-uniform": "changing uniform noise",
            }.items()
        },
        "seeds": [0],
    }
    assert [row["name"] for row in content["rows"]] == [*content["metrics"]] == CELLS
    assert content["failed"] == [] and content["protocol"]["id"] == "probe/v1"
    for row in content["rows"]:
        assert (out / row["run"] / "model.safetensors").is_file() and (out / row["data"] / "dataset.json").is_file()
        probed = json.loads((out / row["run"] / "probe" / "results.json").read_text())
        for part in ("metrics", "floors", "diagnostics", "protocol", "dataset"):
            assert row[part] == probed[part]
        assert content["metrics"][row["name"]] == {"location": row["metrics"]["location"]["rollout_rmse"]}
        assert row["config"]["steps"] == 2 and "spec" not in row["config"]
        assert row["seconds"]["collect"] > 0 and row["seconds"]["train"] > 0 and row["seconds"]["probe"] > 0
    assert content["rows"][1]["cell"] == {"method": "supervised", "panel": None, "level": 0, "seed": 0}
    assert len({row["data"] for row in content["rows"]}) == 3
    assert plain(composed("experiment", [*SMALL]))["experiment"]["methods"]["vicreg"]["title"] == "VICReg"


def test_experiment__explains_each_cell_by_the_supervised_one_beside_it(studied: tuple[Path, Plain]) -> None:
    rows = {row["name"]: row for row in studied[1]["rows"]}
    for name, row in rows.items():
        assert row["explained"] == json.loads((studied[0] / row["run"] / "explained.json").read_text())
        beside = rows[name.replace("vicreg", "supervised")]["run"]
        assert row["explained"]["supervised"] == Path(beside).name
    assert {"trained", "copy", "supervised"} <= rows[CELLS[2]]["explained"]["losses"].keys()


def test_experiment__prints_a_table_and_what_is_next(
    study: Path, idle: None, capsys: pytest.CaptureFixture[str]
) -> None:
    content = run(study)
    said = capsys.readouterr().out
    score = content["metrics"]["vicreg static-uniform 1 seed 0"]["location"]
    assert "fixed uniform noise: level 1" in said and f"{score:.2f}" in said
    assert said.splitlines()[-1] == f"see it all: python -m jepa_worlds.report {study}"


def planned(out: Path, *overrides: str, plan: list[str] = PLAN) -> Plain:
    return run(out, *ONE, f"plan={json.dumps(plan)}", *overrides)


def test_experiment__plans_with_every_model_where_it_is_told_a_protocol(study: Path, idle: None) -> None:
    before = {name: row.pop("planned") for row in run(study, *ONE)["rows"] for name in [row["name"]]}
    assert before == dict.fromkeys(CELLS[2:4])
    rows = planned(study)["rows"]
    for row in rows:
        found, told = row["planned"], row["commands"][-1]
        assert told.startswith("python -m jepa_worlds.plan ") and {*PLAN} <= {*shlex.split(told)}
        folder = Path(shlex.split(told)[-1].removeprefix("out=").strip("'"))
        there = json.loads((folder / "results.json").read_text())
        assert found["protocol"] == there["protocol"] and found["score"] == "success"
        assert found["acting"].keys() == {"planner", "gcbc"}
        assert found["acting"]["planner"].items() <= there["metrics"][Path(row["run"]).name].items()
        assert found["floors"]["true simulator"].items() <= there["rows"][2]["metrics"].items()
        assert found["floors"].keys() == {"true simulator", "random actions", "no-op", "behaviour of the data"}
        assert names(folder) == {"config.yaml", "results.json", "rows", "heads"}  # neither film nor picture


def test_experiment__refuses_plans_that_the_device_cannot_make_before_anything_is_trained(tmp_path: Path) -> None:
    wanted = ["device=meta", f"plan={json.dumps([*PLAN, 'precision=int8'])}"]
    with pytest.raises(ValueError, match="precision=int8 is for CPUs, not meta"):
        run(tmp_path / "study", *ONE, *wanted)
    assert not (tmp_path / "study" / "data").exists() and not (tmp_path / "study" / "runs").exists()


def test_experiment__plans_once_and_keeps_what_was_planned_otherwise(
    study: Path, idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(study)["rows"]
    other = [*PLAN, "planner.iterations=2"]
    assert planned(study, plan=other)["rows"][0]["planned"] != first[0]["planned"]
    monkeypatch.setattr(running, "plan_run", lambda *_: pytest.fail("planned"))
    again = planned(study, "device=cpu", plan=[*PLAN, "num_envs=2"])["rows"]  # neither of which plans depend on
    assert [row["planned"] for row in again] == [row["planned"] for row in first]


def test_experiment__keeps_models_that_cannot_be_planned_in(study: Path, idle: None) -> None:
    with pytest.raises(
        ValueError, match=r"1 of 1 cells failed.*\n.*static-uniform 1 seed 0: plan: .*data of .*MovingDot"
    ):
        planned(study, "methods=[vicreg]", plan=["protocol=two_rooms/v1"])
    content = json.loads((study / "results.json").read_text())
    assert [row["planned"] for row in content["rows"]] == [None] and len(content["failed"]) == 1


def test_experiment__plans_in_a_model_that_panels_share_as_each_of_them_says(study: Path, idle: None) -> None:
    collected = "collect: ['distractor=uniform', 'distractor.dynamics=static']"
    panels = [f"+experiment.panels.{x}={{title: x, {collected}, plan: ['planner={x}']}}" for x in ("cem", "icem")]
    run_both = ["panels=[cem,icem]", "levels=[1]", "methods=[vicreg]", f"plan={json.dumps(PLAN)}"]
    rows = run(study, *panels, *run_both)["rows"]
    assert rows[0]["run"] == rows[1]["run"] and all(row["planned"] for row in rows)
    assert rows[0]["commands"][-1] != rows[1]["commands"][-1]


def test_experiment__plans_in_the_single_cell_of_a_job_too(study: Path, idle: None) -> None:
    assert planned(study, "job=1") == {}
    grid = read_grid(plain(composed("experiment", [*SMALL, *ONE, f"plan={json.dumps(PLAN)}"])))
    assert [job.planned for job in make_jobs(grid, grid.cells, study)] == [False, True]


def test_experiment__has_commands_that_make_a_row_again(studied: tuple[Path, Plain], tmp_path: Path) -> None:
    row = studied[1]["rows"][2]
    told = [shlex.split(line) for line in row["commands"]]
    assert [words[:3] for words in told] == [
        ["python", "-m", f"jepa_worlds.{x}"] for x in ("collect", "train", "probe")
    ]
    data, again = tmp_path / "data", tmp_path / "run"
    overrides = [[word for word in words[3:] if word.split("=")[0] not in ("out", "data", "run")] for words in told]
    collect.main(composed("collect", [*overrides[0], f"out={data}"]))
    train.main(composed("train", [*overrides[1], f"data={data}", f"out={again}"]))
    found = probe.main(composed("probe", [*overrides[2], f"run={again}"]))
    assert (again / "model.safetensors").read_bytes() == (studied[0] / row["run"] / "model.safetensors").read_bytes()
    assert all(found[part] == row[part] for part in ("metrics", "floors", "protocol"))


def test_experiment__draws_the_untrained_floor_with_the_seed_of_the_cell(study: Path) -> None:
    [row] = run(study, *ONE, "methods=[vicreg]", "first_seed=3")["rows"]
    assert "seed=3" in row["commands"][2].split()
    assert read_config(study / row["run"] / "probe")["seed"] == 3


# --- what is done is not done again


def test_experiment__does_nothing_twice(study: Path, studied: tuple[Path, Plain], idle: None) -> None:
    again = run(study, "explain=true")
    for before, now in zip(studied[1]["rows"], again["rows"], strict=True):
        assert {**now, "commands": None} == {**before, "commands": None}


def test_experiment__trusts_others_and_does_nothing_twice(study: Path, studied: tuple[Path, Plain], idle: None) -> None:
    again = run(study, "explain=true", "trust=[tests]")
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in studied[1]["rows"]]


def test_experiment__of_other_settings_adds_to_what_is_there(study: Path) -> None:
    before = names(study / "runs"), names(study / "data")
    content = run(study, *ONE, "methods=[vicreg]", "steps=3")
    [row] = content["rows"]
    assert names(study / "data") == before[1]
    assert {Path(row["run"]).name, f".{Path(row['run']).name}.lock"} >= names(study / "runs") - before[0]
    assert row["config"]["steps"] == 3 and (study / row["run"]).name not in before[0]


def test_experiment__takes_over_what_another_study_has(
    studied: tuple[Path, Plain], tmp_path: Path, idle: None, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {row["name"]: row for row in studied[1]["rows"]}
    for other in (studied[0], studied[0] / "results.json"):
        out = tmp_path / other.name
        capsys.readouterr()
        found = run(out, "explain=true", f"given=['{other}']")
        assert capsys.readouterr().out.startswith(f"given: {len(CELLS)} of {len(CELLS)} cells; those that are not ex")
        assert {row["name"]: row for row in found["rows"]} == there and found["failed"] == []
        assert run(out, "job=0", f"given=['{other}']") == {}
        assert not (out / "runs").exists()
    capsys.readouterr()
    run(tmp_path / "planned", "list=true", f"given=['{studied[0]}']", f"plan={json.dumps(PLAN)}")
    run(tmp_path / "longer", "list=true", f"given=['{studied[0]}']", "steps=3")
    unexplained = json.loads((studied[0] / "results.json").read_text())
    for row in unexplained["rows"]:
        row["explained"] = None
    (tmp_path / "unexplained.json").write_text(json.dumps(unexplained))
    run(tmp_path / "explained", "list=true", "explain=true", f"given=['{tmp_path / 'unexplained.json'}']")
    run(tmp_path / "otherwise", "list=true", f"given=['{studied[0]}']", 'probe=["readout.penalties=[1]"]')
    assert "done" not in capsys.readouterr().out  # wants plans or explanations that rows lack, or other settings


def test_experiment__takes_over_what_has_the_same_settings_under_another_name(
    studied: tuple[Path, Plain], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = json.loads((studied[0] / "results.json").read_text())
    for row in some["rows"]:
        row["run"] = row["run"].replace("runs/", "runs/trial-")
    (tmp_path / "some.json").write_text(json.dumps(some))
    run(tmp_path / "out", "list=true", f"given=['{tmp_path / 'some.json'}']")
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()} == {"done"}


def test_experiment__takes_over_no_supervised_model_that_others_are_to_be_explained_by(
    studied: tuple[Path, Plain], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = json.loads((studied[0] / "results.json").read_text())
    some["rows"] = [row for row in some["rows"] if row["name"] != CELLS[2]]  # VICReg over static noise
    (tmp_path / "some.json").write_text(json.dumps(some))
    run(tmp_path / "out", "list=true", "explain=true", f"given=['{tmp_path / 'some.json'}']")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["done", "done", "-", "-", "done", "done"]


def test_experiment__says_where_there_is_no_other_study(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no results at '.*gone/results.json': make them with"):
        run(tmp_path / "out", f"given=['{tmp_path / 'gone'}']")
    file = tmp_path / "other.json"
    file.write_text("[]")
    with pytest.raises(ValueError, match=r"other.json' is not what jepa_worlds.experiment writes"):
        run(tmp_path / "out", f"given=['{file}']")
    assert not (tmp_path / "out").exists()


def test_experiment__probes_again_what_is_to_be_probed_otherwise(
    study: Path, studied: tuple[Path, Plain], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: pytest.fail("trained"))
    [row] = run(study, *ONE, "methods=[vicreg]", "probe=['protocol.test_windows=5']")["rows"]
    assert row["run"] == studied[1]["rows"][2]["run"]
    assert row["protocol"]["hash"] != studied[1]["rows"][2]["protocol"]["hash"]


# --- what fails, and what is stopped


def test_experiment__keeps_the_others_when_a_cell_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = "+experiment.methods.broken={title: broken, train: ['optimizer.lr=1e30']}"
    with pytest.raises(ValueError) as said:
        run(tmp_path / "out", *ONE, broken, "methods=[broken,vicreg]")
    first, second = str(said.value).splitlines()
    assert first == "1 of 2 cells failed, the others are kept; the same command tries them again:"
    assert second.startswith("broken static-uniform 1 seed 0: ") and "not finite" in second
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["vicreg static-uniform 1 seed 0"]
    [failed] = content["failed"]
    assert failed["cell"] == {"method": "broken", "panel": "static-uniform", "level": 1, "seed": 0}
    assert "not finite" in failed["error"]
    assert "| VICReg |" in capsys.readouterr().out


def test_experiment__keeps_a_cell_that_cannot_be_explained(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Path, *_: Any, **__: Any) -> None:
        raise ValueError("no reason")

    monkeypatch.setattr(running, "explain", refuse)
    with pytest.raises(ValueError, match="vicreg static-uniform 1 seed 0: explain: no reason"):
        run(study, *ONE, "explain=true")
    assert len(json.loads((study / "results.json").read_text())["rows"]) == 2


def test_experiment__interrupted_goes_on_inside_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, step = [], Trainer.train_step
    given = [*ONE, "methods=[vicreg,supervised]", "steps=6"]

    def interrupted(self: Trainer, batch: Any) -> Any:
        steps.append(self.step)
        if len(steps) == 6 + 3:  # the third of the second cell
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *given)
    assert steps == [*range(6), *range(3)]
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 1
    content = run(tmp_path, *given)
    assert steps[9:] == [3, 4, 5] and len(content["rows"]) == 2
    straight = run(tmp_path / "straight", *given)
    for one, other in zip(content["rows"], straight["rows"], strict=True):
        assert one["metrics"] == other["metrics"]


def test_experiment__terminated_saves_what_is_trained_side_by_side(tmp_path: Path) -> None:
    long = ["steps=100000", 'train=["encoder.width=8","model.latent_dim=16","precision=fp32","save_every=100000"]']
    given = [*(x for x in SMALL if not x.startswith(("jobs", "train", "steps"))), *ONE, *long, "jobs=2", "out=out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "jepa_worlds.experiment", *given]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while len(logged := [*tmp_path.glob("out/runs/*/metrics.jsonl")]) < 2 or not all(x.stat().st_size for x in logged):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "run the same command again to go on" in said
    assert len([*tmp_path.glob("out/runs/*/training.safetensors")]) == 2
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == []


# --- a cell at a time, and several at once


def test_experiment__runs_a_cell_by_its_number_and_gathers_them_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(out, "job=3") == {}
    assert names(out) == {"runs", "data"}
    [model] = out.glob("runs/*/model.json")
    assert model.parent.name.startswith("supervised-static-uniform-1-s0-")
    assert run(out, "list=true") == {}
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2) for line in listed] == [
        [str(n), "done" if n == 3 else "-", name] for n, name in enumerate(CELLS)
    ]
    monkeypatch.setattr(sys, "argv", ["experiment", "-m", *SMALL, *ONE, "job=range(0,2)", f"out='{out}'"])
    monkeypatch.chdir(tmp_path)
    command("experiment")(experiment.main)()
    assert len([*out.glob("runs/*/model.json")]) == 2  # of which one was there
    assert len(run(out, *ONE)["rows"]) == 2


def test_run_cell__collects_once_what_two_need_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = read_grid(plain(composed("experiment", [*SMALL, *ONE])))
    jobs = make_jobs(grid, grid.cells, tmp_path)
    assert len(jobs) == 2 and jobs[0].data == jobs[1].data
    collected, waited, main = [], [], collect.main

    def slow(config: Any) -> Path:
        collected.append(config.out)
        deadline = time.monotonic() + 60
        while not waited and time.monotonic() < deadline:  # until the other asks whether to stop, because it waits
            time.sleep(0.01)
        return main(config)

    monkeypatch.setattr(collect, "main", slow)
    monkeypatch.setattr(train, "main", lambda config, report: Path(config.out).mkdir(parents=True))
    monkeypatch.setattr(running, "probe_run", lambda settings: None)
    threads = [threading.Thread(target=run_cell, args=(job, waited.append)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collected == [str(jobs[0].data)] and waited[0] == 0


def test_run_cell__reports_all_its_steps_whatever_was_done_before(study: Path) -> None:
    grid = read_grid(plain(composed("experiment", [*SMALL, *ONE, "steps=5"])))
    [job, _] = make_jobs(grid, grid.cells, study)
    for _ in range(2):
        reported: list[float] = []
        run_cell(job, reported.append)
        assert sum(reported) == 5 and job.done


# --- experiments of one's own


def test_experiment__of_a_folder_of_ones_own_has_methods_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    (mine / "experiment" / "paper").mkdir(parents=True)
    (mine / "objective").mkdir()
    (mine / "objective" / "gentle.yaml").write_text("defaults: [vicreg]\nweights: {covariance: 0.5}\n")
    (mine / "experiment" / "paper" / "mine.yaml").write_text(
        "# @package experiment\nname: mine\ntitle: mine\nscore: [location]\n"
        "methods: {gentle: {title: gentle, train: [objective=gentle]}}\n"
        "panels: {still: {title: still, collect: [distractor=square], levels: [null]}}\n"
    )
    out = tmp_path / "out"
    given = [f"--config-dir={mine}", *SMALL[:1], *SMALL[4:], "experiment=paper/mine", f"out={out}"]
    monkeypatch.setattr(sys, "argv", ["experiment", *given])
    command("experiment")(experiment.main)()
    [row] = json.loads((out / "results.json").read_text())["rows"]
    assert row["cell"] == {"method": "gentle", "panel": "still", "level": None, "seed": 0}
    assert row["config"]["objective"]["weights"]["covariance"] == 0.5
    assert all(f"--config-dir={mine}" in line for line in row["commands"])


def test_experiment__searches_by_validation_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = "+experiment.methods.vicreg.search={optimizer.lr: [1e-4, 1e-2, log]}"
    content = run(tmp_path, *ONE, "methods=[vicreg]", wanted, "trials=2", "explain=true")
    rows = {row["cell"]["method"]: row for row in content["rows"]}
    assert rows.keys() == {"vicreg", "vicreg#0", "vicreg#1"}
    assert rows["vicreg"]["explained"] and not rows["vicreg#0"]["explained"]
    trials = content["search"]
    assert [trial["score"] for trial in trials] == sorted(trial["score"] for trial in trials)
    for trial in trials:
        row = rows[trial["name"]]
        assert trial["score"] == row["metrics"]["location"]["rollout_validation_rmse"]
        assert all(override in row["commands"][1] for override in trial["overrides"])
        assert trial["score"] != row["metrics"]["location"]["rollout_rmse"]
    best = " ".join(trials[0]["overrides"]) or "as it is"
    assert f"\nbest of vicreg: {best}\n" in capsys.readouterr().out


def test_debug_preset__has_every_method_work(tmp_path: Path) -> None:
    content = experiment.main(
        composed("experiment", ["preset=debug", *ONE, "jobs=1", "explain=false", f"out={tmp_path}"])
    )
    known = plain(composed("experiment", ["preset=debug"]))["experiment"]["methods"]
    assert [row["cell"]["method"] for row in content["rows"]] == [*known] and len(known) >= 7


# --- what it refuses


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["job=6"], "job must be below 6, the number of cells; got 6; list=true numbers them"),
        (["job=-1"], "job must be the number of a cell, or null for all, got -1"),
        (["jobs=0"], "jobs must be an integer of at least 1, or null, got 0"),
        (["explain=maybe"], "explain must be true or false, got 'maybe'"),
        (["train=steps"], r"train must be a list, as in \[a, b\], got 'steps'"),
        (["device=quantum"], "device='quantum' is not available here"),
        (["methods=[vicrg]"], "unknown method 'vicrg': did you mean 'vicreg'"),
        (
            ["train=['objectiv=vicreg']"],
            "cannot be run: train .*did you mean 'objec",
        ),
    ],
)
def test_experiment__refuses_bad_input_before_anything_is_written(
    tmp_path: Path, idle: None, overrides: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


def test_experiment__refuses_the_folder_of_something_else(
    study: Path, tmp_path: Path, idle: None, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    before = contents(study)
    with pytest.raises(ValueError, match="exists and holds the experiment 'slow_features': choose another folder"):
        run(study, "experiment.name=other")
    [of_a_run] = [path for path in (study / "runs").iterdir() if path.name.startswith("vicreg-none")]
    with pytest.raises(ValueError, match="exists and holds something else: choose another folder"):
        run(of_a_run)
    assert contents(study) == before
