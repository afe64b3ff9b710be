"""Settings that were tuned for single cells of a grid: which cells take which, and what is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.files import Plain
from jepa_worlds.studies.cells import make_jobs
from jepa_worlds.studies.grid import Cell, Grid
from jepa_worlds.studies.reading import read_grid
from jepa_worlds.studies.tuned import Tuned

ROWS: dict[str, Any] = {
    "vicreg": {
        "none": {0: ["optimizer.lr=0.1"]},
        "static-uniform": {
            0.5: ["optimizer.lr=0.5", "batch_size=16"],
            1.5: ["optimizer.lr=1.5"],
            3: ["batch_size=16", "steps=9"],
        },
    }
}


@cache
def settings() -> Plain:
    return plain(composed("experiment", []))


def grid(tuned: Any = ROWS, **changed: Any) -> Grid:
    """The grid of slow_features under preset=quick, 600 steps of 64, with settings that were tuned."""
    panel = settings()["experiment"]["panels"]["static-uniform"] | {"train": ["optimizer.lr=7.0", "clip=7.0"]}
    panels = {**settings()["experiment"]["panels"], "static-uniform": panel}
    experiment = {**settings()["experiment"], "panels": panels, "tuned": tuned}
    return read_grid({**settings(), "experiment": experiment, **changed})


def train(of: Grid, method: str, panel: str | None, level: float | None) -> dict[str, str]:
    """What a cell overrides of ``train``, the last of each key."""
    overrides = of.overrides(Cell(method, panel, level, 0))["train"]
    return {key: value for key, _, value in (override.partition("=") for override in overrides)}


@pytest.mark.parametrize(
    ("level", "rate"), [(0.5, "0.5"), (0.25, "0.5"), (1, "0.5"), (1.1, "1.5"), (1.5, "1.5"), (3, "7.0"), (9, "7.0")]
)
def test_tuned__is_the_row_of_the_nearest_level_and_of_two_the_lower(level: float, rate: str) -> None:
    assert train(grid(), "vicreg", "static-uniform", level)["optimizer.lr"] == rate


def test_tuned__comes_after_the_panel_and_before_the_command_line() -> None:
    found = train(grid(train=["optimizer.lr=8.0"]), "vicreg", "static-uniform", 0.5)
    assert (found["optimizer.lr"], found["clip"], found["batch_size"]) == ("8.0", "7.0", "16")


def test_tuned__leaves_other_methods_and_panels_as_they_are() -> None:
    of = grid()
    for cell in [("vicreg", "dynamic-uniform", 0.5), ("simclr", "static-uniform", 0.5), ("simclr", None, 0)]:
        assert train(of, *cell) == train(grid(None), *cell)
    searched = grid(trials=1)
    assert "vicreg#0" in searched.methods
    assert train(searched, "vicreg#0", "static-uniform", 0.5)["batch_size"] == "64"


def test_tuned__of_none_is_for_level_0_where_panels_share_it() -> None:
    of = grid({"vicreg": {"none": ROWS["vicreg"]["none"]}}, levels=[0, 1], panels=["static-photographs"])
    shared, other = [cell for cell in of.cells if cell.method == "vicreg" and cell.seed == 0]
    assert (shared.panel, other.panel) == (None, "static-photographs")
    assert train(of, "vicreg", None, 0)["optimizer.lr"] == "0.1"
    assert "optimizer.lr" not in train(of, "vicreg", "static-photographs", 1)


def test_tuned__batch_size_takes_as_many_steps_as_make_the_sequences_of_the_preset() -> None:
    assert train(grid(), "vicreg", "static-uniform", 0.5)["steps"] == str(600 * 64 // 16)
    assert train(grid(), "vicreg", "static-uniform", 1.5)["steps"] == "600"  # has no batch size of its own
    assert train(grid(), "vicreg", "static-uniform", 3)["steps"] == "9"
    big = grid({"vicreg": {"none": {0: ["batch_size=100000"]}}})
    assert train(big, "vicreg", None, 0)["steps"] == "1"


def test_tuned__changes_no_steps_or_batch_size_of_the_command_line() -> None:
    found = train(grid(batch_size=32), "vicreg", "static-uniform", 0.5)
    assert (found["batch_size"], found["steps"], found["optimizer.lr"]) == ("32", "600", "0.5")
    found = train(grid(steps=10), "vicreg", "static-uniform", 0.5)
    assert (found["batch_size"], found["steps"]) == ("16", "10")
    assert train(grid(steps=10), "vicreg", "static-uniform", 3)["steps"] == "10"


@pytest.mark.parametrize(
    ("tuned", "message"),
    [
        ([], None),
        ({}, None),
        (["vicreg"], r"tuned must map methods to what was tuned for them, got \['vicreg'\]"),
        ({"vicrg": {}}, "unknown method in tuned 'vicrg': did you mean 'vicreg'?"),
        ({"vicreg": {"static-unifrm": {}}}, "unknown panel in tuned.vicreg 'static-unifrm': did you mean 'static-uni"),
        ({"vicreg": 3}, "tuned.vicreg must map panels to what was tuned for them, got 3"),
        ({"vicreg": {"none": {}}}, "tuned.vicreg.none must map levels, numbers of at least 0, to overrides, got {}"),
        ({"vicreg": {"none": {"low": []}}}, "tuned.vicreg.none must map levels, numbers of at least 0, to overrides"),
        ({"vicreg": {"none": {-1: []}}}, "tuned.vicreg.none must map levels, numbers of at least 0, to overrides"),
        ({"vicreg": {"none": {0.5: "a=1"}}}, r"tuned.vicreg.none.0.5 must be a list of overrides, .* got 'a=1'"),
        ({"vicreg": {"none": {0: ["batch_size=0"]}}}, "tuned batch_size must be an integer of at least 1, got 'batch"),
        ({"vicreg": {"none": {0: ["batch_size=a"]}}}, "tuned batch_size must be an integer of at least 1, got 'batch"),
    ],
)
def test_grid__refuses_what_cannot_have_been_tuned(tuned: Any, message: str | None) -> None:
    if message is None:
        assert grid(tuned).tuned.rows == {}
    else:
        with pytest.raises(ValueError, match=message):
            grid(tuned)


def test_jobs__refuse_tuned_settings_that_do_not_fit(tmp_path: Path) -> None:
    of = grid({"vicreg": {"dynamic-uniform": {1: ["optimizer.rl=1"]}}})
    with pytest.raises(ValueError, match=r"vicreg dynamic-uniform 1 seed 0 cannot be run: .*optimizer\.rl"):
        make_jobs(of, [Cell("vicreg", "dynamic-uniform", 1, 0)], tmp_path)
    with pytest.raises(ValueError, match="vicreg is tuned by level on 'static-uniform', which has none"):
        Tuned(ROWS).overrides("vicreg", "static-uniform", None)
    with pytest.raises(ValueError, match="vicreg has a tuned batch size, and no preset says for how many steps"):
        Tuned(ROWS).overrides("vicreg", "static-uniform", 0.5)
