"""The paper's own experiment: what its authors tuned is what every cell trains with."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jepa_worlds import experiment, probe, train
from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.runs import read_config
from jepa_worlds.studies.cells import Job, make_jobs
from jepa_worlds.studies.grid import Cell, Grid
from jepa_worlds.studies.reading import read_grid

PAPER = ["experiment=paper/slow_features", "preset=paper"]
SEQUENCES = 15_600 * 64  # 100 epochs of all whole batches of 64 in 10 000


@cache
def grid() -> Grid:
    return read_grid(plain(composed("experiment", [*PAPER, "seeds=1"])))


def job(method: str, panel: str | None, level: float) -> Job:
    return make_jobs(grid(), [Cell(method, panel, level, 0)], Path("out"))[0]


def test_paper_experiment__has_all_that_the_authors_tuned() -> None:
    rows = grid().tuned.rows
    assert {method: sum(map(len, panels.values())) for method, panels in rows.items()} == {
        "vicreg": 28,
        "simclr": 28,
        "gru_autoencoder": 32,
        "idm": 28,
        "supervised": 28,
    }
    for panels in rows.values():
        assert panels.keys() == {"none", *grid().panels} and list(panels["none"]) == [0]
        for panel, levels in panels.items():
            assert len({len(row) for row in levels.values()}) == 1
            wanted = set() if panel == "none" else {0.5, 1, 1.5}  # of some methods all others too
            assert wanted <= levels.keys()


@pytest.mark.parametrize(
    ("cell", "batch_size", "rate", "others"),
    [
        (("vicreg", None, 0), 32, 1.388 / 8, {"weights": {"invariance": 20.55, "variance": 9.138, "covariance": 1}}),
        (
            ("vicreg", "static-uniform", 1),
            32,
            4.453e-05 / 8,
            {"weights": {"invariance": 21.42, "variance": 930, "covariance": 1}},
        ),
        (
            ("vicreg", "dynamic-photographs", 1.5),
            512,
            0.6573 * 2,
            {"weights": {"invariance": 23.38, "variance": 6.708, "covariance": 1}},
        ),
        (("simclr", "static-uniform", 1.25), 256, 0.005469, {"temperature": 128, "normalise": True}),
        (("simclr", "static-photographs", 3), 64, 0.0008377 / 4, {"temperature": 0.75, "normalise": False}),
        (("idm", "dynamic-photographs", 3), 64, 0.5963 / 4, {"weights": {"inverse_dynamics": 12.84}}),
        (("idm", "static-uniform", 0.75), 256, 3.728, {"weights": {"inverse_dynamics": 0.1796}}),
        (("gru_autoencoder", "dynamic-uniform", 5), 256, 0.0006724, {}),
        (("gru_autoencoder", "static-uniform", 1.5), 512, 0.003674, {}),
        (("supervised", "dynamic-uniform", 3), 64, 0.0006179, {}),  # of level 1.5, the nearest
        (("supervised", "static-photographs", 2), 512, 0.002858, {}),
    ],
)
def test_paper_experiment__trains_with_the_row_of_its_cell(
    cell: tuple[str, str | None, float], batch_size: int, rate: float, others: dict[str, Any]
) -> None:
    found = job(*cell).train
    assert (found["batch_size"], found["steps"]) == (batch_size, SEQUENCES // batch_size)
    assert found["optimizer"]["lr"] == pytest.approx(rate)
    objective = found["objective"]
    assert others.items() <= {**objective, **objective["terms"].get("simclr", {})}.items()


def test_paper_experiment__makes_a_training_of_every_cell_and_every_row() -> None:
    levels = sorted({level for rows in grid().tuned.rows.values() for panel in rows.values() for level in panel})
    of = read_grid(plain(composed("experiment", [*PAPER, "seeds=1", f"levels={levels}"])))
    assert set(grid().cells) <= set(of.cells)
    for job in make_jobs(of, of.cells, Path("out")):
        settings, adaptive = job.train, job.cell.method in ("vicreg", "simclr", "idm")
        assert settings["encoder"]["_target_"] == "agents.encoders.menet5.MeNet5" and settings["encoder"]["width"] == 2
        assert settings["model"]["latent_dim"] == 512 and settings["window"] == 17
        assert settings["optimizer"]["_target_"] == ("agents.optimizers.lars.LARS" if adaptive else "torch.optim.AdamW")
        if adaptive:
            assert (settings["warmup"], settings["clip"], settings["optimizer"]["momentum"]) == (0.1, math.inf, 0.9)
        elif job.cell.method != "random":
            assert settings["optimizer"]["weight_decay"] == settings["warmup"] == 0  # Adam
        assert settings["steps"] * settings["batch_size"] == SEQUENCES
        assert settings["objective"]["weights"].keys() == _terms(job.cell.method)
        assert job.probe["readout"]["_target_"] == "agents.probes.gradient.GradientProbe"
        assert (job.probe["readout"]["hidden_dims"], job.probe["readout"]["bias"]) == ([], False)


def _terms(method: str) -> set[str]:
    return {
        "vicreg": {"invariance", "variance", "covariance"},
        "gru_autoencoder": {"reconstruction"},
        "idm": {"inverse_dynamics"},
        "random": set(),
    }.get(method, {method})


def test_paper_experiment__trains_at_the_debug_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "training_curves", lambda run: None)
    monkeypatch.setattr(probe, "draw", lambda *_: None)
    given = ["methods=[vicreg,gru_autoencoder]", "panels=[static-photographs]", "jobs=1", "explain=false"]
    content = experiment.main(composed("experiment", [PAPER[0], "preset=debug", *given, f"out={tmp_path}"]))
    assert [row["cell"]["method"] for row in content["rows"]] == ["vicreg", "gru_autoencoder"]
    for row in content["rows"]:
        assert (row["config"]["batch_size"], row["config"]["steps"]) == (64, 1)  # of the 2 · 8 sequences of debug
        assert math.isfinite(row["metrics"]["location"]["rollout_rmse"])
    settings = read_config(tmp_path / content["rows"][0]["run"])
    assert settings["optimizer"]["_target_"] == "agents.optimizers.lars.LARS" and settings["clip"] == math.inf
