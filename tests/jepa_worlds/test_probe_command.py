"""The command `jepa_worlds.probe`: its results, its pictures, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from jepa_worlds import collect, probe, train
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.pictures import figures as figures_module
from jepa_worlds.shared.app import composed
from jepa_worlds.shared.runs import protocol_id

TINY = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "precision=fp32", "steps=2"]
FACTORS = ("location", "background")


@pytest.fixture(scope="module")
def trained(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        return train.main(composed("train", [f"data={dataset_path}", f"out={out}", *TINY]))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def probed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A copy of the run that was probed, pictures and all, and what the command returned."""
    run = Path(shutil.copytree(trained, tmp_path_factory.mktemp("probed") / "tiny"))
    return run, probe.main(composed("probe", [f"run={run}"]))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, which take most of the time."""
    monkeypatch.setattr(figures_module, "save_figure", lambda figure, file: None)
    monkeypatch.setattr(probe, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Collect another small dataset."""

    def collected(name: str, *overrides: str) -> Path:
        out = tmp_path_factory.mktemp("others") / name
        return collect.main(composed("collect", ["episodes=20", f"out={out}", *overrides]))

    return collected


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [number for value in found.values() for number in numbers(value)]
    return [number for value in found for number in numbers(value)] if isinstance(found, list) else [found]


# --- what it writes


def test_probe__writes_results_in_the_shape_of_every_command(
    probed: tuple[Path, dict[str, Any]], dataset_path: Path
) -> None:
    run, returned = probed
    found = json.loads((run / "probe" / "results.json").read_text())
    assert found == returned
    assert found.keys() >= {
        *("command", "metrics", "floors", "diagnostics", "seeds", "protocol", "dataset", "versions", "seconds")
    }
    assert (found["command"], found["seeds"], found["run"]) == ("probe", [0], str(run))
    assert found["protocol"]["id"] == "probe/v1" and len(found["protocol"]["hash"]) == 12
    manifest = json.loads((dataset_path / "dataset.json").read_text())
    assert found["dataset"] == {"path": str(dataset_path), "hash": manifest["content_hash"]}
    assert found["metrics"].keys() == found["floors"].keys() == {*FACTORS}
    for name in FACTORS:
        metrics, floors = found["metrics"][name], found["floors"][name]
        assert metrics.keys() >= {"rollout_rmse", "rollout_rmse_ci95", "encoder_rmse", "per_step_rmse", "r2"}
        assert floors.keys() >= {"chance", "pixels", "untrained"}
        low, high = metrics["rollout_rmse_ci95"]
        assert 0 < low <= metrics["rollout_rmse"] <= high
        assert len(metrics["per_step_rmse"]) == 17
        mean_square = np.mean(np.square(metrics["per_step_rmse"]))
        assert metrics["rollout_rmse"] == pytest.approx(mean_square**0.5, rel=1e-4)
    assert found["diagnostics"].keys() >= {"r_within", "rankme", "action_sensitivity"}
    assert all(
        math.isfinite(number) for part in ("metrics", "floors", "diagnostics") for number in numbers(found[part])
    )


def test_probe__draws_what_can_be_seen(probed: tuple[Path, dict[str, Any]]) -> None:
    folder = probed[0] / "probe"
    pictures = {file.name for file in folder.glob("*.png")}
    assert pictures == {"per_step_location.png", "per_step_background.png", "rollouts_location.png"}
    for name in pictures:
        with Image.open(folder / name) as picture:
            grey = np.asarray(picture.convert("L"))
        assert min(grey.shape) >= 300
        assert grey.std() > 10 and len(np.unique(grey)) > 20


