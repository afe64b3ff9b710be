"""Figures: what people would rather look at than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from jepa_worlds.shared.files import atomic
from jepa_worlds.shared.runs import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, READOUT, MUTED, EDGE = "#1a9850", "#d73027", "#888888", "#cccccc"
FEW = 20  # points of a curve that are marked: a line through one of them would not be seen
TRACED = 10  # components of a factor that are drawn over time
# Okabe and Ito's, which the colour-blind tell apart too, without yellow, which is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")
STYLES = ("-", "-.", ":")  # another for every 7 lines
FLOOR_STYLES = {"chance": ":", "pixels": "-.", "untrained": "--"}


def new_figure(rows: int, columns: int, width: float, height: float, **kwargs: Any) -> tuple[Figure, NDArray]:
    """A figure and its axes [rows, columns], without a display and without state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure atomically; the format follows from the suffix."""
    with atomic(file) as temporary:
        figure.savefig(temporary, dpi=150)


def training_curves(run: Path) -> None:
    """``curves.png``: every logged number over steps."""
    rows = read_metrics(run)
    names = sorted({name for row in rows for name in row} - {"step"}, key=lambda n: (n.partition("/")[0] != "train", n))
    if not names:
        return
    columns = 5
    figure, axes = new_figure(-(-len(names) // columns), columns, 14, 2.2 * -(-len(names) // columns))
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        colour = TRUTH if name.startswith("held_out") else "#4575b4"
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=1, marker="." if len(points) < FEW else "")
        axis.set_title(name, fontsize=8)
        if name == "train/loss" and all(value > 0 for _, value in points):
            axis.set_yscale("log")
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    save_figure(figure, run / "curves.png")


def newest(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What there is to see in a frame [H, W, C] that may be a stack, the newest last: its last colours or grey level.

    [H, W, 3] where C is divisible by 3, [H, W] otherwise.
    """
    return frame[..., -3:] if frame.shape[-1] % 3 == 0 else frame[..., -1]


def component(name: str, number: int, count: int) -> str:
    """What a component of a factor is called: ``angular_velocity[0]``, or its name alone if it is the only one."""
    return name if count == 1 else f"{name}[{number}]"


def show_frame(
    axis: Axes, frame: NDArray[np.uint8], truth: NDArray | None = None, readout: NDArray | None = None
) -> None:
    """A frame [H, W, C] with the true position (a circle) and the probed one (a cross), both (x, y) in px."""
    axis.imshow(newest(frame), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    height, width = frame.shape[:2]
    if truth is not None:
        axis.plot(*truth, "o", markersize=11, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.8)
    if readout is not None:
        axis.plot(*np.clip(readout, 0, [width - 1, height - 1]), "x", color=READOUT, markersize=8, markeredgewidth=2)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=EDGE, linewidth=0.5)


def rollout_frames(
    frames: NDArray[np.uint8],
    truth: NDArray,
    readout: NDArray,
    title: str,
    file: Path,
) -> None:
    """Episodes [N, T, H, W, C] in rows, time in columns, with true and probed positions [N, T, 2]."""
    steps = [int(t) for t in np.unique(np.linspace(0, frames.shape[1] - 1, 7).astype(int))]
    figure, axes = new_figure(len(frames), len(steps), 1.5 * len(steps), 1.5 * len(frames) + 0.6)
    for row, episode in zip(axes, range(len(frames)), strict=True):
        for axis, t in zip(row, steps, strict=True):
            show_frame(axis, frames[episode, t], truth[episode, t], readout[episode, t])
            if episode == 0:
                axis.set_title("seen" if t == 0 else f"step {t}", fontsize=9)
    figure.suptitle(f"{title}\nopen-loop from what was seen: ○ truth, × probe", fontsize=10)
    save_figure(figure, file)


