"""What the learning curves of policies come to, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jepa_worlds.policies.returns import FLOORS
from jepa_worlds.shared.markdown import markdown_table


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `jepa_worlds.policies.returns.summary` found, a line a row, as a Markdown table.

    ``> 20 k`` steps: not within so many. A dagger: the training of a seed had ended before.
    """
    rows = {name: row for name, row in found.items() if name not in FLOORS}
    first = next(iter(rows.values()))
    finals = [row["final_return"] for row in found.values()]
    size = max(finals) - min(finals) or max(map(abs, finals)) or 1
    digits = int(np.clip(2 - np.floor(np.log10(size)), 0, 6))

    def value(score: float, ends: Sequence[float] | None, mark: str = "") -> str:
        return f"{mark}{score:.{digits}f}{mark}{_range(ends, lambda end: f'{end:.{digits}f}')}"

    def efficiency(entry: Mapping[str, Any], trained: int) -> str:
        if entry["return"] is None:
            return "–"
        ends = None if entry["steps_ci95"] == [None, None] else entry["steps_ci95"]
        return _count(entry["steps"], trained) + _range(ends, lambda end: _count(end, trained))

    def normalised(row: Mapping[str, Any]) -> str:
        return "–" if row["normalised"] is None else f"{row['normalised']:.2f}"

    seeds = ", ".join(map(str, sorted({row["seeds"] for row in rows.values()})))
    final = f"return after {_count(first['steps'])} steps [95 %; seeds: {seeds}]"
    efforts = [f"steps to {100 * entry['level']:.0f} %" for entry in first["steps_to"]]
    later = f"return after {first['at_seconds']['seconds']:.3g} s"
    heads = ["what the policy sees", final, "normalised", "area under the curve", *efforts, later, "training steps/s"]
    lines = []
    for name, row in rows.items():
        then, reached = row["at_seconds"], [efficiency(entry, row["trained_steps"]) for entry in row["steps_to"]]
        score = value(row["final_return"], row["final_return_ci95"], "**"), normalised(row)
        then = value(then["return"], then["return_ci95"]) + "†" * then["ended"]
        mean = value(row["area"], row["area_ci95"])
        lines.append([name, *score, mean, *reached, then, _count(row["steps_per_second"])])
    for name, row in ((name, found[name]) for name in FLOORS if name in found):
        score = value(row["final_return"], row["final_return_ci95"]), normalised(row)
        lines.append([FLOORS[name], *score, *["–"] * (len(heads) - 3)])
    ended = any(row["at_seconds"]["ended"] for row in rows.values())
    notes = ["† some seeds had ended training by then, and stay as they were."] if ended else []
    if first["normalised"] is None:
        notes.append("–: the true state is no better than random actions, or was not trained on.")
    return [*markdown_table(heads, lines), *(line for note in notes for line in ("", note))]


def _range(ends: Sequence[Any] | None, text: Callable[[Any], str]) -> str:
    return "" if ends is None else f" [{text(ends[0])}, {text(ends[1])}]"


def _count(number: float | None, most: int = 0) -> str:
    """740, 2.8 k, 15 k, 1.2 M; ``> 20 k`` for what is more than ``most``."""
    if number is None:
        return f"> {_count(most)}"
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if number >= size:
            return f"{number / size:.{0 if number >= 9.95 * size else 1}f}{unit}"
    return f"{number:.0f}"
