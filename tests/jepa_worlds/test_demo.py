"""The demo: models side by side in one table, one picture, one film; and what is done already is not done again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.objectives.vicreg import vicreg_bound
from jepa_worlds import collect, demo, probe, train
from jepa_worlds.models.training import Trainer
from jepa_worlds.shared.app import composed, plain

TRAIN = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "precision=fp32", "window=9", "steps=${steps}"]
ROWS = ["untrained-none", "vicreg-dynamic", "vicreg-static", "vicreg_temporal-static", "generative-static"]
SHOWN = ["untrained-none", "vicreg-static", "generative-static"]  # the others would take time and show no more
DEBUG = [
    *(f"~rows.{name}" for name in ROWS if name not in SHOWN),
    *("episodes=60", "steps=2", "film_episodes=2", f"train={json.dumps(TRAIN)}"),
]


class Reached(Exception):
    pass


def files(out: Path, *patterns: str) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(out)): (file.read_bytes(), file.stat().st_mtime_ns)
        for pattern in patterns
        for file in out.glob(pattern)
        if file.is_file()
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder of a small demo, what the command returned, and what it printed."""
    out, printed = tmp_path_factory.mktemp("demo") / "out (a=1, ä)", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        patch.setattr(probe, "draw", lambda *_: None)
        patch.setattr(demo.sys.stdout, "write", printed.append)
        content = demo.main(composed("demo", [*DEBUG, f"out='{out}'"]))
    return out, content, "".join(printed)


def test_demo__writes_results_with_a_row_for_every_model(shown: tuple[Path, dict[str, Any], str]) -> None:
    out, returned, _ = shown
    content = json.loads((out / "results.json").read_text())
    assert content == returned
    assert (content["command"], content["seeds"], content["protocol"]["id"]) == ("demo", [0], "probe/v1")
    assert [row["name"] for row in content["rows"]] == SHOWN
    for row in content["rows"]:
        assert row["config"]["model"]["latent_dim"] == 16
        assert row["dataset"]["path"] == str(out / "data" / row["name"].split("-")[1])
        assert row["metrics"]["location"]["rollout_rmse"] > 0
        assert row["floors"]["location"].keys() >= {"chance", "pixels", "untrained"}
        for part in ("metrics", "floors", "diagnostics"):
            assert content[part][row["name"]] == row[part]
    weights = [{*row["config"]["objective"]["weights"]} for row in content["rows"]]
    assert weights == [set(), {"invariance", "variance", "covariance"}, {"reconstruction"}]


def test_demo__draws_a_picture_and_a_film(shown: tuple[Path, dict[str, Any], str]) -> None:
    from moviepy.video.io.VideoFileClip import VideoFileClip

    with Image.open(shown[0] / "demo.png") as picture:
        grey = np.asarray(picture.convert("L"))
    assert min(grey.shape) > 600
    assert grey.std() > 10 and len(np.unique(grey)) > 20
    with VideoFileClip(str(shown[0] / "demo.mp4"), audio=False) as movie:
        images = [*movie.iter_frames()]
    assert len(images) == 2 * (9 + 5)  # episodes of all models at a time, and a second on the end of each
    assert images[0].shape[0] > 2 * 196 and images[0].shape[1] > 2 * 3 * 196  # two rows of two tiles of three panels


def test_demo__prints_the_table_and_how_to_read_it(shown: tuple[Path, dict[str, Any], str]) -> None:
    out, content, printed = shown
    lines = printed.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3 and len({line.count("|") for line in table}) == 1
    for line, row in zip(table[2:], content["rows"], strict=True):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        location, floors = row["metrics"]["location"], row["floors"]["location"]
        assert cells[0] == row["title"]
        low, high = location["rollout_rmse_ci95"]
        assert cells[1] == f"**{location['rollout_rmse']:.2f}** [{low:.2f}, {high:.2f}]"
        assert cells[2:6] == [
            f"{x:.2f}"
            for x in (location["encoder_rmse"], *(floors[name] for name in ("untrained", "pixels", "chance")))
        ]
        assert (cells[6] == "–") == (row["name"] == "untrained-none")  # no noise, so nothing to find of it
    [row] = [row for row in content["rows"] if row["name"] == "vicreg-static"]
    found = row["diagnostics"]
    loss = 25 * found["invariance"] + 25 * found["variance"] + found["covariance"]
    [said] = [line for line in lines if line.startswith("VICReg, noise is fixed: held-out loss")]
    assert f"loss {loss:.2f}, where no latents can have less than {vicreg_bound(8, 16):.2f}" in said
    assert f"{1 - found['r_within']:.1%} of the latent variance" in said
    assert all(str(out / name) in lines[-1] for name in ("demo.png", "demo.mp4", "results.json"))


