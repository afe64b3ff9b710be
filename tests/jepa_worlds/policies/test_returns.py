"""Statistics of learning curves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.stats

from jepa_worlds.policies.returns import Curve, aligned, area, at_seconds, crossing, interval, iqm, steps_to, summary
from jepa_worlds.policies.tables import table


def curve(*means: float, every: int = 100, seconds: float = 2.0) -> Curve:
    """An evaluation of 2 episodes every so many steps and seconds, with these mean returns."""
    evaluations = range(len(means))
    return Curve([every * e for e in evaluations], [seconds * e for e in evaluations], [[m - 1, m + 1] for m in means])


def rows(**means: list[list[float]]) -> dict[str, list[Curve]]:
    return {name: [curve(*seed) for seed in seeds] for name, seeds in means.items()}


def cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps": [0, 10]}, "2 steps, 3 seconds, 3 evaluations of [2] episodes"),
        ({"seconds": [0.0, 1.0, 2.0, 3.0]}, "3 steps, 4 seconds, 3 evaluations"),
        ({"returns": [[1.0, 2.0], [1.0], [1.0, 2.0]]}, r"of [1, 2] episodes"),
        ({"returns": [[], [], []]}, r"of [0] episodes"),
        ({"steps": [0], "seconds": [0.0], "returns": [[1.0]]}, "at least 2 evaluations"),
        ({"steps": [5, 10, 20]}, "steps must begin at 0 and increase, got [5, 10, 20]"),
        ({"steps": [0, 10, 10]}, "steps must begin at 0 and increase"),
        ({"seconds": [0.0, 2.0, 1.0]}, "seconds must not be negative nor fall"),
        ({"seconds": [-1.0, 2.0, 3.0]}, "seconds must not be negative nor fall"),
        ({"seconds": [1.0, 1.0, 1.0]}, "some must pass"),
        ({"returns": [[1.0, 2.0], [float("nan"), 0.0], [1.0, 2.0]]}, "returns must be finite"),
        ({"seconds": [0.0, 1.0, float("inf")]}, "seconds must be finite"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else None,
)
def test_curve__refuses_what_is_none(changed, said):
    good: dict[str, Any] = {"steps": [0, 10, 20], "seconds": [0.0, 1.0, 2.0], "returns": [[1.0, 2.0]] * 3}
    assert Curve(**good).means.tolist() == [1.5] * 3
    with pytest.raises(ValueError) as error:
        Curve(**good | changed)
    assert said in str(error.value)


@pytest.mark.parametrize("seeds", range(1, 14))
def test_iqm__is_scipys_trimmed_mean(seeds):
    scores = np.random.default_rng(seeds).standard_normal((seeds, 3, 4))
    np.testing.assert_allclose(iqm(scores), scipy.stats.trim_mean(scores, 0.25, axis=0), rtol=1e-12)


RLIABLE = {  # rliable 1.2.0: get_interval_estimates of aggregate_iqm over one task, 50 000 resamples
    (12.1, 15.7, 9.3, 30.2, 14.4): (14.06666667, 10.23333333, 25.36666667),
    (-3.0, 1.0, 2.5, 4.0, 10.0, 0.5, 7.0): (3.0, -0.1, 6.7),
    (0.2, 0.9, 0.4, 0.7, 0.1, 0.5, 0.8, 0.3, 0.6, 1.5): (0.55, 0.31666667, 0.83333333),
    (1.0, 2.0, 4.0): (2.33333333, 1.0, 4.0),
    (3.0, 5.0): (4.0, 3.0, 5.0),
}


@pytest.mark.parametrize("scores", RLIABLE, ids=len)
def test_interval__is_rliables(scores):
    found = iqm(np.array(scores)), *interval(np.array(scores), resamples=50_000)
    np.testing.assert_allclose(found, RLIABLE[scores], rtol=1e-7)


def test_interval__resamples_whole_curves():
    scores = np.random.default_rng(0).standard_normal((5, 1))
    low, high = interval(np.hstack([scores, -scores, scores + 3]))
    np.testing.assert_allclose(low, [low[0], -high[0], low[0] + 3])
    sums = interval(np.hstack([scores, -scores]), lambda drawn: drawn.mean(axis=0).sum(axis=-1))
    np.testing.assert_allclose(sums, 0, atol=1e-12)


def test_interval__follows_from_the_seed_of_its_draws():
    scores = np.random.default_rng(0).standard_normal(20)
    assert interval(scores).tolist() == interval(scores).tolist()
    assert interval(scores).tolist() != interval(scores, seed=1).tolist()


def test_interval__of_one_seed_is_none():
    assert interval(np.array([3.0])) is None


def test_aligned__takes_the_points_of_all_up_to_the_shortest():
    points, means = aligned([curve(0, 10, 20, 30), curve(0, 6, every=150)])
    assert points.tolist() == [0, 100, 150]
    assert means.tolist() == [[0, 10, 15], [0, 4, 6]]
    points, means = aligned([curve(0, 10, 20)], "seconds", end=3)
    assert (points.tolist(), means.tolist()) == ([0, 2, 3], [[0, 10, 15]])


def test_area__is_the_mean_return_over_training():
    found = area(np.array([0.0, 100.0, 400.0]), np.array([[0.0, 10.0, 20.0], [-3.0, -3.0, -3.0]]))
    np.testing.assert_allclose(found, [(100 * 5 + 300 * 15) / 400, -3])


def test_crossing__is_linear_between_evaluations():
    steps = np.array([0.0, 100.0, 200.0, 300.0])
    curves = np.array([[0, 10, 5, 20], [7, 0, 0, 0], [0, 0, 0, 8], [0, 0, 7, 0], [1, 2, 3, 4]])
    np.testing.assert_allclose(crossing(steps, curves, 7.0), [70, 0, 287.5, 200, np.inf])


def test_steps_to__is_where_the_interquartile_mean_crosses():
    curves = [curve(0, 4, 8), curve(0, 10, 10), curve(0, 2, 6), curve(0, 5, 9), curve(0, -99, 99)]
    means = iqm(np.stack([c.means for c in curves]))
    found, ends = steps_to(curves, 5.0)
    assert found == pytest.approx(np.interp(5.0, means, [0, 100, 200]))
    assert ends is not None and 50 <= ends[0] < found < ends[1] <= 200


def test_steps_to__says_none_for_what_is_not_reached():
    seldom = [curve(0, 5, 10)] + [curve(0, 0, 0)] * 2
    assert steps_to([curve(0, 1)], 5.0) == (None, None)
    assert steps_to([curve(0, 10)], 5.0) == (50.0, None)
    assert steps_to([curve(0, 1)] * 3, 5.0) == (None, [None, None])
    found, ends = steps_to(seldom, 8.0)  # 1 of 27 resamples is the first curve thrice: 3.7 %
    assert found is None and ends == [160.0, None]


def test_at_seconds__is_linear_and_stays_after_the_end():
    assert at_seconds(curve(0, 10, 20), 3.0) == (15.0, False)
    assert at_seconds(curve(0, 10, 20), 4.0) == (20.0, False)
    assert at_seconds(curve(0, 10, 20), 4.1) == (20.0, True)


def test_summary__tells_every_number_of_every_row():
    random = [[0.0, 2.0], [1.0, 3.0], [-1.0, 1.0]]  # means 1, 2, 0
    found = summary(rows(latents=[[1, 5, 9], [1, 7, 7], [1, 6, 8]], state=[[1, 11, 11]] * 3), random)
    latents, state = found["latents"], found["state"]
    assert list(found) == ["latents", "state", "random"]
    assert (found["random"]["final_return"], found["random"]["normalised"], found["random"]["seeds"]) == (1.0, 0.0, 3)
    assert (state["final_return"], state["normalised"], state["normalised_ci95"]) == (11.0, 1.0, [1.0, 1.0])
    assert latents["final_return"] == pytest.approx(8)
    assert latents["final_return_ci95"] == pytest.approx([7, 9])
    assert latents["normalised"] == pytest.approx(0.7)
    assert latents["normalised_ci95"] == pytest.approx([0.6, 0.8])
    assert latents["area"] == pytest.approx((3.5 + 7) / 2)
    assert latents["area_ci95"] == pytest.approx([5, 5.5])  # of the seeds' 5, 5.5 and 5.25
    half, most = latents["steps_to"]
    assert (half["level"], half["return"], half["best"]) == (0.5, 6.0, "state")
    assert half["steps"] == pytest.approx(100)
    assert half["steps_ci95"] == pytest.approx([500 / 6, 125])
    assert (most["level"], most["return"], most["steps"], most["steps_ci95"]) == (0.9, 10.0, None, [None, None])
    assert latents["at_seconds"] == {"seconds": 4.0, "return": 8.0, "return_ci95": [7.0, 9.0], "ended": False}
    assert (latents["seeds"], latents["steps"], latents["trained_steps"]) == (3, 200, 200)
    assert latents["steps_per_second"] == 50


def test_summary__has_no_action_as_a_floor():
    found = summary(rows(state=[[1, 11, 11]] * 3), [[1.0, 1.0]] * 3, nothing=[5.0, 7.0])
    assert list(found) == ["state", "random", "nothing"]
    assert found["nothing"] == {
        "seeds": 1,
        "final_return": 6.0,
        "final_return_ci95": None,
        "normalised": 0.5,
        "normalised_ci95": None,
    }
    assert cells(table(found))[-1] == ["no action", "6.0", "0.50", "–", "–", "–", "–", "–"]


def test_summary__compares_rows_at_equal_steps_and_equal_seconds():
    curves = {
        "latents": [curve(0, 10, 20), curve(0, 10, 20, seconds=2.5)],
        "pixels": [curve(0, 1, 2, 50, seconds=10.0), curve(0, 1, 2, 50, 50, seconds=10.0)],
        "state": [curve(0, 30, 40, 90, seconds=1.0), curve(0, 30, 40, 90, seconds=20.0)],
    }
    found = summary(curves, [[0.0]])
    assert {row["steps"] for name, row in found.items() if name != "random"} == {200}
    assert (found["pixels"]["final_return"], found["pixels"]["area"]) == (2, 1)
    assert (found["state"]["final_return"], found["state"]["normalised"]) == (40, 1)
    assert found["pixels"]["steps_to"][1]["steps"] == pytest.approx(200 + 100 * 34 / 48)  # beyond what the others had
    assert found["pixels"]["trained_steps"] == 300
    then = {
        name: (row["at_seconds"]["return"], row["at_seconds"]["ended"])
        for name, row in found.items()
        if name != "random"
    }
    assert then == {
        "latents": (18.0, False),
        "pixels": (pytest.approx(0.4), False),
        "state": (48.0, True),
    }  # of 90 and 6
    later = summary(curves, [[0.0]], seconds_of="pixels")["latents"]["at_seconds"]
    assert (later["seconds"], later["return"], later["ended"]) == (30.0, 20.0, True)


@pytest.mark.parametrize("best", ["none", "bad"])
def test_summary__without_a_better_row_has_no_normalised_scores(best):
    found = summary(rows(bad=[[0, 0, -1]] * 2, good=[[0, 1, 2]] * 2), [[0.0, 0.0]], best=best)
    for row in found.values():
        assert row["normalised"] is None and row["normalised_ci95"] is None
    assert found["good"]["steps_to"][0] == {
        "level": 0.5,
        "best": best,
        "return": None,
        "steps": None,
        "steps_ci95": None,
    }
    assert "None" not in "".join(table(found))


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_summary__of_few_seeds_is_json_and_a_table(seeds):
    few = rows(latents=[[0, 1, 2]] * seeds, pixels=[[0, 0, 0]] * seeds, state=[[0, 3, 3]] * seeds)
    found = summary(few, [[0.0, 1.0]] * seeds)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["latents"]["final_return_ci95"] is None) == (seeds == 1)
    lines = table(found)
    assert ("[2.00, 2.00]" in lines[2]) == (seeds > 1)
    assert "None" not in "".join(lines) and "nan" not in "".join(lines)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": {}}, "rows must have names"),
        ({"rows": {"latents": []}}, "at least 1 curve each, got {'latents': 0}"),
        ({"rows": {"random": [curve(0, 1)]}}, "names other than ['nothing', 'random']"),
        ({"rows": {"nothing": [curve(0, 1)]}}, "names other than ['nothing', 'random']"),
        ({"seconds_of": "pixels"}, "seconds_of must be one of the rows ['latents'], got 'pixels'"),
        ({"random": []}, "random must be finite returns"),
        ({"random": [[1.0], []]}, "random must be finite returns"),
        ({"random": [[float("nan")]]}, "random must be finite returns"),
        ({"levels": [0.5, 1.5]}, "levels must be above 0 and at most 1, got [0.5, 1.5]"),
        ({"levels": [0.0]}, "levels must be above 0"),
    ],
)
def test_summary__refuses_bad_input(changed, said):
    good: dict[str, Any] = {"rows": {"latents": [curve(0, 1)]}, "random": [[0.0]]}
    summary(**good)
    with pytest.raises(ValueError) as error:
        summary(**good | changed)
    assert said in str(error.value)


def test_table__has_a_line_a_row():
    def seeds(*means: list[float], seconds: float = 20.0) -> list[Curve]:
        return [curve(*seed, every=10_000, seconds=seconds) for seed in means]

    longer = {
        "a|b": seeds([-100, -60, -40.4], [-100, -60, -40.4]),
        "state": seeds([-100, -30, -20], [-100, -40, -20], seconds=8.0),
        "pixels": seeds([-100, -90, -85, -85], [-100, -90, -55, -55]),
    }
    lines = table(summary(longer, [[-100.0, -100.0]]))
    heads, rule, first, state, pixels, random = cells(line.replace("\\|", "/") for line in lines)
    assert rule == ["|".join(["---"] * len(heads))]
    assert heads == [
        "what the policy sees",
        "return after 20 k steps [95 %; seeds: 2]",
        "normalised",
        "area under the curve",
        "steps to 50 %",
        "steps to 90 %",
        "return after 40 s",
        "training steps/s",
    ]
    assert first == [
        "a/b",
        "**-40.4** [-40.4, -40.4]",
        "0.74",
        "-65.1 [-65.1, -65.1]",
        "10 k [10 k, 10 k]",
        "> 20 k",
        "-40.4 [-40.4, -40.4]",
        "500",
    ]
    assert pixels[4:6] == ["> 30 k [19 k, > 30 k]", "> 30 k"]  # 60 is 30/35 of the way from 90 to 55
    assert state[2] == "1.00" and state[6] == "-20.0 [-20.0, -20.0]†" and state[7] == "1.2 k"
    assert random == ["random actions", "-100.0", "0.00", "–", "–", "–", "–", "–"]
    assert lines[-2:] == ["", "† some seeds had ended training by then, and stay as they were."]


@pytest.mark.parametrize(
    ("final", "shown"), [(0.0123, "0.0123"), (0.512, "0.512"), (5.123, "5.12"), (51.23, "51.2"), (5123.4, "5123")]
)
def test_table__shows_three_digits_of_what_tells_rows_apart(final, shown):
    lines = table(summary(rows(latents=[[0, final]]), [[0.0]]))
    assert cells(lines)[2][1] == f"**{shown}**"


def test_table__says_why_there_is_no_normalised_score():
    note = "–: the true state is no better than random actions, or was not trained on."
    worse, better = ({"latents": [curve(0, 1)], "state": [curve(0, end)]} for end in (-1, 2))
    assert table(summary(worse, [[0.0]]))[-1] == note
    assert note not in table(summary(better, [[0.0]]))
