from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from jepa_worlds.pictures import figures


def test_training_curves__mark_the_points_of_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": step, "train/loss": 1.0} for step in range(100)] + [{"step": 99, "held_out/r_within": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, file: drawn.append(figure))
    figures.training_curves(tmp_path)
    marks = {axis.get_title(): axis.lines[0].get_marker() for axis in drawn[0].axes if axis.lines}
    assert marks == {"train/loss": "", "held_out/r_within": "."}  # a line through one point would not be seen