def test_probe__marks_true_and_probed_places_in_its_picture(
    run: Path, dataset_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr(probe, "per_step_errors", lambda *_: None)
    monkeypatch.setattr(probe, "rollout_frames", lambda *arguments: drawn.append(arguments))
    probe.main(composed("probe", [f"run={run}"]))  # there are 5 test episodes, of which it shows 3
    [(frames, truth, readout, title, file)] = drawn
    assert title == "tiny: location" and file == run / "probe" / "rollouts_location.png"
    assert (frames.shape, truth.shape, readout.shape) == ((3, 17, 28, 28, 1), (3, 17, 2), (3, 17, 2))
    [test_shard] = [
        dataset_path / shard["name"]
        for shard in json.loads((dataset_path / "dataset.json").read_text())["shards"]
        if shard["split"] == "test"
    ]
    episodes = np.load(test_shard / "frames.npy").reshape(-1, 17, 28, 28, 1)
    places = np.load(test_shard / "factors.location.npy").reshape(-1, 17, 2)
    for episode in range(3):
        [number] = [n for n in range(len(episodes)) if np.array_equal(episodes[n], frames[episode])]
        np.testing.assert_array_equal(truth[episode], places[number])


def test_probe__keeps_its_configuration_and_leaves_the_run_as_it_was(run: Path, undrawn: None) -> None:
    before = snapshot(run)
    probe.main(composed("probe", [f"run={run}", "seed=3"]))
    after = snapshot(run)
    assert {name: content for name, content in after.items() if not name.startswith("probe/")} == before
    assert yaml.safe_load(after["probe/config.yaml"])["seed"] == 3


def test_probe__finds_the_same_again(probed: tuple[Path, dict[str, Any]], undrawn: None) -> None:
    again = probe.main(composed("probe", [f"run={probed[0]}"]))
    for part in ("metrics", "floors", "diagnostics"):
        assert again[part] == probed[1][part]


def test_probe__has_floors_that_do_not_depend_on_the_weights(
    run: Path, probed: tuple[Path, dict[str, Any]], undrawn: None
) -> None:
    first = probed[1]
    weights = load_file(run / "model.safetensors")
    save_file(
        {name: x + 0.1 * torch.randn_like(x) if x.ndim > 1 else x for name, x in weights.items()},
        run / "model.safetensors",
    )
    second = probe.main(composed("probe", [f"run={run}"]))
    assert first["floors"] == second["floors"]
    assert first["metrics"]["location"]["rollout_rmse"] != second["metrics"]["location"]["rollout_rmse"]


def test_probe__scores_an_untrained_model_at_its_floor(run: Path, undrawn: None) -> None:
    random = train.main(
        composed("train", [f"data={_data(run)}", f"out={run.parent / 'random'}", *TINY, "model=random"])
    )
    found = probe.main(composed("probe", [f"run={random}", "seed=0"]))  # the seed that drew its weights
    for name in FACTORS:
        assert found["metrics"][name]["rollout_rmse"] == pytest.approx(found["floors"][name]["untrained"], rel=1e-4)
        assert found["metrics"][name]["encoder_rmse"] == pytest.approx(
            found["floors"][name]["untrained_encoder"], rel=1e-4
        )


def _data(run: Path) -> str:
    return json.loads((run / "model.json").read_text())["dataset"]["path"]


@pytest.mark.parametrize("readout", ["mlp", "linear_sgd"])
def test_probe__reads_out_with_other_probes(
    run: Path, probed: tuple[Path, dict[str, Any]], undrawn: None, readout: str
) -> None:
    found = probe.main(composed("probe", [f"run={run}", f"readout={readout}", "readout.epochs=2"]))
    assert math.isfinite(found["metrics"]["location"]["rollout_rmse"])
    assert found["metrics"]["location"]["rollout_rmse"] != probed[1]["metrics"]["location"]["rollout_rmse"]
    assert yaml.safe_load((run / "probe" / "config.yaml").read_text())["readout"]["epochs"] == 2


def test_probe__of_another_dataset_goes_to_a_folder_of_its_name(
    run: Path, undrawn: None, other_dataset: Callable[..., Path]
) -> None:
    other = other_dataset("unseen", "distractor=uniform", "distractor.dynamics=dynamic")
    found = probe.main(composed("probe", [f"run={run}", f"data={other}"]))
    assert json.loads((run / "probe-unseen" / "results.json").read_text()) == found
    assert found["dataset"]["path"] == str(other)
    assert not (run / "probe").exists()


def test_probe__passes_over_factors_that_never_change(
    run: Path, undrawn: None, other_dataset: Callable[..., Path]
) -> None:
    found = probe.main(composed("probe", [f"run={run}", f"data={other_dataset('plain')}"]))
    assert found["metrics"].keys() == found["floors"].keys() == {"location"}  # there is no background


def test_probe__shows_as_much_of_an_episode_as_asked_for(run: Path, undrawn: None) -> None:
    found = probe.main(composed("probe", [f"run={run}", "protocol.window=5"]))
    assert len(found["metrics"]["location"]["per_step_rmse"]) == 5


def test_protocol_id__tells_protocols_apart(run: Path) -> None:
    protocol = {"id": "probe/v1", "window": None, "test_windows": 3}
    assert protocol_id(protocol) == protocol_id({"window": None, "test_windows": 3, "id": "probe/v1"})
    assert protocol_id(protocol)["hash"] != protocol_id({**protocol, "test_windows": 4})["hash"]


def test_probe__has_the_protocol_of_another_where_steps_and_readout_agree(
    run: Path, probed: tuple[Path, dict[str, Any]], undrawn: None
) -> None:
    def protocol(*overrides: str) -> dict[str, str]:
        return dict(probe.main(composed("probe", [f"run={run}", *overrides]))["protocol"])

    window = read_card(run)["window"]
    assert protocol(f"protocol.window={window}") == probed[1]["protocol"]
    assert protocol("protocol.window=5") != probed[1]["protocol"]
    assert protocol("readout=mlp", "readout.epochs=1") != probed[1]["protocol"]


# --- what it refuses


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.size=32"], r"takes frames \[C, H, W\] of \[1, 28, 28\], dataset .* has \[1, 32, 32\]: .*data="),
        (["env=three_dots"], r"takes frames \[C, H, W\] of \[1, 28, 28\], dataset .* has \[3, 28, 28\]"),
        (["episode_length=10"], "windows of 17 frames do not fit dataset .*: its longest train episode has 11"),
        (["test=0"], "has no test episodes"),
        (["episodes=10"], "has 1 validation window of 17 frames, and at least 2 are needed: collect more"),
    ],
)
def test_probe__refuses_a_dataset_that_does_not_fit(
    run: Path, undrawn: None, other_dataset: Callable[..., Path], overrides: list[str], message: str
) -> None:
    data, before = other_dataset("other", *overrides), snapshot(run)
    with pytest.raises(ValueError, match=message):
        probe.main(composed("probe", [f"run={run}", f"data={data}"]))
    assert snapshot(run) == before


