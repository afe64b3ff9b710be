"""What an experiment found: methods under conditions, with intervals over seeds, beside their floors.

A condition is a panel at a level. At level 0 there is no distractor: those rows belong to no panel, and to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jepa_worlds.data.dataset import is_position
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.probing.scoring import FLOORS
from jepa_worlds.shared.estimates import Estimate, estimate
from jepa_worlds.shared.files import read_json
from jepa_worlds.shared.runs import RESULTS, read_config

Row = dict[str, Any]
SHARED = "no distractor"
STATIC, DYNAMIC = "distractor.dynamics=static", "distractor.dynamics=dynamic"


@dataclass(frozen=True)
class Condition:
    """A panel at a level: what a dataset is made of, its seed apart.

    Attributes:
        panel: None for what all panels share, level 0.
        level: None for a panel that has none.
    """

    panel: str | None
    level: float | None


@dataclass(frozen=True)
class Chart:
    """One condition after the other along an axis: the levels of a panel, or panels that differ in one number.

    Attributes:
        title: what stays the same.
        axis: what changes.
        points: its values, ascending, with what was measured there.
        factor: whose error is shown.
    """

    title: str
    axis: str
    points: tuple[tuple[float, Condition], ...]
    factor: str

    @property
    def log(self) -> bool:
        """Whether the axis is better logarithmic."""
        first, last = self.points[0][0], self.points[-1][0]
        return first > 0 and last / first >= 8


def read_study(path: Path) -> dict[str, Any]:
    """What ``jepa_worlds.experiment`` wrote to a folder, or to the ``results.json`` that is named itself.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: they are not an experiment's.
    """
    file = path if path.is_file() else path / RESULTS
    if not file.is_file():
        raise FileNotFoundError(
            f"no results at {str(file)!r}: make them with python -m jepa_worlds.experiment … out={file.parent}"
        )
    content = read_json(file)
    if not isinstance(content, dict) or not {"experiment", "rows"} <= content.keys():
        raise ValueError(f"{str(file)!r} is not what jepa_worlds.experiment writes: it lacks 'experiment' or 'rows'")
    return content


class Study:
    """The results of an experiment.

    Args:
        out: the folder that ``jepa_worlds.experiment`` wrote.

    Raises:
        FileNotFoundError: it holds no results.
        ValueError: they are not an experiment's, no cell is finished, or seeds of a method were not probed alike.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.content, self.config = out, read_study(out), read_config(out)
        self.experiment: dict[str, Any] = self.content["experiment"]
        self.rows: list[Row] = self.content["rows"]
        self.failed: list[dict[str, Any]] = self.content.get("failed", [])
        if not self.rows:
            why = f"; all {len(self.failed)} failed, the first: {self.failed[0]['error']}" if self.failed else ""
            raise ValueError(f"{str(out / RESULTS)!r} holds no finished cell{why}. Run the experiment again")
        self._cells: dict[tuple[str, Condition], list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: row["cell"]["seed"]):
            self._cells.setdefault((row["cell"]["method"], _condition(row)), []).append(row)
        for (method, condition), cells in self._cells.items():
            self._check(method, condition, cells)

    def _check(self, method: str, condition: Condition, cells: list[Row]) -> None:
        """Refuse what has no mean.

        Raises:
            ValueError: seeds under different protocols, or a seed twice.
        """
        where = f"{method!r}, {self.title(condition)}"
        for kind in ("probed", "planned in"):
            found = {protocols(row)[kind] for row in cells if kind in protocols(row)}
            if len(found) > 1:
                raise ValueError(
                    f"the seeds of {where} were {kind} under different protocols and have no mean: "
                    f"{sorted(map(' '.join, found))}; do all alike by running the experiment again"
                )
        seeds = [row["cell"]["seed"] for row in cells]
        if len({*seeds}) < len(seeds):
            raise ValueError(f"{where} has a seed more than once: {seeds}; run the experiment again")

    @cached_property
    def methods(self) -> dict[str, str]:
        """{name: title} of the methods that have rows, in the experiment's order."""
        there = {method: method for method, _ in self._cells}
        titles: dict[str, str] = self.experiment["methods"]
        return {name: title for name, title in titles.items() if name in there} | {
            name: name for name in there if name not in titles
        }

    @cached_property
    def conditions(self) -> list[Condition]:
        """What was measured: without distractors first, then panel by panel, by level."""
        order = [None, *self.experiment["panels"]]
        found = {condition for _, condition in self._cells}
        return sorted(found, key=lambda c: (order.index(c.panel), c.level or 0))

    @property
    def seeds(self) -> list[int]:
        """Of all rows."""
        return sorted({row["cell"]["seed"] for row in self.rows})

    def cells(self, method: str, condition: Condition) -> list[Row]:
        """The rows of a method under a condition, by seed; empty if there are none."""
        return self._cells.get((method, condition), [])

    def title(self, condition: Condition, level: bool = True) -> str:
        """What a condition is called."""
        if condition.panel is None:
            return SHARED
        title = self.experiment["panels"][condition.panel]["title"]
        return title if condition.level is None or not level else f"{title}, level {condition.level:g}"

    def factors(self, condition: Condition) -> list[str]:
        """The factors that score a condition."""
        panel = self.experiment["panels"].get(condition.panel, {})
        return panel.get("score") or self.experiment["score"]

    def side(self, row: Row) -> int | None:
        """The height of a row's frames in px; None where its run is gone."""
        try:
            return int(read_card(self.out / row["run"])["spec"]["frame_shape"][1])
        except FileNotFoundError:
            return None

    def privileged(self, method: str) -> bool:
        """Whether the objective of a method was told the truth about a factor: a reference, not a competitor."""
        rows = (row for row in self.rows if row["cell"]["method"] == method)
        terms = next(rows)["config"]["objective"].get("terms", {}).values()
        return any("factor" in term for term in terms)

    def estimate(self, method: str, condition: Condition, read: Callable[[Row], Any]) -> Estimate | None:
        """A number of a method's rows under a condition; None where no row has it."""
        return estimate(x for row in self.cells(method, condition) if (x := read(row)) is not None)

    @cached_property
    def parts(self) -> list[list[str]]:
        """Methods that can be compared: under every condition, all those of a part have the same protocols."""
        parts: list[tuple[list[str], dict[tuple[Condition, str], tuple[str, str]]]] = []
        for method in self.methods:
            own = {
                (condition, kind): mine
                for condition in self.conditions
                for row in self.cells(method, condition)
                for kind, mine in protocols(row).items()
            }
            for methods, shared in parts:
                if all(shared.get(key, mine) == mine for key, mine in own.items()):
                    methods.append(method)
                    shared |= own
                    break
            else:
                parts.append(([method], own))
        return [methods for methods, _ in parts]

    def floors(self, methods: Sequence[str], condition: Condition, factor: str) -> dict[str, Estimate]:
        """Chance and pixels over datasets; the untrained network over seeds, the mean of the methods' architectures."""
        rows = [row for method in methods for row in self.cells(method, condition) if factor in row["floors"]]
        found = {}
        for floor in FLOORS:
            groups: dict[Any, list[float]] = {}
            for row in rows:
                key = row["cell"]["seed"] if floor == "untrained" else row["dataset"]["hash"]
                groups.setdefault(key, []).append(row["floors"][factor][floor])
            number = estimate(float(np.mean(group)) for group in groups.values())
            if number is not None:
                found[floor] = number
        return found

    def near(self, level: float, panels: Sequence[str] | None = None) -> list[Condition]:
        """One condition a panel, that whose level is the nearest to this one, after what they share."""
        found = [condition for condition in self.conditions if condition.panel is None]
        for panel in self.experiment["panels"] if panels is None else panels:
            own = [c for c in self.conditions if c.panel == panel]
            above = [c for c in own if c.level != 0] or own
            if above:
                found.append(min(above, key=lambda c: abs((c.level or 0) - level)))
        return found

    def charts(self, level: float) -> list[Chart]:
        """All that has an axis: panels by level, and panels that name one, at this level."""
        found, axes = [], dict[tuple[str, str], list[tuple[float, Condition]]]()
        for name, panel in self.experiment["panels"].items():
            own = [c for c in self.conditions if c.panel == name and c.level is not None]
            shared = Condition(None, 0)
            if 0 in panel["levels"] and shared in self.conditions and all(c.level != 0 for c in own):
                own = [shared, *own] if own else []
            points = tuple((c.level or 0.0, c) for c in own)
            if len(points) > 1:
                found += [Chart(panel["title"], "level", points, factor) for factor in self.factors(own[-1])]
        for condition in self.near(level):
            panel = self.experiment["panels"].get(condition.panel, {})
            if axis := panel.get("axis"):
                for factor in self.factors(condition):
                    axes.setdefault((axis["name"], factor), []).append((float(axis["value"]), condition))
        for (name, factor), values in axes.items():
            if len(values) > 1:
                points = tuple(sorted(values, key=lambda point: point[0]))
                found.append(Chart(name, name, points, factor))
        return found

    def controls(self, conditions: Sequence[Condition]) -> list[tuple[Condition, Condition]]:
        """Pairs that differ in nothing but that the distractor is static in one, and dynamic in the other."""
        panels = self.config.get("experiment", {}).get("panels", {})
        made = {c: set(panels.get(c.panel, {}).get("collect", [])) for c in conditions}
        return [
            (static, dynamic)
            for static, how in made.items()
            for dynamic, other in made.items()
            if STATIC in how and static.level == dynamic.level and how - {STATIC} | {DYNAMIC} == other
        ]

    def ranked(self, methods: Sequence[str]) -> list[str]:
        """Methods from the best to the worst, by the mean of their error as a share of chance."""
        shares: dict[str, float] = {}
        for method in methods:
            found = []
            for condition in self.conditions:
                for factor in self.factors(condition):
                    score = self.estimate(method, condition, rollout_rmse(factor))
                    floors = self.floors(methods, condition, factor)
                    if score is not None and floors["chance"].mean > 0:
                        found.append(score.mean / floors["chance"].mean)
            shares[method] = float(np.mean(found)) if found else np.inf
        return sorted(methods, key=shares.__getitem__)


def _condition(row: Row) -> Condition:
    return Condition(row["cell"]["panel"], row["cell"]["level"])


def protocols(row: Row) -> dict[str, tuple[str, str]]:
    """Names and hashes of the protocols under which a row was ``probed`` and, if it was, ``planned`` in."""
    found = {"probed": row["protocol"], "planned in": (row.get("planned") or {}).get("protocol")}
    return {kind: (one["id"], one["hash"]) for kind, one in found.items() if one}


def metric(factor: str, name: str) -> Callable[[Row], float | None]:
    """What reads a number of a factor off a row."""
    return lambda row: row["metrics"].get(factor, {}).get(name)


def rollout_rmse(factor: str) -> Callable[[Row], float | None]:
    """What reads a row's score."""
    return metric(factor, "rollout_rmse")


def diagnostic(name: str) -> Callable[[Row], float | None]:
    """What reads a diagnostic off a row."""
    return lambda row: row["diagnostics"].get(name)


def unit(factor: str) -> str:
    """The unit of a factor's error: px for positions, and its own otherwise, which is not said."""
    return "px" if is_position(factor) else ""
