"""One ranking over all that an experiment measured: errors as multiples of those of what was told the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from jepa_worlds.shared.estimates import Estimate, estimate
from jepa_worlds.shared.markdown import markdown_table
from jepa_worlds.studies.study import Row, Study, rollout_rmse
from jepa_worlds.studies.tabulating import FLOOR_TITLES, Head, column, seconds

BySeed = dict[int, float]
NO_SEED = -1  # of floors, which are means
ROLLED = ("chance", "untrained")  # the floors that are rolled out too: pixels are of every frame
KNOWABLE = 0.9  # of chance's error: what the reference misses by more than that, no method could have learned


@dataclass(frozen=True)
class Standing:
    """How a method, or a floor, compares with the reference.

    Attributes:
        name: of the method; None for a floor.
        title: what it is called.
        ratio: exp(mean over columns of log(error / the reference's error with the same seed)), over seeds.
        worst: the largest mean over seeds of error / the reference's error, and the column where it is.
        count: columns where it was measured.
        seconds: of training.
    """

    name: str | None
    title: str
    ratio: Estimate
    worst: tuple[float, Head]
    count: int
    seconds: Estimate | None


@dataclass(frozen=True)
class Leaderboard:
    """Standings, the least ratio first, those that were not measured everywhere after all others, floors last.

    Attributes:
        reference: the method that was told the truth.
        heads: columns, those left out that the reference could not tell itself.
        standings: one a method and floor, the reference left out.
    """

    reference: str
    heads: list[Head]
    standings: list[Standing]

    def ordered(self, methods: Sequence[str]) -> list[str]:
        """Methods as they stand, those that do not stand anywhere last."""
        places = {standing.name: place for place, standing in enumerate(self.standings)}
        return sorted(methods, key=lambda method: places.get(method, len(places)))


def leaderboard(study: Study, methods: Sequence[str]) -> Leaderboard | None:
    """The ranking of methods that can be compared; None without a method that was told the truth, or for one column."""
    told = study.ranked([method for method in methods if study.privileged(method)])
    if not told:
        return None
    scale: dict[Head, BySeed] = {}
    for head in (Head(c, f) for c in study.conditions for f in study.factors(c)):
        errors = _by_seed(study.cells(told[0], head.condition), head.factor)
        chance = study.floors(methods, head.condition, head.factor).get("chance")
        if errors and chance is not None and 0 < fmean(errors.values()) < KNOWABLE * chance.mean:
            scale[head] = errors
    if len(scale) < 2:
        return None
    rivals = [method for method in methods if not study.privileged(method)]
    found = [_standing(m, study.methods[m], _errors(study, m, scale), scale, seconds(study, m)) for m in rivals]
    floors = [_standing(None, FLOOR_TITLES[f], _floor(study, methods, f, scale), scale, None) for f in ROLLED]
    ranked = sorted((s for s in found if s), key=lambda s: (-s.count, s.ratio.mean))
    return Leaderboard(told[0], list(scale), [*ranked, *(s for s in floors if s)])


def _by_seed(rows: Sequence[Row], factor: str) -> BySeed:
    errors = {row["cell"]["seed"]: rollout_rmse(factor)(row) for row in rows}
    return {seed: error for seed, error in errors.items() if error is not None}


def _errors(study: Study, method: str, heads: Iterable[Head]) -> dict[Head, BySeed]:
    """Errors of a method by column and seed."""
    found = {head: _by_seed(study.cells(method, head.condition), head.factor) for head in heads}
    return {head: errors for head, errors in found.items() if errors}


def _floor(study: Study, methods: Sequence[str], floor: str, heads: Iterable[Head]) -> dict[Head, BySeed]:
    """Means of a floor by column, as if there were one seed."""
    found = {head: study.floors(methods, head.condition, head.factor).get(floor) for head in heads}
    return {head: {NO_SEED: number.mean} for head, number in found.items() if number is not None}


def _standing(
    name: str | None,
    title: str,
    errors: Mapping[Head, BySeed],
    scale: Mapping[Head, BySeed],
    trained: Estimate | None,
) -> Standing | None:
    """The ratios of one method, seed by seed: both learned from the same data. None if no seed was measured everywhere.

    Where the reference lacks a seed, the mean of its others stands in.
    """
    whole = sorted(set.intersection(*(set(by_seed) for by_seed in errors.values()))) if errors else []
    if not whole:
        return None
    ratios = {
        head: [by_seed[seed] / scale[head].get(seed, fmean(scale[head].values())) for seed in whole]
        for head, by_seed in errors.items()
    }
    means = {head: fmean(some) for head, some in ratios.items()}
    worst = max(means, key=means.__getitem__)
    ratio = estimate(np.exp(np.mean(np.log([*ratios.values()]), axis=0)))
    assert ratio is not None
    return Standing(name, title, ratio, (means[worst], worst), len(errors), trained)


def markdown(study: Study, board: Leaderboard) -> list[str]:
    """A ranking as a Markdown table."""
    said = (
        f"RMSE over the rollout as a multiple of that of *{study.methods[board.reference]}*, which was told the truth; "
        f"{len(board.heads)} columns."
    )
    rows = []
    for line in board.standings:
        mean = f"{line.ratio.mean:.2f}" + ("" if line.ratio.half is None else f" ± {line.ratio.half:.2f}")
        title, trained = line.title if line.name else f"*{line.title}*", line.seconds and f"{line.seconds.mean:.0f}"
        where = column(study, line.worst[1])
        rows.append([title, mean, f"{line.worst[0]:.2f}", where, str(line.count), trained or "–"])
    heads = ["method", "geometric mean", "worst", "where", "columns", "s of training"]
    return [said, "", *markdown_table(heads, rows), ""]