def test_demo__collects_and_trains_nothing_twice(
    shown: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("data/*/*/*.npy", "data/*/dataset.json", "*/model.safetensors", "*/model.json", "*/metrics.jsonl")
    before = files(shown[0], *kept)
    assert len(before) > 3 * 3 + 3 * 8
    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: pytest.fail("trained again"))
    probed: list[str] = []

    def probe_run(settings: dict[str, Any]) -> None:
        probed.append(Path(settings["run"]).name)
        raise Reached

    monkeypatch.setattr(demo, "probe_run", probe_run)
    with pytest.raises(Reached):
        demo.main(composed("demo", [*DEBUG, f"out='{shown[0]}'"]))
    assert probed == SHOWN[:1]
    assert files(shown[0], *kept) == before


def test_demo__refuses_the_folder_of_another_demo(
    shown: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("*.*", "*/*.json", "*/*.safetensors")
    before = files(shown[0], *kept)
    with pytest.raises(ValueError, match="holds a run with other steps: choose another folder, or remove it"):
        demo.main(composed("demo", [*DEBUG, "steps=3", f"out='{shown[0]}'"]))
    with pytest.raises(ValueError, match=r"holds a dataset collected otherwise, with episodes=60 \(now 61\)"):
        demo.main(composed("demo", [*DEBUG, "episodes=61", f"out='{shown[0]}'"]))
    assert files(shown[0], *kept) == before


def test_demo__refuses_the_folder_of_another_command(shown: tuple[Path, dict[str, Any], str]) -> None:
    run = shown[0] / "vicreg-static"
    before = files(run, "*")
    with pytest.raises(ValueError, match="vicreg-static' holds what another command wrote: choose another folder"):
        demo.main(composed("demo", [*DEBUG, f"out='{run}'"]))
    assert files(run, "*") == before
    assert not (run / "data").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["film_episodes=0"], "film_episodes must be an integer of at least 1, got 0"),
        (["film_columns=0"], "film_columns must be an integer of at least 1, got 0"),
        (["fps=0"], "fps must be positive, got 0"),
        (["episodes=0"], "episodes must be an integer of at least 1, got 0"),
    ],
)
def test_demo__refuses_bad_input_before_anything_is_written(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demo.main(composed("demo", [*DEBUG, f"out={tmp_path / 'out'}", *overrides]))
    assert not (tmp_path / "out").exists()


def test_demo__looks_for_an_encoder_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import moviepy.config

    monkeypatch.setattr(moviepy.config, "FFMPEG_BINARY", "/nowhere/ffmpeg")
    monkeypatch.setattr(collect, "main", lambda config: pytest.fail("worked for nothing"))
    with pytest.raises(OSError, match="no ffmpeg at '/nowhere/ffmpeg'"):
        demo.main(composed("demo", [*DEBUG, f"out={tmp_path / 'out'}"]))


def test_demo__has_every_default_in_its_configuration() -> None:
    settings = plain(composed("demo", []))
    assert [*settings["rows"]] == ROWS
    assert (
        {row["data"] for row in settings["rows"].values()} == {*settings["datasets"]} == {"none", "dynamic", "static"}
    )
    assert f"steps={settings['steps']}" in settings["train"] and f"seed={settings['seed']}" in settings["train"]
    assert math.isfinite(settings["fps"])
