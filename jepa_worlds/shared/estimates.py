"""Means and shares, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number over seeds.

    Attributes:
        values: one a seed.
        mean: of them.
        half: half the width of its 95 % Student interval; None for a single seed.
    """

    values: tuple[float, ...]
    mean: float
    half: float | None


def estimate(values: Iterable[float]) -> Estimate | None:
    """Mean and 95 % Student interval, t_{0.975, n−1} · s / √n; None of no values."""
    from scipy.stats import t  # slow to import

    found = np.asarray(list(values), np.float64)
    if not len(found):
        return None
    half = None
    if len(found) > 1:
        half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return Estimate(tuple(found.tolist()), float(found.mean()), half)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) of a share, (p̂ + z²/2n ± z·√(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= count or count < 1:
        raise ValueError(f"successes must be from 0 to the number of trials, at least 1; got {successes} of {count}")
    z, share = 1.959963984540054, successes / count
    half = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    middle, scale = share + z**2 / (2 * count), 1 + z**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
