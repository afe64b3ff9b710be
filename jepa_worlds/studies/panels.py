"""The figures of a report that show scores: over levels and other axes, side by side, and step by step.

A method has one colour, one marker and one kind of line in all of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import MaxNLocator

from jepa_worlds.pictures.figures import COLOURS, FLOOR_STYLES, MUTED, STYLES, new_figure, save_figure
from jepa_worlds.shared.estimates import Estimate
from jepa_worlds.studies.study import Chart, Condition, Study, metric, rollout_rmse, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^DvP<X>*pdh"  # as many as share no divisor with the number of colours: 91 looks
WIDTH = 11.0  # inches of a figure
IN_A_LINE = 5  # entries of a legend, at most
TITLE = 34  # letters of a title in a line
SPREAD = 0.16  # of the room between two places on an axis: how far methods are moved apart


@dataclass(frozen=True)
class Look:
    """How a method is drawn everywhere."""

    colour: str
    marker: str
    style: str

    def handle(self, title: str, line: bool = True) -> Line2D:
        """Its entry in a legend."""
        style: Any = self.style if line else "none"
        return Line2D([], [], color=self.colour, marker=self.marker, linestyle=style, markersize=6, label=title)

    @property
    def outline(self) -> str:
        """Its marker as the points of an SVG polygon, from −1 to 1."""
        shape = MarkerStyle(self.marker)
        [points] = shape.get_path().transformed(shape.get_transform()).to_polygons(closed_only=True)
        points = points / np.abs(points).max()
        return " ".join(f"{x:.2f},{-y:.2f}" for x, y in points)


def looks(study: Study) -> dict[str, Look]:
    """The look of every method."""
    return {
        name: Look(
            COLOURS[number % len(COLOURS)],
            MARKERS[number % len(MARKERS)],
            STYLES[number // len(COLOURS) % len(STYLES)],
        )
        for number, name in enumerate(study.methods)
    }


def small_multiples(count: int, columns: int, height: float, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes, row by row, each so high in inches."""
    columns = min(count, columns)
    rows = -(-count // columns)
    width = WIDTH if columns > 2 or count > 2 else 4.2 * columns + 1.2
    figure, axes = new_figure(rows, columns, width, height * rows + 0.9, **kwargs)
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat[:count])


def columns_for(count: int) -> int:
    """How many axes stand beside each other, so that the last row is not nearly empty."""
    return 2 if count in (2, 4) else 3


def head(axis: Axes, title: str) -> None:
    """The title of one of up to three axes beside each other."""
    axis.set_title("\n".join(textwrap.wrap(title, TITLE)), fontsize=10, fontweight="bold", loc="left")


def floor_handles() -> list[Line2D]:
    """Entries of a legend for the floors."""
    titles = {"chance": "chance", "pixels": "linear probe of pixels", "untrained": "untrained network"}
    styles: dict[str, Any] = FLOOR_STYLES
    return [
        Line2D([], [], color=MUTED, linestyle=styles[name], linewidth=1.2, label=title)
        for name, title in titles.items()
    ]


def legend(figure: Figure, study: Study, methods: Sequence[str], lines: bool = True, floors: bool = True) -> None:
    """One legend for all axes, below them."""
    look = looks(study)
    handles = [look[name].handle(study.methods[name], lines) for name in methods]
    handles += floor_handles() if floors else []
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=-(-len(handles) // -(-len(handles) // IN_A_LINE)),  # lines of about the same length
        frameon=False,
        fontsize=9,
    )


def over_axes(study: Study, methods: Sequence[str], charts: Sequence[Chart], file: Path) -> None:
    """RMSE along an axis, such as the level: the 2022 paper's Figure 3. A chart each; lines are means over seeds."""
    figure, axes = small_multiples(len(charts), columns_for(len(charts)), 3.1)
    for axis, chart in zip(axes, charts, strict=True):
        _over_axis(axis, study, methods, chart)
    legend(figure, study, methods)
    save_figure(figure, file)


