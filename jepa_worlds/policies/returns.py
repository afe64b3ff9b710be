"""What the learning curves of policies come to: interquartile means over seeds, their intervals, sample efficiency.

Interquartile means and percentile bootstrap intervals are rliable's (Agarwal et al., 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice", arXiv 2108.13264). rliable resamples seeds within every task; here is one
task, so what remains of that is a bootstrap over seeds. A seed is drawn with its whole curve, for the sake of what is
computed along it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Along = Literal["steps", "seconds"]
RANDOM, NOTHING = "random", "nothing"  # the names of random actions and of no action among rows
FLOORS = {RANDOM: "random actions", NOTHING: "no action"}


@dataclass(frozen=True)
class Curve:
    """How one policy learned: E evaluations of N episodes each.

    Attributes:
        steps: [E] of the environment, trained on before each evaluation; 0 at the first.
        seconds: [E] of training before each evaluation, without those that evaluations took.
        returns: [E][N] undiscounted returns of the episodes.

    Raises:
        ValueError: lengths that differ, fewer than 2 evaluations, no episodes, numbers that are not finite, steps that
            do not begin at 0 and increase, seconds that fall or do not pass.
    """

    steps: Sequence[int]
    seconds: Sequence[float]
    returns: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        episodes = {len(evaluation) for evaluation in self.returns}
        lengths = len(self.steps), len(self.seconds), len(self.returns)
        if len({*lengths}) != 1 or lengths[0] < 2 or len(episodes) != 1 or 0 in episodes:
            raise ValueError(
                f"a curve needs steps, seconds and returns of at least 2 evaluations, each of as many episodes; got "
                f"{lengths[0]} steps, {lengths[1]} seconds, {lengths[2]} evaluations of {sorted(episodes)} episodes"
            )
        for name in ("steps", "seconds", "returns"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite, got {getattr(self, name)!r}")
        if self.steps[0] != 0 or (np.diff(self.steps) <= 0).any():
            raise ValueError(f"steps must begin at 0 and increase, got {self.steps!r}")
        if self.seconds[0] < 0 or (np.diff(self.seconds) < 0).any() or self.seconds[-1] == self.seconds[0]:
            raise ValueError(f"seconds must not be negative nor fall, and some must pass, got {self.seconds!r}")

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean return of every evaluation: [E]."""
        return np.asarray(self.returns, np.float64).mean(axis=1)


def iqm(scores: NDArray) -> NDArray[np.float64]:
    """Interquartile mean over the first axis: [S, ...] -> [...].

    A quarter of the S scores, rounded down, is left out at either end, so that up to 3 scores have their mean; as
    ``scipy.stats.trim_mean(scores, 0.25)``, which rliable takes.
    """
    cut = len(scores) // 4
    return np.sort(scores, axis=0)[cut : len(scores) - cut].mean(axis=0)


def interval(
    scores: NDArray, statistic: Callable[[NDArray], NDArray] = iqm, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64] | None:
    """95 % percentile bootstrap interval of a statistic over seeds: [S, ...] -> [2, ...]; None for a single seed.

    It is too narrow where seeds are few: two have only three different resamples.

    Args:
        scores: of S seeds.
        statistic: over the first axis, for all along the second at once: [S, R, ...] -> [R, ...].
        resamples: R, how often S seeds are drawn with replacement.
        seed: of the draws.
    """
    if len(scores) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(scores), size=(len(scores), resamples))
    found = np.sort(statistic(scores[drawn]), axis=0)
    beyond = resamples // 40  # 2.5 % at either end; nothing is interpolated, as infinities may be among them
    return np.stack([found[beyond], found[-1 - beyond]])


