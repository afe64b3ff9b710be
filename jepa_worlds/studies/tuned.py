"""Settings that were tuned for a method on one panel at one level, as the tables of a paper give them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jepa_worlds.studies.choices import check_overrides, is_level, require_known

SHARED = "none"  # in place of a panel: level 0 where panels share it

Rows = dict[str, dict[str, dict[float, list[str]]]]
"""Overrides of ``train`` by method, panel and level."""


@dataclass(frozen=True)
class Tuned:
    """What was tuned, for all cells.

    Attributes:
        rows: by method, panel and level. Methods and panels that are not there stay as they are; so do trials of a
            search.
        sequences: that a model is trained on. A row that sets ``batch_size`` takes as many steps as that makes.
        given: ``steps`` and ``batch_size``, if the command line sets them: rows do not change these.
    """

    rows: Rows
    sequences: int | None = None
    given: frozenset[str] = frozenset()

    def overrides(self, method: str, panel: str | None, level: float | None) -> list[str]:
        """The row of the nearest level of the panel, the lower of two, and the steps that follow from its batch size.

        Raises:
            ValueError: there are rows, and a panel without levels; or nothing says how long to train.
        """
        rows = self.rows.get(method, {}).get(panel or SHARED)
        if not rows:
            return []
        if level is None:
            raise ValueError(f"{method} is tuned by level on {panel!r}, which has none")
        nearest = rows[min(sorted(rows), key=lambda tuned: abs(tuned - level))]
        row = [override for override in nearest if _key(override) not in self.given]
        keys = {_key(override): override for override in row}
        if "batch_size" not in keys or "steps" in self.given | keys.keys():
            return row
        if self.sequences is None:
            raise ValueError(f"{method} has a tuned batch size, and no preset says for how many steps of which size")
        return [*row, f"steps={max(1, round(self.sequences / _size(keys['batch_size'])))}"]


def check_rows(rows: Any, methods: Iterable[str], panels: Iterable[str]) -> Rows:
    """Rows whose methods and panels are the experiment's.

    Raises:
        ValueError: a name or a level that is none, or what is no list of overrides.
    """
    _named("tuned", rows, "method", methods)
    for method, by_panel in rows.items():
        _named(f"tuned.{method}", by_panel, "panel", [*panels, SHARED])
        for panel, by_level in by_panel.items():
            where = f"tuned.{method}.{panel}"
            if not isinstance(by_level, dict) or not by_level or not all(is_level(level) for level in by_level):
                raise ValueError(f"{where} must map levels, numbers of at least 0, to overrides, got {by_level!r}")
            for level, row in by_level.items():
                check_overrides(f"{where}.{level:g}", row)
                for override in row:
                    if _key(override) == "batch_size":
                        _size(override)
    return rows


def _named(what: str, given: Any, kind: str, known: Iterable[str]) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{what} must map {kind}s to what was tuned for them, got {given!r}")
    require_known(f"{kind} in {what}", list(given), dict.fromkeys(known))


def _key(override: str) -> str:
    return override.partition("=")[0]


def _size(override: str) -> int:
    size = override.partition("=")[2]
    if not size.isdecimal() or int(size) < 1:
        raise ValueError(f"a tuned batch_size must be an integer of at least 1, got {override!r}")
    return int(size)