def test_probe__refuses_actions_of_another_size(run: Path, undrawn: None) -> None:
    card = json.loads((run / "model.json").read_text())
    card["spec"]["action_dim"] = 3
    (run / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"takes actions of 3 numbers, dataset .* has 2: choose another with data="):
        probe.main(composed("probe", [f"run={run}"]))


def test_probe__asks_where_a_dataset_that_moved_is_now(run: Path, undrawn: None, dataset_path: Path) -> None:
    card = json.loads((run / "model.json").read_text())
    card["dataset"]["path"] = "gone/static"
    (run / "model.json").write_text(json.dumps(card))
    with pytest.raises(FileNotFoundError, match=r"no dataset at 'gone/static'.*Say where it is now: data=…"):
        probe.main(composed("probe", [f"run={run}"]))
    assert not (run / "probe").exists()
    probe.main(composed("probe", [f"run={run}", f"data={dataset_path}"]))
    assert (run / "probe-static" / "results.json").is_file()


def test_probe__refuses_the_training_dataset_once_it_has_changed(
    run: Path, undrawn: None, other_dataset: Callable[..., Path]
) -> None:
    other = other_dataset("static", "distractor=uniform", "distractor.dynamics=static", "seed=1")
    card = json.loads((run / "model.json").read_text())
    card["dataset"]["path"] = str(other)
    (run / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=rf"has changed since the model was trained on it; .* say data={other}"):
        probe.main(composed("probe", [f"run={run}"]))
    assert not (run / "probe").exists()


