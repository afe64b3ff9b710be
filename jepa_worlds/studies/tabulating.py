"""The tables of a report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jepa_worlds.probing.scoring import FLOORS
from jepa_worlds.shared.estimates import Estimate, estimate
from jepa_worlds.shared.markdown import markdown_table
from jepa_worlds.studies.study import Condition, Row, Study, diagnostic, metric, unit

WIDE = 9  # columns of numbers beside each other; more go into another table
FLOOR_TITLES = {
    "chance": "always the mean (chance)",
    "pixels": "linear probe of the pixels",
    "untrained": "untrained network",
}


@dataclass(frozen=True)
class Head:
    """A column: a factor under a condition; its name leaves the factor out where that is not what is measured."""

    condition: Condition
    factor: str
    by_factor: bool = True


Floors = Callable[[Study, Sequence[str], Head], dict[str, Estimate]]
"""Finds the floors of methods in a column, by what they are called."""


@dataclass(frozen=True)
class Measure:
    """A number that a table holds of every method under every condition.

    Attributes:
        title: what it is.
        read: what reads it off a row, given the factor.
        floors: what finds floors of this kind, if there are any.
        least: whether less is better; None if neither is.
        digits: after the point.
        by_factor: whether it is another number for every factor of the score.
    """

    title: str
    read: Callable[[Study, str], Callable[[Row], float | None]]
    floors: Floors | None = None
    least: bool | None = True
    digits: int = 2
    by_factor: bool = True


def probed_floors(study: Study, methods: Sequence[str], head: Head) -> dict[str, Estimate]:
    """Those of a probe."""
    found = study.floors(methods, head.condition, head.factor)
    return {FLOOR_TITLES[name]: found[name] for name in FLOORS if name in found}


def _of_side(study: Study, factor: str) -> Callable[[Row], float | None]:
    """Reads the error of a position, divided by the frame's height: what the 2022 paper's tables hold."""

    def read(row: Row) -> float | None:
        error, side = metric(factor, "rollout_rmse")(row), study.side(row)
        return error / side if error is not None and side and unit(factor) else None

    return read


ROLLOUT = Measure("RMSE over the open-loop rollout", lambda _, f: metric(f, "rollout_rmse"), probed_floors)
OTHERS = (
    Measure("RMSE of latents encoded from every frame", lambda _, f: metric(f, "encoder_rmse")),
    Measure("R² over the open-loop rollout", lambda _, f: metric(f, "r2"), least=False),
    Measure(
        "RMSE over the open-loop rollout as a share of the frame's side (the 2022 paper's unit)", _of_side, digits=3
    ),
)


def _whole(title: str, read: Callable[[Row], float | None], digits: int) -> Measure:
    return Measure(title, lambda *_: read, least=None, digits=digits, by_factor=False)


REASONS = (
    _whole("R² of the background, latents of frames", metric("background", "encoder_r2"), 2),
    Measure("R² of the score's factor, latents of frames", lambda _, f: metric(f, "encoder_r2"), least=False),
    _whole("r_within", diagnostic("r_within"), 3),
    _whole("RankMe", diagnostic("rankme"), 0),
    _whole("action sensitivity", diagnostic("action_sensitivity"), 3),
)


@dataclass(frozen=True)
class Cell:
    """A number in a table.

    Attributes:
        number: over seeds; None if there is none.
        best: whether no competitor has a better mean.
        share: how much of chance's error is gone, from 0 to 1, for the shade; None where that means nothing.
        digits: after the point.
    """

    number: Estimate | None
    best: bool = False
    share: float | None = None
    digits: int = 2

    @property
    def mean(self) -> str:
        """Over seeds, in words."""
        return "–" if self.number is None else f"{self.number.mean:.{self.digits}f}"

    @property
    def half(self) -> str:
        """Half the width of the interval, in words; empty if there is none."""
        known = self.number is not None and self.number.half is not None
        return f"± {self.number.half:.{self.digits}f}" if known else ""  # type: ignore[union-attr]

    def __str__(self) -> str:
        return f"**{self.mean}** {self.half}".strip() if self.best else f"{self.mean} {self.half}".strip()


@dataclass(frozen=True)
class Line:
    """A row of a table: a method (``name`` is None for a floor), its numbers, and its seconds of training."""

    name: str | None
    title: str
    cells: list[Cell]
    seconds: Estimate | None = None


@dataclass(frozen=True)
class Table:
    """Methods, those that were told the truth, and floors, by columns."""

    heads: list[Head]
    lines: list[Line]

    def spans(self, study: Study) -> list[tuple[str, int]]:
        """Titles of panels, and how many columns each has."""
        titles = (study.title(head.condition, level=False) for head in self.heads)
        return [(title, len(list(group))) for title, group in itertools.groupby(titles)]


def tables(study: Study, methods: Sequence[str], measure: Measure) -> list[Table]:
    """A measure of methods that can be compared, in as many tables as it takes; a panel is not torn apart."""
    heads = [
        Head(condition, factor, measure.by_factor)
        for condition in study.conditions
        for factor in study.factors(condition)[: None if measure.by_factor else 1]
        if any(study.estimate(method, condition, measure.read(study, factor)) for method in methods)
    ]
    if not heads:
        return []
    share = len(heads) / -(-len(heads) // WIDE)  # columns of each, if all were alike
    blocks: list[list[Head]] = [[]]
    for _, group in itertools.groupby(heads, key=lambda head: head.condition.panel):
        panel = list(group)
        if len(blocks[-1]) + len(panel) / 2 > share:
            blocks.append([])
        blocks[-1] += panel
    return [_table(study, methods, measure, block) for block in blocks if block]


def _table(study: Study, methods: Sequence[str], measure: Measure, heads: list[Head]) -> Table:
    columns = [_column(study, methods, measure, head) for head in heads]
    ordered = sorted(methods, key=study.privileged)  # stable: what was told the truth comes last
    lines = [
        Line(name, study.methods[name], [column[name] for column in columns], seconds(study, name)) for name in ordered
    ]
    if measure.floors:
        floors = [measure.floors(study, methods, head) for head in heads]
        titles = dict.fromkeys(title for found in floors for title in found)
        lines += [Line(None, x, [Cell(found.get(x), digits=measure.digits) for found in floors]) for x in titles]
    return Table(heads, lines)


def _column(study: Study, methods: Sequence[str], measure: Measure, head: Head) -> dict[str, Cell]:
    numbers = {name: study.estimate(name, head.condition, measure.read(study, head.factor)) for name in methods}
    means = [x.mean for name, x in numbers.items() if x is not None and not study.privileged(name)]
    best = None if measure.least is None or len(means) < 2 else (min if measure.least else max)(means)
    chance = study.floors(methods, head.condition, head.factor).get("chance")
    return {
        name: Cell(
            number,
            best=number is not None and number.mean == best and not study.privileged(name),
            share=_share(number, chance) if measure.floors is probed_floors else None,
            digits=measure.digits,
        )
        for name, number in numbers.items()
    }


def _share(number: Estimate | None, chance: Estimate | None) -> float | None:
    if number is None or chance is None or chance.mean == 0:
        return None
    return min(1.0, max(0.0, 1 - number.mean / chance.mean))


def seconds(study: Study, method: str) -> Estimate | None:
    """Of training a method, on the clock, over all its rows."""
    rows = [row for row in study.rows if row["cell"]["method"] == method]
    return estimate(row["seconds"]["train"] for row in rows if row["seconds"].get("train") is not None)


def head_label(study: Study, head: Head) -> str:
    """What a column is called below its panel's title; may be empty."""
    words = [] if head.condition.level is None or head.condition.panel is None else [f"level {head.condition.level:g}"]
    if head.by_factor and (len(study.factors(head.condition)) > 1 or not words):
        words.append(head.factor.rpartition(".")[2])
    return ", ".join(words)


def column(study: Study, head: Head) -> str:
    """What a column is called in full."""
    return ": ".join(filter(None, [study.title(head.condition, level=False), head_label(study, head)]))


def markdown(study: Study, methods: Sequence[str], measure: Measure) -> list[str]:
    """A measure as Markdown tables."""
    lines = []
    for table in tables(study, methods, measure):
        heads = [column(study, head) for head in table.heads]
        rows = []
        for line in table.lines:
            trained = "–" if line.seconds is None else f"{line.seconds.mean:.0f}"
            title = line.title if line.name else f"*{line.title}*"
            rows.append([title, *map(str, line.cells), trained])
        lines += [*markdown_table(["method", *heads, "s of training"], rows), ""]
    return lines
