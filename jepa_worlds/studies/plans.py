"""What plans in the models of an experiment came to, as tables of its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jepa_worlds.shared.estimates import Estimate, estimate
from jepa_worlds.shared.files import Plain
from jepa_worlds.studies.study import Row, Study
from jepa_worlds.studies.tabulating import Head, Measure

PLAN_SCORE = "goals reached at the end in %, or the return where the protocol is scored by it"
TITLES = {"planner": "Planning in the model", "gcbc": "Behaviour cloning (GCBC) on its latents"}


def plan_measures(study: Study) -> list[Measure]:
    """`PLAN_SCORE` for whatever acts on latents: the planner, and policies that plan nothing."""
    actors = dict.fromkeys(name for row in study.rows for name in (row.get("planned") or {}).get("acting", {}))
    titles = {actor: TITLES.get(actor, f"{actor} on its latents") for actor in actors}
    return [Measure(titles[x], _of(x), _floors, least=False, digits=0, by_factor=False) for x in actors]


def _of(actor: str) -> Callable[[Study, str], Callable[[Row], float | None]]:
    return lambda *_: lambda row: _score(row, "acting", actor)


def _floors(study: Study, methods: Sequence[str], head: Head) -> dict[str, Estimate]:
    """Ceiling and floors: what a protocol's episodes come to without any model, the same beside all of them."""
    rows = [row for method in methods for row in study.cells(method, head.condition) if row.get("planned")]
    scores = {name: _score(rows[0], "floors", name) for name in rows[0]["planned"]["floors"]}
    return {name: found for name, x in scores.items() if x is not None and (found := estimate([x]))}


def _score(row: Row, kind: str, name: str) -> float | None:
    planned: Plain = row.get("planned") or {}
    numbers = planned.get(kind, {}).get(name)
    if numbers is None:
        return None
    return float(numbers["return"] if planned["score"] == "return" else 100 * numbers["success_end"])
