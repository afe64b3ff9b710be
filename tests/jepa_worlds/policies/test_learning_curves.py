"""The picture of learning curves."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jepa_worlds.pictures.figures import COLOURS, MUTED
from jepa_worlds.policies import learning_curves as module
from jepa_worlds.policies.learning_curves import learning_curves
from jepa_worlds.policies.returns import Curve, interval, iqm, summary


def row(seeds: int, top: float, seconds: float = 1.0) -> list[Curve]:
    """Curves that rise to about ``top`` over 4 evaluations."""
    rng = np.random.default_rng(int(top * 10))
    tops = top + rng.uniform(-1, 1, seeds)
    return [Curve([0, 10, 20, 30], [0.0, seconds, 2 * seconds, 3 * seconds], [[0.0], [t / 2], [t], [t]]) for t in tops]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """``drawn(rows, …)`` draws and returns the figure."""

    def draw(rows, random=0.0, **settings):
        kept = []
        monkeypatch.setattr(module, "save_figure", lambda figure, file: kept.append(figure))
        learning_curves(rows, summary(rows, [[random]], **settings), "PPO", tmp_path / "curves.png")
        return kept[0]

    return draw


def test_learning_curves__are_a_picture(tmp_path):
    rows = {"latents": row(3, 8.0), "state": row(3, 10.0)}
    learning_curves(rows, summary(rows, [[0.0, 1.0]]), "PPO", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    for colour in COLOURS[:2]:
        assert (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).sum() > 300
    assert not list(tmp_path.glob("*.tmp*"))


@pytest.mark.parametrize(("panel", "points"), [(0, [0, 10, 20, 30]), (1, [0, 2, 4, 6])])
def test_learning_curves__show_interquartile_means_and_their_intervals(drawn, panel, points):
    curves = row(5, 10.0, seconds=2.0)
    axis = drawn({"state": curves}).axes[panel]
    means = np.stack([curve.means for curve in curves])
    line = next(line for line in axis.lines if len(line.get_xdata()) == 4)
    np.testing.assert_allclose(line.get_xdata(), points)
    np.testing.assert_allclose(line.get_ydata(), iqm(means))
    band = axis.collections[0].get_paths()[0].vertices
    low, high = interval(means)
    for x, *ends in zip(points, low, high, strict=True):
        there = band[np.isclose(band[:, 0], x), 1]
        np.testing.assert_allclose([there.min(), there.max()], ends)


def test_learning_curves__of_one_seed_have_no_band(drawn):
    figure = drawn({"latents": row(1, 8.0), "state": row(2, 10.0)})
    assert [len(axis.collections) for axis in figure.axes] == [1, 1]


def test_learning_curves__name_everything_from_top_to_bottom(drawn):
    rows = {"pixels": row(1, 3.0), "state": row(1, 20.0), "latents": row(1, 30.0)}
    figure = drawn(rows, random=1.0, nothing=[0.0])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["latents", "state", "90 % of the way to state", "pixels", "random actions", "no action"]
    shown = figure.legends[0].legend_handles
    assert [line.get_color() for line in shown] == [COLOURS[2], COLOURS[1], MUTED, COLOURS[0], MUTED, MUTED]
    assert figure.get_suptitle().startswith("PPO\n")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, [1.0, 9.1]), ({"levels": [0.5, 0.25]}, [1.0, 5.5]), ({"levels": []}, [1.0]), ({"best": "none"}, [1.0])],
    ids=str,
)
def test_learning_curves__show_random_actions_and_the_highest_level(drawn, settings, expected):
    flat = Curve([0, 10], [0.0, 1.0], [[0.0], [10.0]])
    figure = drawn({"state": [flat]}, random=1.0, **settings)
    for axis in figure.axes:
        assert [line.get_ydata()[0] for line in axis.lines if line.get_color() == MUTED] == pytest.approx(expected)


def test_learning_curves__tell_many_rows_apart(drawn):
    figure = drawn({f"run {i}": row(1, 5.0 + i) for i in range(16)})
    looks = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert len(set(looks)) == 16
    assert looks[:7] == [(colour, "-") for colour in COLOURS]
