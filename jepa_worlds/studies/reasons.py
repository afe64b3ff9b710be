"""The figures of a report that say why: what latents hold, how they spread, and what the objective itself prefers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from jepa_worlds.pictures.figures import MUTED, save_figure
from jepa_worlds.shared.estimates import Estimate
from jepa_worlds.studies.panels import columns_for, head, legend, looks, small_multiples
from jepa_worlds.studies.study import Condition, Row, Study, diagnostic, metric

BACKGROUND = "background"
DIAGNOSTICS = {
    "r_within": "r_within: share of latent variance\nthat moves within an episode",
    "rankme": "RankMe: effective rank\nof the latents",
    "action_sensitivity": "action sensitivity\nof the predictor",
}
SOLUTIONS = {
    "trained": "the trained model",
    "copy": "knows the background alone",
    "controlled": "knows what actions move alone",
    "supervised": "supervised latents",
}
SOLUTION_MARKERS = {"trained": "o", "copy": "s", "controlled": "D", "supervised": "^"}
LEAST = -0.1  # R² at which the axes begin; what is lower is drawn there


def backgrounds(study: Study, methods: Sequence[str], conditions: Sequence[Condition], file: Path) -> bool:
    """R² of the score's factor over that of the background, in latents of frames; False if there is nothing to draw."""
    read = metric(BACKGROUND, "encoder_r2")
    shown = [(c, f) for c in conditions for f in study.factors(c) if any(study.estimate(m, c, read) for m in methods)]
    if not shown:
        return False
    figure, axes = small_multiples(len(shown), columns_for(len(shown)), 3.1, sharex=True, sharey=True)
    look = looks(study)
    for axis, (condition, factor) in zip(axes, shown, strict=True):
        for name in methods:
            x = study.estimate(name, condition, read)
            y = study.estimate(name, condition, metric(factor, "encoder_r2"))
            if x is not None and y is not None:
                at = np.maximum([x.mean, y.mean], LEAST)
                axis.plot(*at, look[name].marker, color=look[name].colour, markersize=8, markeredgecolor="white")
        axis.set(xlim=(LEAST - 0.03, 1.04), ylim=(LEAST - 0.03, 1.04))
        axis.set(xlabel="R² of the background", ylabel=f"R² of {factor}")
        axis.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
        axis.axvline(0, color="#dddddd", linewidth=0.8, zorder=0)
        head(axis, study.title(condition))
    legend(figure, study, methods, lines=False, floors=False)
    save_figure(figure, file)
    return True


