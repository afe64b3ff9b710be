"""Writing of datasets: sharded, atomic, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jepa_worlds.data.dataset import MANIFEST, SPLITS, Split, check_shard, read_manifest
from jepa_worlds.data.statistics import coverage, moments
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.files import (
    VERSIONED_IF_PRESENT,
    Plain,
    digest,
    temporary_name,
    write_array,
    write_json,
    writing,
)
from jepa_worlds.shared.runs import differing

Columns = dict[str, NDArray]
"""Arrays of a range of episodes, one after the other, by the names of their files."""

SHARD = 1024, 2**28  # episodes, and bytes of their frames, in a shard of unstated size at most
FOLLOWS = ("frame_shape", "action", "factors")  # of a header: what follows from its settings


def write_dataset(
    header: Plain, settings: Sequence[str], out: Path, columns: Callable[[Split, range], Columns], doing: str
) -> Plain:
    """Write a dataset into a folder, or go on with one that was begun; returns its manifest.

    A shard counts once it is in the manifest. Killed at any point and started again, writing ends byte-identical to one
    that was never interrupted.

    Args:
        header: what the manifest says before anything is written.
        settings: keys of the header that a dataset that was begun has to agree in, where it has them.
        out: the folder.
        columns: what makes the columns of some episodes of a split, ``lengths`` among them.
        doing: what the progress bar says.

    Raises:
        ValueError: the folder holds something else, or a dataset made otherwise.
    """
    manifest = _resumed(header, settings, out)
    if manifest["complete"]:
        return manifest
    done = {entry["name"] for entry in manifest["shards"]}
    with bar(total=header["episodes"], unit="episode", desc=f"{doing} {out}", smoothing=0) as progress:
        for name, split, episodes in shards(header):
            if name not in done:
                manifest["shards"].append(_write_shard(out, name, split, episodes, columns(split, episodes)))
                write_json(out / MANIFEST, manifest)
            progress.update(len(episodes))
    manifest |= {
        "complete": True,
        "statistics": moments(out, manifest),
        "coverage": coverage(out, manifest),
        "content_hash": _content_hash(manifest),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def shards(header: Plain) -> Iterator[tuple[str, Split, range]]:
    """Name, split and episodes of each shard."""
    number = 0
    for split in SPLITS:
        first, end = header["splits"][split]
        for start in range(first, end, header["shard_episodes"]):
            yield f"shard-{number:05d}", split, range(start, min(start + header["shard_episodes"], end))
            number += 1


def shard_episodes(length: int, frame_shape: Sequence[int]) -> int:
    """How many episodes of so many steps a shard of unstated size has."""
    return max(1, min(SHARD[0], SHARD[1] // ((length + 1) * int(np.prod(frame_shape)))))


def split_episodes(episodes: int, validation: float, test: float) -> dict[Split, tuple[int, int]]:
    """First episode of each split, and the one after its last.

    Raises:
        ValueError: shares that are out of range, or that leave no episodes to train on.
    """
    if not (all(isinstance(x, (int, float)) and x >= 0 for x in (validation, test)) and validation + test < 1):
        raise ValueError(
            f"validation and test are shares of the episodes, from 0 and below 1 in all; got "
            f"validation={validation!r}, test={test!r}"
        )
    held_out = round(episodes * validation), round(episodes * test)
    ends = (episodes - sum(held_out), episodes - held_out[1], episodes)
    if ends[0] < 1:
        raise ValueError(
            f"episodes={episodes}, validation={validation} and test={test} leave no episodes to train on: "
            f"collect more, or lower these shares"
        )
    return dict(zip(SPLITS, zip((0, *ends), ends, strict=False), strict=True))


def _resumed(header: Plain, settings: Sequence[str], out: Path) -> Plain:
    """The manifest to go on from: the header, or one begun under the same header, drawn by the same packages."""
    if not (out / MANIFEST).is_file():
        killed_at_once = {temporary_name(out / MANIFEST)}
        if out.exists() and not (out.is_dir() and set(out.iterdir()) <= killed_at_once):
            raise ValueError(f"out={str(out)!r} exists and is not a dataset: choose another folder, or remove it")
        write_json(out / MANIFEST, header)
        return header
    manifest = read_manifest(out)

    def differences(*keys: str) -> list[str]:
        both = [key for key in keys if key in manifest and key in header]
        return [text for key in both for text in differing(key, manifest[key], header[key])]

    found = differences(*settings, "splits") or differences(*FOLLOWS)
    if not (found or manifest["complete"]):
        found = differences("render_backend") or _upgraded(manifest, header)
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(
            f"out={str(out)!r} holds a dataset collected otherwise, with {', '.join(found[:4])}{more}: choose "
            f"another folder, or remove it"
        )
    for entry in manifest["shards"]:
        check_shard(out, entry, verify=True)
    return manifest


def _upgraded(there: Plain, now: Plain) -> list[str]:
    """Packages of others that draw and simulate, and have other versions now; none where frames are drawn here."""
    if now["render_backend"] in (None, "numpy"):
        return []
    drawing = ("gymnasium", *VERSIONED_IF_PRESENT)
    known = [name for name in drawing if name in there["versions"] and name in now["versions"]]
    before, after = ({name: header["versions"][name] for name in known} for header in (there, now))
    return list(differing("versions", before, after))


def _write_shard(out: Path, name: str, split: Split, episodes: range, columns: Columns) -> Plain:
    """Write a shard under a temporary name, move it into place, and return its entry for the manifest."""
    temporary, final = out / f".{name}.tmp", out / name
    for leftover in (temporary, final):
        shutil.rmtree(leftover, ignore_errors=True)
    with writing(final):
        try:
            temporary.mkdir()
            for column, array in columns.items():
                write_array(temporary / f"{column}.npy", array)
            files = {
                file.name: {"bytes": file.stat().st_size, "sha256": digest(file)}
                for file in sorted(temporary.iterdir())
            }
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return {"name": name, "split": split, "episodes": [episodes.start, episodes.stop], "files": files}


def _content_hash(manifest: Plain) -> str:
    named = {key: manifest[key] for key in ("env", "distractor", "behaviour", "seed", "splits", "shards")}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