def aligned(
    curves: Sequence[Curve], along: Along = "steps", end: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean returns of S seeds at the same K steps or seconds: [K], [S, K].

    At every evaluation of any seed up to the end, by default that of the shortest curve, and there; linear between the
    evaluations of a seed.
    """
    own = [np.asarray(getattr(curve, along), np.float64) for curve in curves]
    last = min(x[-1] for x in own) if end is None else end
    points = np.unique(np.concatenate([*own, [last]]))
    points = points[points <= last]
    return points, np.stack([np.interp(points, x, curve.means) for x, curve in zip(own, curves, strict=True)])


def area(steps: NDArray, means: NDArray) -> NDArray[np.float64]:
    """The mean return over training, which is the area under curves (trapezoids) by the steps: [K], [S, K] -> [S]."""
    return (means[:, 1:] + means[:, :-1]) / 2 @ np.diff(steps) / (steps[-1] - steps[0])


def crossing(steps: NDArray, curves: NDArray, threshold: float) -> NDArray[np.float64]:
    """The step at which curves first reach a return, linear between their points: [K], [..., K] -> [...].

    Infinite for those that never do.
    """
    reached = curves >= threshold
    after = reached.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(curves, at[..., None], axis=-1)[..., 0] for at in (before, after))
    share = (threshold - low) / np.where(high > low, high - low, 1)  # of no steps, if the first point reaches it
    return np.where(reached.any(axis=-1), steps[before] + share * (steps[after] - steps[before]), np.inf)


def steps_to(curves: Sequence[Curve], threshold: float) -> tuple[float | None, list[float | None] | None]:
    """The step at which the interquartile mean over seeds first reaches a return, and its 95 % interval.

    Linear between evaluations. None stands for what the shortest training does not reach, thus also for an end of the
    interval beyond it, and for the interval of a single seed.
    """

    def found(means: NDArray) -> NDArray[np.float64]:
        return crossing(steps, iqm(means), threshold)

    def within(step: NDArray) -> float | None:
        return float(step) if np.isfinite(step) else None

    steps, means = aligned(curves)
    ends = interval(means, found)
    return within(found(means)), None if ends is None else [within(end) for end in ends]


def at_seconds(curve: Curve, seconds: float) -> tuple[float, bool]:
    """The mean return after some time of training, linear between evaluations, and whether training had ended before.

    What has ended stays as its last evaluation found it.
    """
    return float(np.interp(seconds, curve.seconds, curve.means)), bool(curve.seconds[-1] < seconds)


def summary(
    rows: Mapping[str, Sequence[Curve]],
    random: Sequence[Sequence[float]],
    levels: Sequence[float] = (0.5, 0.9),
    best: str = "state",
    seconds_of: str | None = None,
    nothing: Sequence[float] | None = None,
) -> dict[str, dict[str, Any]]:
    """What there is to say of learning curves, ready for JSON, None where there is no number.

    All scores are interquartile means over seeds of mean returns over episodes; ``…_ci95`` are their intervals.

    Args:
        rows: the curves of all seeds, by what the policy sees.
        random: [S][N] returns of N episodes of random actions, for S seeds.
        levels: shares of the way from random actions to the best row, to which steps are counted.
        best: the row whose final return has the normalised score 1, as that of random actions has 0. There are none
            without such a row, or if it is no better than random actions.
        seconds_of: the row after whose training time, that of its fastest seed, rows are compared; None: the first.
        nothing: [N] returns of N episodes without any action, where actions can be none.

    Returns:
        For every row: ``final_return`` after ``steps``, which is as far as all rows trained; ``normalised``; ``area``,
        the mean return until then; ``steps_to``, each level's return and the ``steps`` to it, None if not within
        ``trained_steps``; ``at_seconds``, with ``ended``, whether a seed's training was over; ``steps_per_second`` of
        training. For random actions, as row ``random``, and for no action, as row ``nothing``, the first two.

    Raises:
        ValueError: no rows, a row without curves or named as a floor, ``seconds_of`` which is no row, no finite returns
            of random actions, levels beyond 0 to 1.
    """
    _check(rows, random, levels, seconds_of)
    steps = min(curve.steps[-1] for curves in rows.values() for curve in curves)
    seconds = min(curve.seconds[-1] for curve in rows[seconds_of or next(iter(rows))])
    chance = np.asarray(random, np.float64).mean(axis=1)
    floor = float(iqm(chance))
    top = float(iqm(aligned(rows[best], end=steps)[1][:, -1])) if best in rows else floor
    scale = top - floor if top > floor else None
    goals = [
        {"level": level, "best": best, "return": None if scale is None else floor + level * scale} for level in levels
    ]
    found = {name: _row(curves, steps, seconds, goals) for name, curves in rows.items()}
    found[RANDOM] = {"seeds": len(chance), **_score("final_return", chance)}
    if nothing is not None:
        found[NOTHING] = {"seeds": 1, **_score("final_return", np.array([np.mean(nothing)]))}
    for row in found.values():
        final, ends = row["final_return"], row["final_return_ci95"]
        row["normalised"] = None if scale is None else (final - floor) / scale
        row["normalised_ci95"] = None if scale is None or ends is None else [(end - floor) / scale for end in ends]
    return found


def _row(curves: Sequence[Curve], steps: int, seconds: float, goals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    points, means = aligned(curves, end=steps)
    at, ended = zip(*(at_seconds(curve, seconds) for curve in curves), strict=True)
    efficiency = []
    for goal in goals:
        reached, ends = (None, None) if goal["return"] is None else steps_to(curves, goal["return"])
        efficiency.append({**goal, "steps": reached, "steps_ci95": ends})
    return {
        "seeds": len(curves),
        "steps": int(steps),
        "trained_steps": int(min(curve.steps[-1] for curve in curves)),
        **_score("final_return", means[:, -1]),
        **_score("area", area(points, means)),
        "steps_to": efficiency,
        "at_seconds": {"seconds": float(seconds), **_score("return", np.array(at)), "ended": any(ended)},
        "steps_per_second": float(iqm(np.array([curve.steps[-1] / curve.seconds[-1] for curve in curves]))),
    }


def _score(name: str, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The interquartile mean of seeds' scores [S] and its interval."""
    ends = interval(scores)
    return {name: float(iqm(scores)), f"{name}_ci95": None if ends is None else ends.tolist()}


def _check(
    rows: Mapping[str, Sequence[Curve]],
    random: Sequence[Sequence[float]],
    levels: Sequence[float],
    seconds_of: str | None,
) -> None:
    if not rows or FLOORS.keys() & rows.keys() or not all(rows.values()):
        counts = {name: len(curves) for name, curves in rows.items()}
        raise ValueError(f"rows must have names other than {sorted(FLOORS)} and at least 1 curve each, got {counts!r}")
    if seconds_of is not None and seconds_of not in rows:
        raise ValueError(f"seconds_of must be one of the rows {list(rows)!r}, got {seconds_of!r}")
    episodes = {len(returns) for returns in random}
    if len(episodes) != 1 or 0 in episodes or not np.isfinite(random).all():
        raise ValueError(f"random must be finite returns of as many episodes for at least 1 seed, got {random!r}")
    if not all(0 < level <= 1 for level in levels):
        raise ValueError(f"levels must be above 0 and at most 1, got {levels!r}")
