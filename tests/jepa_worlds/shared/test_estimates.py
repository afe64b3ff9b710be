"""Means and shares, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jepa_worlds.shared.estimates import estimate, wilson


def test_estimate__has_the_student_interval_over_seeds():
    values = [1.0, 2.0, 4.0]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found is not None and found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert estimate([3.0]).half is None
    assert estimate([]) is None


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (95, 100, 0.88825, 0.97846)],
)
def test_wilson__is_the_interval_of_the_literature(successes, count, low, high):
    assert wilson(successes, count) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson__refuses_what_cannot_be(successes, count):
    with pytest.raises(ValueError, match="successes must be from 0 to the number of trials"):
        wilson(successes, count)