def _over_axis(axis: Axes, study: Study, methods: Sequence[str], chart: Chart) -> None:
    places = np.array([x for x, _ in chart.points])
    if chart.log:
        axis.set_xscale("log")
        places = np.log(places)
    room = np.diff(places).min() * SPREAD
    seen: list[float] = []
    for number, (name, look) in enumerate(_looks_of(study, methods)):
        offset = room * (number / max(1, len(methods) - 1) - 0.5)
        found = [study.estimate(name, c, rollout_rmse(chart.factor)) for _, c in chart.points]
        kept = [(place + offset, x) for place, x in zip(places, found, strict=True) if x is not None]
        at = [float(np.exp(place)) if chart.log else place for place, _ in kept]
        _estimates(axis, at, [x for _, x in kept], look)
        axis.plot(at, [x.mean for _, x in kept], color=look.colour, linestyle=look.style, linewidth=1.4, zorder=2)
        seen += [value for _, x in kept for value in x.values]
    floors = [study.floors(methods, c, chart.factor) for _, c in chart.points]
    for name, style in FLOOR_STYLES.items():
        line = [(x, found[name].mean) for (x, _), found in zip(chart.points, floors, strict=True) if name in found]
        axis.plot(*zip(*line, strict=True), color=MUTED, linestyle=style, linewidth=1.2, zorder=1)
    values = [x for x, _ in chart.points]
    axis.set_xticks(values, [f"{x:g}" for x in values])
    axis.minorticks_off()
    axis.set(xlabel=chart.axis, ylabel=_error(chart.factor), ylim=(0, _top(seen, floors)))
    head(axis, chart.title)


