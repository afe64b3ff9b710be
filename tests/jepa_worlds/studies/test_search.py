"""Search: what is drawn, and how trials are ranked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from jepa_worlds.studies.search import Trial, best, ranked, table, trials

SEARCH: dict[str, list[Any]] = {
    "optimizer.lr": [1e-4, 1e-2, "log"],
    "warmup": [0.0, 0.4, "linear"],
    "clip": [1, 10, 100],
    "compile": [True, False],
    "precision": ["fp32", "bf16"],
}


def drawn(count: int = 400, seed: int = 0, method: str = "vicreg") -> list[dict[str, str]]:
    return [dict(x.split("=") for x in overrides) for _, overrides in trials(method, SEARCH, count, seed)]


def test_trials__are_named_and_drawn_from_their_ranges() -> None:
    names = [name for name, _ in trials("vicreg", SEARCH, 3, 0)]
    assert names == ["vicreg#0", "vicreg#1", "vicreg#2"]
    found = drawn()
    rates = np.log10([float(one["optimizer.lr"]) for one in found])
    assert -4 <= rates.min() < -3.9 and -2.1 < rates.max() <= -2 and rates.mean() == pytest.approx(-3, abs=0.1)
    warm = np.array([float(one["warmup"]) for one in found])
    assert 0 <= warm.min() < 0.02 and 0.38 < warm.max() <= 0.4 and warm.mean() == pytest.approx(0.2, abs=0.02)
    assert {one["clip"] for one in found} == {"1", "10", "100"}
    assert {one["compile"] for one in found} == {"true", "false"}
    assert {one["precision"] for one in found} == {"fp32", "bf16"}


def test_trials__have_one_value_in_each_part_of_a_range() -> None:
    for start, count in ((0, 4), (0, 16), (16, 16)):  # of a Sobol sequence, every block of 2ⁿ
        rates = np.log10([float(one["optimizer.lr"]) for one in drawn(32)[start : start + count]])
        assert sorted(np.floor((rates + 4) / 2 * count)) == list(range(count))


def test_trials__depend_on_seed_number_and_method_alone() -> None:
    assert drawn(5) == drawn(400)[:5]
    assert drawn(5)[1] != drawn(5)[2]
    assert drawn(5) != drawn(5, seed=1) and drawn(5) != drawn(5, method="idm")


def test_trials__are_none_without_a_search() -> None:
    assert list(trials("vicreg", {}, 5, 0)) == list(trials("vicreg", SEARCH, 0, 0)) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"be \[low, high, log\], \[low, high, linear\] or a list of choices, got \[\]"),
        (1e-3, "or a list of choices, got 0.001"),
        ([0, 1, "log"], "low below high, and above 0 for log"),
        ([2, 1, "linear"], "low below high"),
        (["a", "b", "log"], "low below high"),
        ([0, math.inf, "linear"], "low below high"),
    ],
)
def test_trials__refuse_what_cannot_be_drawn_from(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"search of 'm': lr must .*{message}"):
        list(trials("m", {"lr": values}, 1, 0))


def test_ranked__has_the_best_mean_first_and_leaves_out_what_is_not_complete() -> None:
    given = {"a#0": ["lr=1"], "a#1": ["lr=2"], "b#0": ["lr=3"], "b#1": ["lr=4"], "b#2": ["lr=5"]}
    scores: dict[str, list[float | None]] = {
        "a": [2.0, 4.0],
        "a#0": [1.0, 2.0],
        "a#1": [0.1, None],
        "b": [9.0, 9.0],
        "b#0": [0.5, 0.7],
        "b#1": [5.0, 5.0],
        "b#2": [0.1],
        "other": [0.0, 0.0],
    }
    found = ranked(given, scores)
    assert [trial.name for trial in found] == ["b#0", "a#0", "a", "b#1", "b"]
    assert found[1] == Trial("a", "a#0", ["lr=1"], 1.5, 2) and found[2].overrides == []
    assert [trial.name for trial in best(found)] == ["b#0", "a#0"]
    assert table(found)[2:4] == ["| b#0 | 0.6 | 2 | lr=3 |", "| a#0 | 1.5 | 2 | lr=1 |"]
    assert table(found)[4].endswith("| as it is |")
