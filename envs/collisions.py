"""Points that move in straight lines among upright boxes and slide along them, exactly, however long the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def slide(
    location: NDArray[np.float32], step: NDArray[np.float64], low: ArrayLike, high: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Move points by a step, around boxes that they may touch but not enter.

    A point that meets a box stops on its side and goes on with what is left of the other component of its step; where
    it meets a box's corner exactly, its x is stopped. A point that is inside a box to begin with leaves it freely. To
    move an upright rectangle, enlarge the boxes by half its sides. Boxes that together are a wall must overlap: a point
    fits between two that merely touch.

    Args:
        location: [n, 2], where the points are.
        step: [n, 2].
        low, high: corners of the boxes, [k, 2] or [n, k, 2] (k ≥ 1); infinite sides are allowed.

    Returns:
        Where the points end, [n, 2], and which components of their steps were stopped, [n, 2].
    """
    # In single precision throughout: rounding never moves a number past another one, so that a point beside a box is
    # still beside it when rounded, and one on its side is on it to the last bit.
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    worlds = np.arange(len(location))
    stopped = np.zeros(location.shape, bool)
    step = step.astype(np.float64)
    for _ in range(2):  # both components can be stopped, one after the other
        time, side, axis = _first_contact(location, step, low, high)
        moved = (location + np.minimum(time, 1)[:, None] * step).astype(np.float32)
        met = time <= 1
        moved[worlds[met], axis[met]] = side[met]
        stopped[worlds[met], axis[met]] = True
        location, step = moved, np.where(stopped, 0, step * np.maximum(1 - time, 0)[:, None])
    return location, stopped


def _first_contact(
    location: NDArray[np.float32], step: NDArray[np.float64], low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    """When each point first meets a box, in parts of its step (inf for never), the side's coordinate and its axis."""
    p, d = location[:, None].astype(np.float64), step[:, None]  # [n, 1, 2]
    ahead = d > 0
    near, far = np.where(ahead, low, high), np.where(ahead, high, low)  # [n, k, 2], the sides in the order they are met
    within = np.where((low < p) & (p < high), -np.inf, np.inf)  # of a coordinate that does not change
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        entry = np.where(d == 0, within, (near - p) / d)
        leave = np.where(d == 0, np.inf, (far - p) / d).min(axis=-1)  # [n, k]
    time = entry.max(axis=-1)  # inside in both coordinates, from the later of the two entries
    time[~((time >= 0) & (time <= 1) & (time < leave))] = np.inf
    box = time.argmin(axis=1)
    worlds = np.arange(len(location))
    axis = entry[worlds, box].argmax(axis=-1)
    return time[worlds, box], near[worlds, box, axis], axis
