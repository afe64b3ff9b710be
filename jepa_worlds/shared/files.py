"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepa_worlds import PACKAGE

Plain = dict[str, Any]  # a mapping, as JSON and YAML have it

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
VERSIONED = ("jepa_worlds", "numpy", "torch", "gymnasium", "hydra-core")
VERSIONED_IF_PRESENT = ("mujoco", "dm-control", "gym-pusht", "pygame")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what was written there takes its place, at once, if all went well.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = temporary_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("r+b") as stream:  # Windows flushes what may be written alone
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Where `atomic` writes first. A process that is killed may leave this behind; the next one overwrites it."""
    return path.with_name(f".{path.name}.tmp{path.suffix}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what could not be written and what to do, if the system refuses inside.

    Raises:
        OSError: with that message.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's words
            raise
        advice = "make room" if error.errno in NO_ROOM else "choose a place that can be written"
        raise OSError(
            f"cannot write {str(path)!r}: {os.strerror(error.errno)}; {advice}, and run the same command again"
        ) from error


def write_array(path: Path, array: NDArray) -> None:
    """Write an array as `numpy.save` does, except that numpy does not notice when the disk is full at the very end."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically.

    Raises:
        ValueError: a NaN or an infinity, which JSON lacks.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise ValueError(f"{path} cannot be written, because JSON has neither NaN nor infinity: {error}") from error
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, and the commit of a clone, see `commit`."""
    found = {"python": platform.python_version()}
    for package in (*VERSIONED, *VERSIONED_IF_PRESENT):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package in VERSIONED:
                found[package] = "not installed"
    known = code_commit()
    return found if known is None else {**found, "commit": known}


@cache
def code_commit() -> str | None:
    """`commit` of this code when this process first asked, which commands do at their start: that is what runs."""
    return commit(PACKAGE.parent)


def commit(root: Path) -> str | None:
    """The commit that a clone is at, ending in ``-dirty`` if tracked files differ from it; None where there is none."""
    if not ((root / ".git").exists() and shutil.which("git")):
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # all tags: the bare hash is asked for
    asked = subprocess.run(["git", "-C", str(root), *describe], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