def side_by_side(study: Study, methods: Sequence[str], conditions: Sequence[Condition], file: Path) -> None:
    """RMSE of every method under every condition, a row a method: for what has no axis."""
    shown = [(c, factor) for c in conditions for factor in study.factors(c)]
    height = 0.24 * len(methods) + 0.7
    figure, axes = small_multiples(len(shown), columns_for(len(shown)), height, sharey=True)
    for axis, (condition, factor) in zip(axes, shown, strict=True):
        seen: list[float] = []
        for number, (name, look) in enumerate(_looks_of(study, methods)):
            found = study.estimate(name, condition, rollout_rmse(factor))
            if found is not None:
                _estimates(axis, [number], [found], look, sideways=True)
                seen += found.values
        floors = study.floors(methods, condition, factor)
        for name, floor in floors.items():
            axis.axvline(floor.mean, color=MUTED, linestyle=FLOOR_STYLES[name], linewidth=1.2, zorder=1)
        axis.set(xlim=(0, _top(seen, [floors])), ylim=(len(methods) - 0.5, -0.5), xlabel=_error(factor))
        method_rows(axis, study, methods)
        head(axis, _titled(study, condition, factor))
    figure.legend(handles=floor_handles(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, file)


def step_by_step(study: Study, methods: Sequence[str], conditions: Sequence[Condition], file: Path) -> None:
    """RMSE at every step of the rollout, means over seeds."""
    shown = [(c, factor) for c in conditions for factor in study.factors(c)]
    figure, axes = small_multiples(len(shown), columns_for(len(shown)), 2.9)
    for axis, (condition, factor) in zip(axes, shown, strict=True):
        seen: list[float] = []
        for name, look in _looks_of(study, methods):
            curves = [x for row in study.cells(name, condition) if (x := metric(factor, "per_step_rmse")(row))]
            if not curves:
                continue
            curve = np.mean(curves, axis=0)
            every = max(1, len(curve) // 5)
            mark: Any = {"marker": look.marker, "markevery": every, "markersize": 5}
            axis.plot(curve, color=look.colour, linestyle=look.style, linewidth=1.4, **mark)
            seen += curve.tolist()
        floors = study.floors(methods, condition, factor)
        for name, floor in floors.items():
            axis.axhline(floor.mean, color=MUTED, linestyle=FLOOR_STYLES[name], linewidth=1.2, zorder=1)
        axis.set(xlabel="step of the rollout", ylabel=_error(factor), ylim=(0, _top(seen, [floors])))
        head(axis, _titled(study, condition, factor))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, study, methods)
    save_figure(figure, file)


def control(study: Study, methods: Sequence[str], pairs: Sequence[tuple[Condition, Condition]], file: Path) -> None:
    """The same model where the distractor stays the same (filled) and where it changes every step (open)."""
    shown = [(*pair, factor) for pair in pairs for factor in study.factors(pair[0])]
    height = 0.24 * len(methods) + 0.7
    figure, axes = small_multiples(len(shown), columns_for(len(shown)), height, sharey=True)
    for axis, (static, dynamic, factor) in zip(axes, shown, strict=True):
        seen: list[float] = []
        for number, (name, look) in enumerate(_looks_of(study, methods)):
            ends = [study.estimate(name, c, rollout_rmse(factor)) for c in (static, dynamic)]
            there = [x.mean for x in ends if x is not None]
            axis.plot(there, [number] * len(there), color=look.colour, linewidth=2, alpha=0.4, zorder=1)
            for found, filled in zip(ends, (True, False), strict=True):
                if found is not None:
                    _estimates(axis, [number], [found], look, sideways=True, filled=filled)
            seen += there
        axis.set(xlim=(0, _top(seen, [])), ylim=(len(methods) - 0.5, -0.5), xlabel=_error(factor))
        method_rows(axis, study, methods)
        title = f"{study.title(static)}\nand {study.title(dynamic)}"
        axis.set_title(title, fontsize=10, fontweight="bold", loc="left")
    faces = {"stays the same (static)": MUTED, "changes every step (dynamic)": "white"}
    handles = [
        Line2D([], [], color=MUTED, marker="o", markerfacecolor=face, linestyle="none", label=title)
        for title, face in faces.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, file)


def method_rows(axis: Axes, study: Study, methods: Sequence[str]) -> None:
    """Methods down an axis, each at its number, with faint lines to follow."""
    axis.set_yticks(range(len(methods)), [study.methods[name] for name in methods], fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)


def _looks_of(study: Study, methods: Sequence[str]) -> Iterable[tuple[str, Look]]:
    look = looks(study)
    return [(name, look[name]) for name in methods]


def _estimates(
    axis: Axes,
    places: Sequence[float],
    found: Sequence[Estimate],
    look: Look,
    sideways: bool = False,
    filled: bool = True,
) -> None:
    """Means with their intervals, and every seed as a faint dot."""
    for place, number in zip(places, found, strict=True):
        half = 0.0 if number.half is None else number.half
        one, many = ([place], [place] * len(number.values))
        means, seeds = [number.mean], list(number.values)
        (x, y), dots = ((means, one), (seeds, many)) if sideways else ((one, means), (many, seeds))
        bar: Any = {"xerr" if sideways else "yerr": [half]} if half else {}
        face = look.colour if filled else "white"
        marker: Any = {"marker": look.marker, "markersize": 6, "markerfacecolor": face, "markeredgecolor": look.colour}
        axis.errorbar(x, y, **bar, color=look.colour, linewidth=1, capsize=2, zorder=4, **marker)
        if half:
            axis.plot(*dots, ".", color=look.colour, alpha=0.4, markersize=4, zorder=3)


def _top(seen: Sequence[float], floors: Sequence[dict[str, Estimate]]) -> float:
    """The end of an axis of errors: everything is seen that is not worse than twice chance."""
    heights = [x.mean for found in floors for x in found.values()]
    top = max([*seen, *heights], default=1.0)
    chance = max((found["chance"].mean for found in floors if "chance" in found), default=top)
    return 1.08 * min(top, 2 * chance) or 1.0


def _error(factor: str) -> str:
    return f"RMSE of {factor}, {unit(factor)}".rstrip(", ")


def _titled(study: Study, condition: Condition, factor: str) -> str:
    several = len(study.factors(condition)) > 1
    return f"{study.title(condition)}{f': {factor}' if several else ''}"
