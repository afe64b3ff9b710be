"""Datasets on disk: folders of plain arrays that numpy can memory-map, and a manifest that vouches for them.

    dataset.json                        what the data are, how they were made, and the checksum of every file
    shard-00000/frames.npy              uint8 [Σ(length + 1), H, W, C]
    shard-00000/actions.npy             [Σ length, ...]; actions[t] moves frames[t] to frames[t + 1]
    shard-00000/rewards.npy             float32 [Σ length]; likewise terminations.npy, truncations.npy (bool)
    shard-00000/factors.<name>.npy      float32 [Σ(length + 1), ...]
    shard-00000/lengths.npy             int64 [episodes]: the number of steps of each

Splits are ranges of episodes, and a shard belongs to one split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jepa_worlds.shared.files import digest, read_json

FORMAT = "jepa_worlds/dataset/1"
MANIFEST, FRAMES = "dataset.json", "frames.npy"
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ORIGIN = ("env", "distractor", "behaviour", "seed")  # where manifests agree in these, episodes of a number agree


def is_position(factor: str) -> bool:
    """Whether a factor of two numbers is a position (x, y) in the frame, in px: ``location`` or ``location.<what>``."""
    return factor.split(".")[0] == "location"


@dataclass(frozen=True)
class Shard:
    """The arrays of a range of episodes, its frames memory-mapped."""

    columns: dict[str, NDArray]
    lengths: NDArray[np.int64]  # steps of each episode
    first_frame: NDArray[np.int64]  # row of `frames` and of factors at which each episode begins
    first_step: NDArray[np.int64]  # row of `actions`, rewards, ... at which each episode begins


class Dataset:
    """A dataset folder, opened for reading.

    Args:
        path: the folder.
        verify: compare the checksum of every file with the manifest (about a second a gigabyte); sizes are compared in
            any case.

    Raises:
        FileNotFoundError: there is no dataset.
        ValueError: the folder holds something else, or a dataset that is incomplete or damaged.
    """

    def __init__(self, path: str | Path, verify: bool = True) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        if not self.manifest.get("complete"):
            done = sum(shard["episodes"][1] - shard["episodes"][0] for shard in self.manifest["shards"])
            raise ValueError(
                f"dataset {str(path)!r} is incomplete: {done} of {self.manifest['episodes']} episodes; run what "
                f"made it once more to finish it"
            )
        for entry in self.manifest["shards"]:
            check_shard(self.path, entry, verify)
        self._shards: dict[str, Shard] = {}  # those that were asked for

    @property
    def content_hash(self) -> str:
        """A hash of everything in the dataset."""
        return str(self.manifest["content_hash"])

    @property
    def factors(self) -> list[str]:
        """Names of the factors."""
        return list(self.manifest["factors"])

    def shards(self, split: Split) -> list[Shard]:
        """The shards of a split.

        Raises:
            ValueError: an unknown or an empty split.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        found = [entry for entry in self.manifest["shards"] if entry["split"] == split]
        if not found:
            raise ValueError(
                f"dataset {str(self.path)!r} has no {split} episodes: it needs more episodes, or a larger share of them"
            )
        for entry in found:
            if entry["name"] not in self._shards:
                self._shards[entry["name"]] = _open(self.path, entry)
        return [self._shards[entry["name"]] for entry in found]

    def statistics(self, column: str) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of a column over the training split, per channel or component."""
        known = self.manifest["statistics"]
        if column not in known:
            raise ValueError(f"dataset {str(self.path)!r} has no column {column!r}; it has {sorted(known)}")
        return known[column]["mean"], known[column]["std"]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a dataset folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not of this format.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"no dataset at {str(path)!r}: it lacks {MANIFEST}; make one with jepa_worlds.collect")
    manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ValueError(f"{file} is not a dataset of format {FORMAT!r}: its format is {found!r}")
    return manifest


def known_manifest(dataset: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a dataset of which a path and a hash are told, if it still is where it was; else nothing."""
    try:
        manifest = read_manifest(Path(dataset["path"]))
    except (OSError, ValueError):
        return {}
    return manifest if manifest.get("content_hash") == dataset["hash"] else {}


def check_shard(path: Path, entry: dict[str, Any], verify: bool) -> None:
    """Compare a shard's files with its entry in the manifest: their sizes, and their checksums if ``verify``.

    Raises:
        ValueError: a file is missing, truncated or altered.
    """
    for name, expected in entry["files"].items():
        file = path / entry["name"] / name
        if not file.is_file():
            fault = "is missing"
        elif (size := file.stat().st_size) != expected["bytes"]:
            fault = f"has {size} bytes instead of {expected['bytes']}"
        elif verify and digest(file) != expected["sha256"]:
            fault = "does not match its checksum"
        else:
            continue
        raise ValueError(
            f"dataset {str(path)!r} is damaged: {entry['name']}/{name} {fault}; copy it again from where it is whole, "
            f"or remove the folder and collect it again"
        )


def _open(path: Path, entry: dict[str, Any]) -> Shard:
    """A shard, whose frames stay on the disk: every map is an open file, of which a process may have some hundreds."""
    columns = {
        name.removesuffix(".npy"): np.load(path / entry["name"] / name, mmap_mode="r" if name == FRAMES else None)
        for name in entry["files"]
    }
    for column in columns.values():
        column.flags.writeable = False
    lengths = columns.pop("lengths")
    first_step = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return Shard(columns, lengths, first_step + np.arange(len(lengths)), first_step)