def diagnostics(study: Study, methods: Sequence[str], conditions: Sequence[Condition], file: Path) -> None:
    """r_within, RankMe and action sensitivity of every method under every condition."""
    height = 0.6 + len(conditions) * max(0.35, 0.09 * len(methods))
    figure, axes = small_multiples(len(DIAGNOSTICS), 3, height, sharey=True)
    look = looks(study)
    for axis, (key, label) in zip(axes, DIAGNOSTICS.items(), strict=True):
        for number, name in enumerate(methods):
            offset = 0.7 * ((number + 0.5) / len(methods) - 0.5)
            for row, condition in enumerate(conditions):
                found = study.estimate(name, condition, diagnostic(key))
                if found is None:
                    continue
                bar: Any = {"xerr": [found.half]} if found.half else {}
                mark: Any = {"marker": look[name].marker, "markersize": 6, "capsize": 2, "linewidth": 1}
                axis.errorbar([found.mean], [row + offset], **bar, color=look[name].colour, **mark)
        for row in range(1, len(conditions)):
            axis.axhline(row - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
        axis.set(xlabel=label, ylim=(len(conditions) - 0.5, -0.5))
        axis.set_xlim(left=0)
        axis.set_yticks(range(len(conditions)), [study.title(c).replace(", ", ",\n") for c in conditions], fontsize=9)
        axis.tick_params(axis="y", length=0)
    legend(figure, study, methods, lines=False, floors=False)
    save_figure(figure, file)


def spectra(study: Study, methods: Sequence[str], conditions: Sequence[Condition], file: Path) -> bool:
    """Eigenvalues of the latents' covariance, means over seeds; False if there are none."""
    found = {(m, c): x for m in methods for c in conditions if (x := _spectrum(study.cells(m, c))) is not None}
    shown = [c for c in conditions if any(condition == c for _, condition in found)]
    if not shown:
        return False
    figure, axes = small_multiples(len(shown), columns_for(len(shown)), 2.9, sharey=True)
    look = looks(study)
    for axis, condition in zip(axes, shown, strict=True):
        for name in methods:
            shares = found.get((name, condition))
            if shares is None:
                continue
            marks = np.unique(np.geomspace(1, len(shares), 6).astype(int) - 1).tolist()
            line: Any = {"linestyle": look[name].style, "marker": look[name].marker}
            line |= {"markevery": marks, "markersize": 5}
            axis.plot(
                np.arange(len(shares)) + 1, np.maximum(shares, 1e-7), color=look[name].colour, linewidth=1.4, **line
            )
        axis.set(xscale="log", yscale="log", xlabel="eigenvalue", ylabel="share of the variance")
        head(axis, study.title(condition))
    legend(figure, study, methods, floors=False)
    save_figure(figure, file)
    return True


def _spectrum(rows: Sequence[Row]) -> Any:
    found = [row["explained"]["spectrum"] for row in rows if row.get("explained") and row["explained"].get("spectrum")]
    return np.mean(found, axis=0) if found else None


def loss(study: Study, method: str, condition: Condition, solution: str) -> Estimate | None:
    """What a method's own objective comes to for one of the `SOLUTIONS`."""

    def read(row: Row) -> float | None:
        losses = (row.get("explained") or {}).get("losses", {})
        return losses.get(solution, {}).get("total")

    return study.estimate(method, condition, read)


def losses(study: Study, methods: Sequence[str], conditions: Sequence[Condition], file: Path) -> bool:
    """The own objective of each method, for the model that it trained and for other solutions."""
    shown = [m for m in methods if any(loss(study, m, c, s) for c in conditions for s in SOLUTIONS)]
    if not shown:
        return False
    height = 0.3 * len(conditions) + 0.9
    figure, axes = small_multiples(len(shown), columns_for(len(shown)), height, sharey=True)
    look = looks(study)
    for axis, name in zip(axes, shown, strict=True):
        numbers: list[float] = []
        for row, condition in enumerate(conditions):
            found = {s: x.mean for s in SOLUTIONS if (x := loss(study, name, condition, s)) is not None}
            numbers += found.values()
            least = min(found.values(), default=None)
            axis.plot([*found.values()], [row] * len(found), color="#dddddd", linewidth=1, zorder=1)
            for solution, number in found.items():
                colour = look[name].colour if solution == "trained" else MUTED
                face = colour if number == least else "white"
                mark: Any = {"markersize": 8, "markerfacecolor": face, "markeredgewidth": 1.6, "zorder": 3}
                axis.plot(number, row, SOLUTION_MARKERS[solution], color=colour, **mark)
        span = max(numbers) / min(numbers) if min(numbers) > 0 else 0.0
        if span > 20:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 1000 else (1,), numticks=6))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        elif min(numbers) >= 0:
            axis.set_xlim(0, max(numbers) * 1.1 or 1)
        axis.set(ylim=(len(conditions) - 0.5, -0.5), xlabel="loss on held-out windows")
        axis.set_yticks(range(len(conditions)), [study.title(c) for c in conditions], fontsize=9)
        axis.tick_params(axis="y", length=0)
        head(axis, study.methods[name])
    handles = [
        Line2D([], [], color=MUTED, marker=SOLUTION_MARKERS[s], linestyle="none", markerfacecolor="white", label=title)
        for s, title in SOLUTIONS.items()
    ]
    handles.append(Line2D([], [], color=MUTED, marker="o", linestyle="none", label="filled: the least loss"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, file)
    return True
