"""Choosing among what an experiment offers, and refusing what has no place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jepa_worlds.shared.app import guess
from jepa_worlds.shared.files import Plain


def first_given(key: str, layers: Sequence[Plain]) -> Any:
    """The value of the first layer that has one."""
    return next((layer[key] for layer in layers if layer.get(key) is not None), None)


def chosen(kind: str, wanted: Any, known: Plain) -> list[tuple[str, Any]]:
    """The methods or panels to run, in the experiment's order; None wants all.

    Raises:
        ValueError: one is not known, or chosen twice; or none is chosen.
    """
    names = list(known) if wanted is None else wanted
    if not isinstance(names, list) or not names:
        raise ValueError(f"{kind} must be a list of names, as in {kind}=[{','.join(list(known)[:2])}], got {names!r}")
    require_known(kind.removesuffix("s"), names, known)
    refuse_twice(kind, names)
    return [(name, known[name]) for name in known if name in names]


def check_overrides(what: str, value: Any) -> None:
    """Raises ValueError for anything but a list of strings."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{what} must be a list of overrides, as in [distractor=uniform], got {value!r}")


def check_levels(levels: Any) -> list[float | None]:
    """The levels, if they are some.

    Raises:
        ValueError: they are not, or one is there twice.
    """
    if not isinstance(levels, list) or not levels:
        raise ValueError(f"levels must be a list of numbers, as in [0, 1], got {levels!r}")
    for level in levels:
        if level is not None and not is_level(level):
            raise ValueError(f"a level must be a number of at least 0, or null for none, got {level!r}")
    refuse_twice("levels", levels)
    return levels


def is_level(value: Any) -> bool:
    """Whether it is a finite number of at least 0."""
    return type(value) in (int, float) and 0 <= value < float("inf")


def check_keys(what: str, given: Any, known: Sequence[str]) -> None:
    """Raises ValueError for what is no mapping, or has a key that is not known."""
    if not isinstance(given, dict):
        raise ValueError(f"{what} must map {', '.join(known)} to values, got {given!r}")
    for key in given:
        if key not in known:
            raise ValueError(f"{what} has no place for {key!r}{guess(str(key), known)} It takes {', '.join(known)}")


def require_known(kind: str, names: Sequence[Any], known: Mapping[str, Any]) -> None:
    """Raises ValueError for a name that is not known."""
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}{guess(str(name), list(known))} Known: {', '.join(known)}")


def refuse_twice(what: str, items: Sequence[Any]) -> None:
    """Raises ValueError for what is there more than once."""
    if twice := sorted({str(item) for item in items if items.count(item) > 1}):
        raise ValueError(f"{what} has {', '.join(twice)} more than once")
