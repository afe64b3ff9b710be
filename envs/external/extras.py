"""Packages that only some environments need."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

EXTRAS = {"mujoco": "control", "dm_control": "control", "gym_pusht": "pusht", "pygame": "classic"}
"""The extra of this distribution with which each comes."""


def advice(package: str) -> str:
    """The command that installs a package."""
    return f'pip install "jepa_worlds[{EXTRAS[package]}]"' if package in EXTRAS else f"pip install {package}"


def require(package: str, wanted_by: str) -> None:
    """Make sure that a package is there, without importing it.

    Raises:
        ValueError: it is not; with the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{wanted_by} needs {package}, which is not installed: {advice(package)}")


def load(module: str, wanted_by: str) -> ModuleType:
    """Import a module that may be absent.

    Raises:
        ValueError: it is; with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).split(".")[0]
        raise ValueError(f"{wanted_by} needs {package}, which does not import ({error}): {advice(package)}") from error
