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
    low, high = (np.broadcast_to(np.asarray(x, np.float32), (len(location), *np.shape(x)[-2:])) for x in (low, high))
    step = step.astype(np.float64)
    ends, stopped = (location + step).astype(np.float32), np.zeros(location.shape, bool)
    moving = np.arange(len(location))  # those that can still meet something
    for _ in range(2):  # both components can be stopped, one after the other
        time, side, axis = _first_contact(location, step, low[moving], high[moving])
        met = time <= 1
        moving, time, side, axis = moving[met], time[met], side[met], axis[met]
        location, step = location[met], step[met]
        location = (location + time[:, None] * step).astype(np.float32)
        location[np.arange(len(moving)), axis] = side
        stopped[moving, axis] = True
        step = np.where(stopped[moving], 0, step * (1 - time)[:, None])
        ends[moving] = (location + step).astype(np.float32)
    return ends, stopped


def _first_contact(
    location: NDArray[np.float32], step: NDArray[np.float64], low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    """When each point first meets a box, in parts of its step (inf for never), the side's coordinate and its axis."""
    passes = [_passage(location[:, i : i + 1], step[:, i : i + 1], low[..., i], high[..., i]) for i in range(2)]
    (near_x, entry_x, leave_x), (near_y, entry_y, leave_y) = passes  # [n, k] each
    time = np.maximum(entry_x, entry_y)  # inside in both coordinates, from the later of the two entries
    time[~((time >= 0) & (time <= 1) & (time < np.minimum(leave_x, leave_y)))] = np.inf
    first = np.arange(len(location)), time.argmin(axis=1)
    in_y = entry_y[first] > entry_x[first]
    return time[first], np.where(in_y, near_y[first], near_x[first]), in_y.astype(np.int64)


def _passage(
    place: NDArray[np.float32], step: NDArray[np.float64], low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """The side that a coordinate of each point meets first, and when it enters and leaves: [n, 1], [n, k] -> [n, k]."""
    p, ahead, still = place.astype(np.float64), step > 0, step == 0
    near, far = np.where(ahead, low, high), np.where(ahead, high, low)
    within = np.where((low < p) & (p < high), -np.inf, np.inf)  # of a coordinate that does not change
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return near, np.where(still, within, (near - p) / step), np.where(still, np.inf, (far - p) / step)