def traces(truth: NDArray, readout: NDArray, factor: str, title: str, file: Path) -> None:
    """A factor over time: episodes [N, T, F] in columns, at most 10 components in rows."""
    count, shown = truth.shape[-1], min(truth.shape[-1], TRACED)
    figure, axes = new_figure(shown, len(truth), 3.4 * len(truth), 1.4 * shown + 1, sharex=True, sharey="row")
    for number, row in enumerate(axes):
        for episode, axis in enumerate(row):
            axis.plot(truth[episode, :, number], "o-", color=TRUTH, markerfacecolor="none", markersize=5, label="truth")
            axis.plot(readout[episode, :, number], "x--", color=READOUT, markersize=5, label="probe")
        row[0].set_ylabel(component(factor, number, count), fontsize=8)
    for episode, axis in enumerate(axes[0]):
        axis.set_title(f"held-out episode {episode}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("step of the rollout")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(frameon=False, fontsize=8)
    more = f" (and {count - shown} more components)" if count > shown else ""
    figure.suptitle(f"{title}{more}", fontsize=10)
    save_figure(figure, file)


def per_step_errors(errors: Sequence[float], floors: Mapping[str, float], factor: str, file: Path) -> None:
    """RMSE of a probe at every step of an open-loop rollout, with floors as horizontal lines."""
    figure, axes = new_figure(1, 1, 6, 3.6)
    axis = axes[0, 0]
    axis.plot(errors, marker=".", label="open-loop rollout")
    for name, error in floors.items():
        axis.axhline(error, linestyle=FLOOR_STYLES.get(name, ":"), color=MUTED, linewidth=1, label=name)
    axis.set(xlabel="step of the rollout", ylabel=f"RMSE of {factor}", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    save_figure(figure, file)


@dataclass(frozen=True)
class DemoRow:
    """One model of the demo's picture.

    Attributes:
        title: what it is.
        frames, truth, readout: [T, H, W, C], [T, 2], [T, 2], one held-out episode.
        rmse, interval, floors: its score, the 95 % interval and what chance, pixels and an untrained network score.
    """

    title: str
    frames: NDArray[np.uint8]
    truth: NDArray
    readout: NDArray
    rmse: float
    interval: Sequence[float]
    floors: Mapping[str, float]


def demo_picture(rows: Sequence[DemoRow], file: Path) -> None:
    """A row a model: an episode with true and probed positions, and a bar of its error beside its floors."""
    steps = [int(t) for t in np.unique(np.linspace(0, len(rows[0].frames) - 1, 5).astype(int))]
    figure, axes = new_figure(
        len(rows), len(steps) + 1, 12.5, 1.5 * len(rows) + 0.8, width_ratios=[1] * len(steps) + [3.6]
    )
    furthest = max(max(row.rmse, *row.floors.values()) for row in rows) * 1.2
    for number, (line, row) in enumerate(zip(axes, rows, strict=True)):
        for axis, t in zip(line[:-1], steps, strict=True):
            show_frame(axis, row.frames[t], row.truth[t], row.readout[t])
            if number == 0:
                axis.set_title("seen" if t == 0 else f"{t} steps on", fontsize=9)
        _bar(line[-1], row, furthest)
        if number == 0:
            look = {"frameon": False, "fontsize": 8, "handlelength": 1.6, "columnspacing": 1.2}
            line[-1].legend(loc="lower right", ncols=3, bbox_to_anchor=(1.02, 0.97), **look)
    for axis in axes[:-1, -1]:
        axis.set_xticklabels([])
    axes[-1, -1].set_xlabel("RMSE of the dot's position over the rollout, px (bar: 95 % interval)")
    figure.suptitle(
        "Where is the dot? Each model sees one frame, then only actions. ○ truth   × read off its latent by a linear "
        "probe (held-out episodes)",
        fontsize=10,
    )
    save_figure(figure, file)


def _bar(axis: Axes, row: DemoRow, furthest: float) -> None:
    good = row.rmse < 0.5 * min(row.floors.values())
    low, high = row.interval
    axis.barh(0, row.rmse, height=0.6, color=TRUTH if good else READOUT, alpha=0.85)
    axis.errorbar(row.rmse, 0, xerr=[[row.rmse - low], [high - row.rmse]], color="black", capsize=3, linewidth=1)
    axis.annotate(f" {row.rmse:.2f} px", (high, 0), va="center", fontsize=10, fontweight="bold")
    for name, floor in row.floors.items():
        axis.axvline(floor, linestyle=FLOOR_STYLES[name], color=MUTED, linewidth=1.2, label=name)
    axis.set_title(row.title, fontsize=10, loc="left", fontweight="bold")
    axis.set(xlim=(0, furthest), ylim=(-0.6, 0.6), yticks=[])
    axis.spines["left"].set_visible(False)
