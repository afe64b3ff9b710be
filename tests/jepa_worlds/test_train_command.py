"""The command `jepa_worlds.train`: what it writes, what it goes on with, and what it refuses without a trace."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig
from safetensors.torch import load_file

from agents.world_models.core import Batch
from jepa_worlds import collect, train
from jepa_worlds.models.training import STATE, Trainer
from jepa_worlds.shared.app import composed
from jepa_worlds.shared.build import build
from jepa_worlds.shared.runs import read_metrics

TINY = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "window=9", "precision=fp32", "log_every=1"]
TINY += ["save_every=2", "diagnose_every=1000"]


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def _fast_and_exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No curves, which take most of the time of a tiny run; one thread, as in the processes that are started here."""
    monkeypatch.setattr(train, "training_curves", lambda run: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run_train(dataset_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """``run_train("name", "steps=3")``: train a tiny model into ``tmp_path / name``."""

    def run(name: str, *overrides: str) -> Path:
        config = copy.deepcopy(configuration(*TINY, *overrides))
        config.out = str(tmp_path / name)
        if not any(override.startswith("data=") for override in overrides):
            config.data = str(dataset_path)
        return train.main(config)

    return run


@functools.cache  # reading it takes longer than a tiny run
def configuration(*overrides: str) -> DictConfig:
    return composed("train", list(overrides))


def interrupt_at(step: int, patch: pytest.MonkeyPatch) -> None:
    original = Trainer.train_step

    def train_step(self: Trainer, batch: Batch) -> dict[str, torch.Tensor]:
        if self.step == step:
            raise Interrupted
        return original(self, batch)

    patch.setattr(Trainer, "train_step", train_step)


def rows(run: Path) -> list[dict[str, float]]:
    return [{name: x for name, x in row.items() if name != "frames_per_second"} for row in read_metrics(run)]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def assert_same_run(one: Path, other: Path) -> None:
    """The same weights to the bit, and the same numbers on the way there."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert rows(one) == rows(other)


# --- going on


@pytest.mark.parametrize(
    ("model", "optimizer", "precision"),
    [
        ("jepa", "adamw", "fp32"),
        ("jepa", "lars", "bf16"),
        ("jepa_ema", "adamw", "fp32"),
        ("jepa_ema", "lars", "bf16"),
        ("gru_autoencoder", "adamw", "bf16"),
        ("gru_autoencoder", "lars", "fp32"),
    ],
)
def test_train__goes_on_to_the_same_bits(
    run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, model: str, optimizer: str, precision: str
) -> None:
    overrides = [f"model={model}", f"optimizer={optimizer}", f"precision={precision}", "steps=5", "diagnose_every=3"]
    whole = run_train("whole", *overrides)
    for step in (0, 3, 4):  # before anything was saved, between two saves, right after one
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            interrupt_at(step, patch)
            run_train("parts", *overrides)
        assert not (whole.parent / "parts" / "model.json").exists()
    assert_same_run(run_train("parts", *overrides), whole)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(whole / "model.safetensors").values())


def test_train__goes_on_after_the_last_step_with_what_is_left_to_do(
    run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_train("whole", "steps=2")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(train, "save", lambda *_: (_ for _ in ()).throw(Interrupted))
        run_train("parts", "steps=2")
    assert_same_run(run_train("parts", "steps=2"), whole)


def test_train__does_not_depend_on_diagnostics_and_probes(run_train: Callable[..., Path]) -> None:
    never, always = (run_train(f"every-{n}", "steps=4", f"diagnose_every={n}") for n in (1000, 1))
    assert (never / "model.safetensors").read_bytes() == (always / "model.safetensors").read_bytes()
    probed = [row for row in rows(always) if "held_out/location/rollouts_rmse" in row]
    assert [row["step"] for row in probed] == [1, 2, 3, 4]
    assert probed[0].keys() >= {"held_out/r_within", "held_out/rankme", "held_out/action_sensitivity"}


def test_train__goes_on_where_the_dataset_is_now(
    run_train: Callable[..., Path], dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(2, patch)
        run_train("parts", "steps=3")
    moved = shutil.copytree(dataset_path, tmp_path / "elsewhere")
    assert_same_run(run_train("parts", "steps=3", f"data={moved}"), run_train("whole", "steps=3"))


def test_train__goes_on_whatever_it_logs_saves_and_trusts_from_there(
    run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_train("whole", "steps=5")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(3, patch)
        run_train("parts", "steps=5")
    parts = run_train("parts", "steps=5", "log_every=2", "save_every=1", "diagnose_every=3", "trust=[json]")
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [row["step"] for row in rows(parts) if "train/loss" in row] == [1, 2, 4, 5]
    assert [row["step"] for row in rows(parts) if "held_out/r_within" in row] == [3, 5]
    config = yaml.safe_load((parts / "config.yaml").read_text())
    assert (config["log_every"], config["trust"]) == (2, ["json"])


def test_train__has_its_own_weights_for_every_seed(run_train: Callable[..., Path]) -> None:
    first, same, other = (run_train(name, "steps=2", f"seed={seed}") for name, seed in {"a": 0, "b": 0, "c": 1}.items())
    assert_same_run(first, same)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


# --- killed

LONG = ["steps=160", "save_every=7", "log_every=5"]


@pytest.fixture(scope="module")
def uninterrupted(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        train.main(composed("train", [f"data={dataset_path}", f"out={out}", *TINY, *LONG]))
        torch.set_num_threads(before)
    return out


@pytest.fixture
def start(dataset_path: Path, tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Start ``python -m jepa_worlds.train`` and wait until it has logged a step above a given one."""
    processes = []

    def start(above: int) -> subprocess.Popen[str]:
        run = tmp_path / "run"
        command = [sys.executable, "-m", "jepa_worlds.train", f"data={dataset_path}", f"out={run}", *TINY, *LONG]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        deadline = time.monotonic() + 120
        while not any(row["step"] > above for row in read_metrics(run)):
            assert time.monotonic() < deadline and processes[-1].poll() is None, processes[-1].communicate()
            time.sleep(0.005)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def test_train__saves_and_leaves_as_the_signal_asks(
    start: Callable[[int], subprocess.Popen[str]], run_train: Callable[..., Path], uninterrupted: Path, tmp_path: Path
) -> None:
    """SIGTERM: status 143; Ctrl-C: status 130; each with a message, each with the step it stopped at saved."""
    stopped = 0
    for number, status in {signal.SIGTERM: 143, signal.SIGINT: 130}.items():
        process = start(stopped)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
        assert process.returncode == status, message
        stopped = int(load_file(tmp_path / "run" / STATE)["step"])
        assert f"stopped at step {stopped}; run the same command again to go on" in message
        assert "Traceback" not in message
    assert 0 < stopped < 160
    assert_same_run(run_train("run", *LONG), uninterrupted)


def test_train__killed_at_random_moments_ends_with_the_same_weights(
    start: Callable[[int], subprocess.Popen[str]], run_train: Callable[..., Path], uninterrupted: Path, tmp_path: Path
) -> None:
    moments, killed_at = random.Random(0), 0
    for _ in range(2):
        process = start(killed_at)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        killed_at = int(read_metrics(tmp_path / "run")[-1]["step"])
    assert 0 < killed_at < 160
    assert_same_run(run_train("run", *LONG), uninterrupted)


# --- what is there already


def test_train__leaves_a_finished_run_alone(run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_train("run", "steps=1")
    before = snapshot(run)
    interrupt_at(0, monkeypatch)
    assert run_train("run", "steps=1") == run
    assert snapshot(run) == before


@pytest.mark.parametrize("finished", [True, False])
def test_train__refuses_the_folder_of_another_configuration(
    run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: bool
) -> None:
    if finished:
        run_train("run", "steps=1")
    else:
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            interrupt_at(0, patch)
            run_train("run", "steps=1")
    before = snapshot(tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run with other batch_size, optimizer: choose another folder, or"):
        run_train("run", "steps=1", "batch_size=9", "optimizer.lr=0.1")
    assert snapshot(tmp_path / "run") == before


def test_train__says_how_runs_of_a_sweep_get_their_own_folders(
    run_train: Callable[..., Path], dataset_path: Path, tmp_path: Path
) -> None:
    run = run_train("run", "steps=0")
    with pytest.raises(ValueError, match=r"with other seed: choose another folder, or remove it\. In a") as caught:
        run_train("run", "steps=0", "seed=1")
    [override] = shlex.split(str(caught.value).rpartition("each takes its own: ")[2])
    assert override == f"out={run}-${{seed}}"
    own = train.main(composed("train", [f"data={dataset_path}", *TINY, "steps=0", "seed=1", override]))
    assert own == tmp_path / "run-1"


def test_train__refuses_to_go_on_with_another_dataset(run_train: Callable[..., Path], tmp_path: Path) -> None:
    run = run_train("run", "steps=1")
    other = collect.main(composed("collect", ["episodes=48", "seed=1", f"out={tmp_path / 'other'}"]))
    before = snapshot(run)
    with pytest.raises(ValueError, match=r"holds a run with other dataset_hash, model, spec: .*, or remove it$"):
        run_train("run", "steps=1", f"data={other}")
    assert snapshot(run) == before


@pytest.mark.parametrize("content", ["notes.txt", "config.yaml", "dataset"])
def test_train__refuses_a_folder_of_something_else(
    run_train: Callable[..., Path], dataset_path: Path, tmp_path: Path, content: str
) -> None:
    if content == "dataset":
        shutil.copytree(dataset_path, tmp_path / "run")
    else:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / content).write_text("run: away")
    before = snapshot(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run' exists and is not a training run: choose another folder, or remove it"):
        run_train("run", "steps=1")
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_train__refuses_an_out_that_cannot_be_a_folder(
    run_train: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((ValueError, OSError), match="file"):
        run_train(name, "steps=1")
    assert snapshot(tmp_path).keys() == {"file"}


# --- what it writes


def test_train__writes_a_run_folder(run_train: Callable[..., Path], dataset_path: Path) -> None:
    run = run_train("run", "steps=3", "diagnose_every=2", "seed=7")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert "${" not in (run / "config.yaml").read_text()
    assert (config["steps"], config["seed"], config["precision"]) == (3, 7, "fp32")
    assert config["model"]["encoder"]["latent_dim"] == 16
    logged = read_metrics(run)
    assert [row["step"] for row in logged if "train/loss" in row] == [1, 2, 3]
    assert [row["step"] for row in logged if "held_out/r_within" in row] == [2, 3]
    assert logged[0].keys() == {
        *("step", "lr", "frames_per_second", "train/loss", "train/gradient"),
        *("train/invariance", "train/variance", "train/covariance"),
    }
    found = json.loads((run / "results.json").read_text())
    assert (found["command"], found["seeds"]) == ("train", [7])
    assert found["dataset"] == {"path": str(dataset_path), "hash": config["dataset_hash"]}
    assert found["metrics"].keys() == {"invariance", "variance", "covariance"}
    assert found["diagnostics"].keys() == {"r_within", "rankme", "action_sensitivity"}
    card = json.loads((run / "model.json").read_text())
    assert (card["window"], card["seed"], card["batch_size"], card["steps"]) == (9, 7, 8, 3)
    assert (card["model"], card["spec"]) == (config["model"], config["spec"])
    manifest = json.loads((dataset_path / "dataset.json").read_text())
    assert card["collected"].keys() == {"env", "distractor", "behaviour", "seed", "splits"}
    assert card["collected"].items() <= manifest.items()
    assert all(file.name.startswith("events.out.tfevents") for file in (run / "tensorboard").iterdir())


def test_train__draws_curves(run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(train, "training_curves", drawn.append)
    assert drawn == [run_train("run", "steps=1")]


@pytest.mark.parametrize("overrides", [["steps=0"], ["model=random"], ["model=random", "steps=3"]])
def test_train__without_steps_or_objective_saves_the_initial_weights(
    run_train: Callable[..., Path], overrides: list[str]
) -> None:
    run = run_train("run", *overrides, "seed=3")
    torch.manual_seed(3)
    initial = build(json.loads((run / "model.json").read_text())["model"]).state_dict()
    saved = load_file(run / "model.safetensors")
    assert saved.keys() == initial.keys()
    assert all(torch.equal(saved[name], initial[name]) for name in initial)
    assert json.loads((run / "results.json").read_text())["diagnostics"]["rankme"] > 0


def test_train__lowers_the_loss(uninterrupted: Path) -> None:
    losses = [row["train/loss"] for row in rows(uninterrupted) if "train/loss" in row]
    assert losses[-1] < 0.7 * losses[0]


# --- what it refuses


def test_train__stops_with_a_message_and_a_status_when_the_loss_diverges(
    run_command: Callable[..., subprocess.CompletedProcess[str]], dataset_path: Path, tmp_path: Path
) -> None:
    overrides = [*TINY, "steps=20", "optimizer.lr=1e30", "clip=inf", "warmup=0", "save_every=1"]
    done = run_command("train", f"data={dataset_path}", "out=run", *overrides)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("error: the loss, its gradient or the weights are not finite at step ")
    assert "the last good state is kept in run/training.safetensors" in message
    assert "lower optimizer.lr or clip" in message
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "model.json").exists()
    state = load_file(tmp_path / "run" / STATE)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_train__keeps_no_model_that_diverged_at_the_last_step(run_train: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        run_train("run", "steps=1", "optimizer.lr=1e30", "warmup=0", "log_every=1000")
    assert not (tmp_path / "run" / "model.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=-1"], "steps must be an integer of at least 0, got -1"),
        (["batch_size=1"], "batch_size must be an integer of at least 2, got 1"),
        (["clip=0"], "clip must be a positive number"),
        (["warmup=1"], "warmup is a share of the steps"),
        (["precision=fp16"], "precision must be auto, fp32 or bf16, got 'fp16'"),
        (["device=quantum"], "device='quantum' is not available here"),
        (["window=1"], "a window needs at least 2 frames, got 1"),
        (["window=abc"], "a window needs at least 2 frames, got 'abc'"),
        (["window=4", "model.frames=4"], r"a window needs more frames than the 4 .*\(model\.frames\), got 4"),
        (["model.frames=two"], "model.frames must be an integer of at least 1, got 'two'"),
        (["model.frames=0"], "model.frames must be an integer of at least 1, got 0"),
        (["objective.weights.variance=abc"], r"objective\.weights\.variance must be a number, got 'abc'"),
        (["objective.weights=abc"], r"objective\.weights must map the names of terms to numbers, got 'abc'"),
        (["verify=abc"], "verify must be true or false, got 'abc'"),
        (["trust=abc"], r"trust must be a list, as in \[a, b\], got 'abc'"),
        (["window=18"], "windows of 18 frames do not fit dataset .* its longest train episode has 17"),
        (["data=nowhere"], "no dataset at 'nowhere'.*jepa_worlds.collect"),
        (["objective=reconstruction"], "reconstruction needs a model with a decoder, e.g. model=gru_autoencoder"),
        (["objective.terms.vicreg.steps=past"], "steps must be 'future' or 'first', got 'past'"),
        (["+objective.weights.luck=1"], r"weights \['covariance', 'invariance', 'luck', 'variance'\]"),
        (["model._target_=agents.probes.ridge.Ridge"], "Ridge"),
        (["model._target_=os.mkdir"], "'os.mkdir' is not in agents"),
        (["optimizer.lr=-1"], "[Ii]nvalid learning rate: -1|lr must not be negative"),
        (["optimizer._target_=torch.nn.Linear"], "'torch.nn.Linear' is not in agents or torch.optim"),
        (["encoder.patch=5"], "frames of 28×28 px cannot be cut into patches of 5×5"),
        (["model=supervised", "objective.terms.supervised.factor=luck"], "no factor 'luck'; they have .*'location'"),
    ],
)
def test_train__refuses_bad_input_before_anything_is_written(
    run_train: Callable[..., Path], tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises((ValueError, OSError), match=message) as caught:
        run_train("run", "steps=1", *overrides)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_train__refuses_a_gpu_where_there_is_none(run_train: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"device='cuda' is not available here: .* Try device=auto or cpu"):
        run_train("run", "steps=1", "device=cuda")
    assert not (tmp_path / "run").exists()


def test_train__refuses_a_dataset_with_a_single_held_out_window(run_train: Callable[..., Path], tmp_path: Path) -> None:
    small = collect.main(composed("collect", ["episodes=10", f"out={tmp_path / 'small'}"]))
    with pytest.raises(ValueError, match=r"small' has 1 validation window of 17 frames, and at least 2 are needed"):
        run_train("run", "steps=1", "window=17", f"data={small}")
    assert not (tmp_path / "run").exists()


def test_train__takes_any_optimiser_of_torch(run_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    overrides: list[Any] = ["steps=4", "optimizer._target_=torch.optim.SGD", "~optimizer.fused"]
    whole = run_train("whole", *overrides)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(3, patch)
        run_train("parts", *overrides)
    assert_same_run(run_train("parts", *overrides), whole)
