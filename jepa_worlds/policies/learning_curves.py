"""The picture of learning curves: how good policies are after how many steps, and after how much time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import EngFormatter

from jepa_worlds.pictures.figures import COLOURS, MUTED, STYLES, new_figure, save_figure
from jepa_worlds.policies.returns import FLOORS, Along, Curve, aligned, interval, iqm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


def learning_curves(
    rows: Mapping[str, Sequence[Curve]], found: Mapping[str, Mapping[str, Any]], title: str, file: Path
) -> None:
    """Return over environment steps and over seconds of training: a line a row, as far as all its seeds trained.

    Lines are interquartile means over seeds, bands their 95 % bootstrap intervals. Floors are dotted, and the
    highest level of the way from random actions to the best row is dashed. The legend has the highest first.

    Args:
        rows: the curves of all seeds, by what the policy sees.
        found: what `jepa_worlds.policies.returns.summary` says of them.
        title: of the picture.
        file: its suffix says the format.
    """
    figure, axes = new_figure(1, 2, 11, 4, sharey=True)
    steps, seconds = axes[0]
    panels: tuple[tuple[Axes, Along], ...] = ((steps, "steps"), (seconds, "seconds"))
    for axis, along in panels:
        handles = _levels(axis, found)
        for number, (name, curves) in enumerate(rows.items()):
            look = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}
            handles.append((found[name]["final_return"], name, _row(axis, curves, along, look)))
        axis.set_xlim(0, None)
    steps.set(xlabel="environment steps", ylabel="return")
    steps.xaxis.set_major_formatter(EngFormatter())
    seconds.set(xlabel="seconds of training, evaluation apart")
    _, labels, lines = zip(*sorted(handles, key=lambda handle: -handle[0]), strict=True)
    figure.legend(lines, labels, loc="outside right center", frameon=False)
    figure.suptitle(f"{title}\nline: interquartile mean over seeds, band: its 95 % interval", fontsize=10)
    save_figure(figure, file)


def _row(axis: Axes, curves: Sequence[Curve], along: Along, look: Mapping[str, Any]) -> Line2D:
    """A row's line, with a dot at its end, and its band, if it has more than one seed."""
    points, means = aligned(curves, along)
    line, ends = iqm(means), interval(means)
    if ends is not None:
        axis.fill_between(points, *ends, color=look["color"], alpha=0.15, linewidth=0)
    axis.plot(points[-1], line[-1], "o", markersize=4, color=look["color"])
    return axis.plot(points, line, linewidth=1.6, **look)[0]


def _levels(axis: Axes, found: Mapping[str, Mapping[str, Any]]) -> list[tuple[float, str, Line2D]]:
    """Lines of the floors and of the highest level of the way to the best row: their heights, names and lines."""
    levels = []
    for name, style in zip(FLOORS, (":", (0, (1, 4))), strict=True):
        if name in found:
            height = found[name]["final_return"]
            line = axis.axhline(height, linestyle=style, color=MUTED, linewidth=1.2)
            levels.append((height, FLOORS[name], line))
    entries = next(row["steps_to"] for name, row in found.items() if name not in FLOORS)
    if entries and (top := max(entries, key=lambda entry: entry["level"]))["return"] is not None:
        name = f"{100 * top['level']:.0f} % of the way to {top['best']}"
        levels.append((top["return"], name, axis.axhline(top["return"], linestyle="--", color=MUTED, linewidth=1.2)))
    return levels