STATIC = ["distractor=uniform", "distractor.dynamics=static"]


def test_probe__refuses_to_score_on_episodes_that_the_model_was_trained_on(
    run: Path, undrawn: None, other_dataset: Callable[..., Path]
) -> None:
    card = json.loads((run / "model.json").read_text())
    card["dataset"]["path"] = "gone/static"
    (run / "model.json").write_text(json.dumps(card))
    before = snapshot(run)
    smaller = other_dataset("smaller", *STATIC, "episodes=46", "episode_length=20")
    with pytest.raises(ValueError, match=r"holds out those from number 36 on.* learned from all below 38: .* seed"):
        probe.main(composed("probe", [f"run={run}", f"data={smaller}"]))
    assert snapshot(run) == before


@pytest.mark.parametrize(
    "overrides",
    [
        ["episodes=48", "episode_length=20"],
        ["seed=1"],
        ["distractor.dynamics=dynamic"],
        ["behaviour=uniform"],
        ["env.sigma=2"],
    ],
)
def test_probe__scores_on_episodes_that_the_model_has_not_seen(
    run: Path, undrawn: None, other_dataset: Callable[..., Path], overrides: list[str]
) -> None:
    other = other_dataset("unseen", *STATIC, *overrides)
    found = probe.main(composed("probe", [f"run={run}", f"data={other}"]))
    assert math.isfinite(found["metrics"]["location"]["rollout_rmse"])


def test_probe__refuses_a_run_without_a_model(run: Path, tmp_path: Path, undrawn: None) -> None:
    (run / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"its training has not finished; make one with jepa_worlds\.train"):
        probe.main(composed("probe", [f"run={run}"]))
    with pytest.raises(FileNotFoundError, match=r"it is not a training run; make one with jepa_worlds\.train"):
        probe.main(composed("probe", [f"run={tmp_path / 'nowhere'}"]))
    assert not (run / "probe").exists() and not (tmp_path / "nowhere").exists()


def test_probe__refuses_a_model_that_diverged(run: Path, undrawn: None) -> None:
    weights = load_file(run / "model.safetensors")
    save_file({name: x * torch.nan if x.ndim > 1 else x for name, x in weights.items()}, run / "model.safetensors")
    with pytest.raises(ValueError, match="the model's latents are not finite"):
        probe.main(composed("probe", [f"run={run}"]))
    assert not (run / "probe").exists()


@pytest.mark.parametrize("what", ["run", "dataset", "file"])
def test_probe__refuses_to_write_over_something_else(
    run: Path, undrawn: None, dataset_path: Path, tmp_path: Path, what: str
) -> None:
    out = {"run": run, "dataset": tmp_path / "dataset", "file": tmp_path / "file"}[what]
    if what == "dataset":
        shutil.copytree(dataset_path, out)
    elif what == "file":
        out.write_text("in the way")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="exists and holds no probe's results: choose another folder"):
        probe.main(composed("probe", [f"run={run}", f"out={out}"]))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["protocol.test_windows=0"], "protocol.test_windows must be an integer of at least 2, got 0"),
        (["protocol.test_windows=1"], "protocol.test_windows must be an integer of at least 2, got 1"),
        (["protocol.train_windows=all"], "protocol.train_windows must be an integer of at least 2, got 'all'"),
        (["protocol.window=1"], "a window needs at least 2 frames, got 1"),
        (["device=quantum"], "device='quantum' is not available here"),
        (["readout._target_=os.mkdir"], "'os.mkdir' is not in"),
        (["data=nowhere"], "no dataset at 'nowhere'"),
    ],
)
def test_probe__refuses_bad_input_before_anything_is_written(
    run: Path, undrawn: None, overrides: list[str], message: str
) -> None:
    before = snapshot(run)
    with pytest.raises((ValueError, OSError), match=message):
        probe.main(composed("probe", [f"run={run}", *overrides]))
    assert snapshot(run) == before
