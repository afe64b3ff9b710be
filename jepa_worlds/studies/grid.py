"""The grid of an experiment: which methods are compared, on what data, at which levels and how often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jepa_worlds.studies.choices import check_levels, check_overrides
from jepa_worlds.studies.search import Search
from jepa_worlds.studies.tuned import SHARED, Tuned

OVERRIDES = ("collect", "train", "probe", "plan")
PLANS = "protocol="  # the override without which nothing is planned


@dataclass(frozen=True)
class Method:
    """What is compared.

    Attributes:
        title: in words.
        train: overrides of ``train``.
        search: what a search draws, see `jepa_worlds.studies.search`.
    """

    title: str
    train: list[str] = field(default_factory=list)
    search: Search = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_overrides("train", self.train)


@dataclass(frozen=True)
class Panel:
    """What it is compared on.

    Attributes:
        title: in words.
        collect, train, plan: overrides of these commands; ``plan`` is null where nothing is to be planned.
        levels: its own, whatever levels the others have; null is a panel's level that has none.
        level: the keys of ``collect`` that a level sets. Level 0 leaves the distractor out.
        score: its own factors in tables and plots.
        axis: ``{name, value}`` of panels that differ in one number, for plots.
    """

    title: str
    collect: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    plan: list[str] | None = field(default_factory=list)
    levels: list[float | None] | None = None
    level: list[str] = field(default_factory=lambda: ["distractor.level"])
    score: list[str] | None = None
    axis: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for key in ("collect", "train", "level"):
            check_overrides(key, getattr(self, key))
        if self.plan is not None:
            check_overrides("plan", self.plan)
        if self.levels is not None:
            check_levels(self.levels)

    @property
    def without_distractor(self) -> list[str]:
        """Its overrides of ``collect`` at level 0, but for ``distractor=none``."""
        return [override for override in self.collect if not re.match(r"[+~]*distractor\b", override)]

    @property
    def shares_level_0(self) -> bool:
        """Whether nothing of the panel is left without its distractor."""
        return not (self.without_distractor or self.train or self.plan or self.plan is None)


@dataclass(frozen=True)
class Cell:
    """One model. ``panel`` is None where panels do not differ, which is without distractors, at level 0."""

    method: str
    panel: str | None
    level: float | None
    seed: int

    @property
    def data(self) -> str:
        """What its dataset is called."""
        return "-".join([*self._where, f"s{self.seed}"])

    @property
    def run(self) -> str:
        """What its training run is called."""
        return f"{self.method}-{self.data}"

    @property
    def trial(self) -> bool:
        """Whether its method is a trial of a search."""
        return "#" in self.method

    @property
    def _where(self) -> list[str]:
        return [self.panel or SHARED] + ([] if self.level is None else [f"{self.level:g}"])

    def __str__(self) -> str:
        return " ".join([self.method, *self._where, f"seed {self.seed}"])


@dataclass(frozen=True)
class Grid:
    """An experiment with every choice made.

    Attributes:
        name, title, score: of the experiment.
        preset: its name.
        methods, panels: those to run; panels have their levels and scores.
        seeds: of all of them.
        first, last: overrides of each command before those of methods and panels, and after them.
        trials: methods that a search drew, each with the overrides.
        tuned: overrides of ``train`` of single cells, after those of methods and panels.
    """

    name: str
    title: str
    score: list[str]
    preset: str
    methods: dict[str, Method]
    panels: dict[str, Panel]
    seeds: list[int]
    first: dict[str, list[str]]
    last: dict[str, list[str]]
    trials: dict[str, list[str]]
    tuned: Tuned

    @property
    def cells(self) -> list[Cell]:
        """All models, numbered by their place: seed by seed, and what has the same dataset together."""
        found = []
        for seed in self.seeds:
            for panel, level in self._conditions():
                found += [Cell(method, panel, level, seed) for method in self.methods]
        return found

    def _conditions(self) -> Iterator[tuple[str | None, float | None]]:
        if any(panel.shares_level_0 and 0 in (panel.levels or []) for panel in self.panels.values()):
            yield None, 0
        for name, panel in self.panels.items():
            for level in panel.levels or []:
                if not (level == 0 and panel.shares_level_0):
                    yield name, level

    def overrides(self, cell: Cell) -> dict[str, list[str]]:
        """What a cell overrides of each command, but for its `level`, seed and paths; of ``plan`` only if it plans."""
        method, panel = self.methods[cell.method], self.panels[cell.panel] if cell.panel else Panel("")
        collected = [*panel.without_distractor, "distractor=none"] if cell.level == 0 else panel.collect
        tuned = self.tuned.overrides(cell.method, cell.panel, cell.level)
        trained = [*method.train, *panel.train, *tuned]
        own = {"collect": collected, "train": trained, "probe": [], "plan": panel.plan or []}
        found = {name: [*self.first[name], *own[name], *self.last[name]] for name in OVERRIDES}
        if panel.plan is None or not any(word.startswith(PLANS) for word in found["plan"]):
            del found["plan"]
        return found

    def level(self, cell: Cell) -> dict[str, float]:
        """What the level of a cell sets."""
        if not cell.level or cell.panel is None:
            return {}
        level = int(cell.level) if cell.level == int(cell.level) else cell.level  # 1.0 is 1, in hashes too
        return dict.fromkeys(self.panels[cell.panel].level, level)
