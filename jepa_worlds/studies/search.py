"""Search: trials of a method with other settings, compared by what validation episodes say of them.

Settings are drawn by a scrambled Sobol sequence, which is spread more evenly than chance: the first 2ⁿ trials have one
value in each of the 2ⁿ equal parts of every range (Bousquet et al., 2017, "Critical Hyper-Parameters: No Random, No
Cry").
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch.quasirandom import SobolEngine

from envs.arguments import require_whole
from jepa_worlds.shared.markdown import markdown_table

Search = dict[str, list[Any]]
"""What is drawn for a key: ``[low, high, log]``, ``[low, high, linear]``, or one of a list of choices."""

SCALES = ("log", "linear")
DIGITS = 3


@dataclass(frozen=True)
class Trial:
    """How well some settings of a method do.

    Attributes:
        method: whose they are.
        name: of the trial; that of the method for its settings as they are.
        overrides: of ``train``, that were drawn.
        score: the mean over cells of the error on validation episodes; less is better.
        cells: how many.
    """

    method: str
    name: str
    overrides: list[str]
    score: float
    cells: int


def trials(method: str, search: Search, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Names and overrides of trials 0 … count − 1. Each is a function of (seed, number, method, search) alone.

    Raises:
        ValueError: a count or a seed that is none, or a range that cannot be drawn from.
    """
    require_whole(0, trials=count, search_seed=seed)
    for key, values in search.items():
        _check(f"search of {method!r}: {key}", values)
    if not (search and count):
        return
    sequence = SobolEngine(len(search), scramble=True, seed=zlib.crc32(f"{seed} {method}".encode()))
    points = sequence.draw(count, dtype=torch.float64)
    for number, point in enumerate(points.tolist()):
        drawn = [_drawn(values, at) for values, at in zip(search.values(), point, strict=True)]
        yield f"{method}#{number}", [f"{key}={_said(value)}" for key, value in zip(search, drawn, strict=True)]


def _check(what: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{what} must be [low, high, log], [low, high, linear] or a list of choices, got {values!r}")
    if len(values) == 3 and values[2] in SCALES:
        low, high, scale = values
        numbers = all(type(x) in (int, float) and math.isfinite(x) for x in (low, high))
        if not numbers or not low < high or (scale == "log" and low <= 0):
            raise ValueError(f"{what} must have low below high, and above 0 for log, got {values!r}")


def _drawn(values: Sequence[Any], at: float) -> Any:
    """What lies at 0 ≤ ``at`` < 1 of a range, or of a list of choices."""
    if not (len(values) == 3 and values[2] in SCALES):
        return values[int(at * len(values))]
    low, high, scale = values
    number = low * (high / low) ** at if scale == "log" else low + (high - low) * at
    return float(f"{number:.{DIGITS}g}")


def _said(value: Any) -> str:
    """A value as an override has it."""
    return value if isinstance(value, str) else json.dumps(value)


def ranked(drawn: Mapping[str, list[str]], scores: Mapping[str, Sequence[float | None]]) -> list[Trial]:
    """Trials, the best first, and the methods that they were drawn for among them.

    Args:
        drawn: the overrides of every trial, by name.
        scores: of every cell, by method or trial; None for a cell that has failed, or whose probe did not tell. What
            has such a cell, or fewer cells than others, is left out: means would be of different things.
    """
    overrides: dict[str, list[str]] = {method: [] for method in _methods(drawn)} | dict(drawn)
    most = max((len(scores.get(name, ())) for name in overrides), default=0)
    found = []
    for name, given in overrides.items():
        own = [score for score in scores.get(name, ()) if score is not None]
        if own and len(own) == most:
            found.append(Trial(name.partition("#")[0], name, given, mean(own), len(own)))
    return sorted(found, key=lambda trial: trial.score)


def _methods(drawn: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition("#")[0] for name in drawn))


def best(found: Sequence[Trial]) -> list[Trial]:
    """The best trial of each method."""
    first: dict[str, Trial] = {}
    for trial in found:
        first.setdefault(trial.method, trial)
    return list(first.values())


def table(found: Sequence[Trial]) -> list[str]:
    """Trials as a Markdown table."""
    rows = ([t.name, f"{t.score:.3g}", str(t.cells), " ".join(t.overrides) or "as it is"] for t in found)
    return markdown_table(["trial", "validation RMSE", "cells", "overrides of train"], rows)
