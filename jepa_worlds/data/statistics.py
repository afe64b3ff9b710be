"""What a dataset says about itself: moments of its columns, and how much of each factor's range it covers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 10  # to a side, in which coverage is counted
FRAMES = 16384  # on which the moments of frames are estimated
CHUNK = 256  # frames counted at a time


def moments(out: Path, manifest: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation over the training split: of frames per channel, of other columns per component.

    Actions that are choices have none: as one-hot vectors they stay what they are, with mean 0 and deviation 1.
    """
    found = {"frames": _frame_moments(out, manifest)}
    for column in ("actions", *(f"factors.{name}" for name in manifest["factors"])):
        if column == "actions" and "sizes" in manifest["action"]:
            size = sum(manifest["action"]["sizes"])
            found[column] = {"mean": [0.0] * size, "std": [1.0] * size}
            continue
        values = np.concatenate(list(_training(out, manifest, column))).astype(np.float64)
        values = values.reshape(len(values), -1)
        found[column] = {"mean": values.mean(axis=0).tolist(), "std": _not_zero(values.std(axis=0)).tolist()}
    return found


def coverage(out: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For every factor, over the training split: its range, and the share of cells that it visits.

    The bounds of a factor (where it has none, the range of the data) are cut into 10 intervals along each of its first
    two components.
    """
    found = {}
    for name, space in manifest["factors"].items():
        values = np.concatenate(list(_training(out, manifest, f"factors.{name}")))
        values = values.reshape(len(values), -1)
        smallest, largest = values.min(axis=0), values.max(axis=0)
        low, high = _bound(space["low"], smallest), _bound(space["high"], largest)
        cell = (
            ((values[:, :2] - low) / np.maximum(high - low, 1e-12) * CELLS).astype(np.int64).clip(0, CELLS - 1)
        )  # [N, 1 or 2]
        cells = CELLS ** cell.shape[1]
        count = np.bincount(cell @ CELLS ** np.arange(cell.shape[1]), minlength=cells)
        found[name] = {
            "min": smallest.tolist(),
            "max": largest.tolist(),
            "visited": round(np.count_nonzero(count) / cells, 4),
        }
    return found


def _bound(given: Any, otherwise: NDArray) -> NDArray[np.float64]:
    """A bound of the first two components of a factor; what stands in for it where it is null."""
    bound = np.asarray(given, np.float64).reshape(-1)[:2]
    return np.where(np.isnan(bound), otherwise[:2], bound)


def _training(out: Path, manifest: dict[str, Any], column: str) -> Iterator[NDArray]:
    for entry in manifest["shards"]:
        if entry["split"] == "train":
            yield np.load(out / entry["name"] / f"{column}.npy", mmap_mode="r")


def _frame_moments(out: Path, manifest: dict[str, Any]) -> dict[str, list[float]]:
    """From histograms of the bytes, in some 16 384 frames, evenly spaced and of every time of an episode."""
    channels = manifest["frame_shape"][-1]
    counts = np.zeros((channels, 256), np.int64)
    shards = list(_training(out, manifest, "frames"))
    every = max(1, sum(len(frames) for frames in shards) // FRAMES)
    while math.gcd(every, (manifest.get("episode_length") or 0) + 1) > 1:
        every -= 1
    for frames in shards:
        for start in range(0, len(frames), CHUNK * every):
            chosen = frames[start : start + CHUNK * every : every]
            for channel in range(channels):
                counts[channel] += np.bincount(chosen[..., channel].reshape(-1), minlength=256)
    value, total = np.arange(256), counts.sum(axis=1)
    mean = (counts @ value) / total
    variance = (counts @ value**2) / total - mean**2
    return {"mean": mean.tolist(), "std": _not_zero(np.sqrt(np.maximum(variance, 0))).tolist()}


def _not_zero(std: NDArray) -> NDArray:
    """1 in place of the standard deviation of what never changes, so that dividing by it does no harm."""
    return np.where(std > 1e-6, std, 1.0)
