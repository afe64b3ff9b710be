"""Arguments of the wrong type or out of range, found before they do harm."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "true or false"),
    int: ((Integral,), "an integer"),
    float: ((Real,), "a number"),
    str: ((str,), "a string"),
    types.NoneType: ((types.NoneType,), "null"),
}


def check_types(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Check arguments that are annotated as truth values, numbers, strings or None, or as one of several of these.

    Whatever is annotated otherwise is left to the function itself.

    Args:
        function: a function, or the ``__init__`` of a class.
        arguments: by name; those that the function does not have are left alone.

    Raises:
        ValueError: one is of another type.
    """
    try:
        hints = get_type_hints(function)
    except NameError:  # a type that is imported for type checkers alone
        return
    for name, value in arguments.items():
        hint = hints.get(name, Any)
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if all(kind in KINDS for kind in kinds) and not any(_is(value, kind) for kind in kinds):
            owner = function.__qualname__.removesuffix(".__init__")
            raise ValueError(f"{owner}: {name} must be {' or '.join(KINDS[k][1] for k in kinds)}, got {value!r}")


def require_whole(least: int = 1, /, **numbers: Any) -> None:
    """Refuse numbers that are not whole, or too small.

    Raises:
        ValueError: there is one.
    """
    for name, number in numbers.items():
        if not _is_whole(number, least):
            raise ValueError(f"{name} must be an integer of at least {least}, got {number!r}")


def require_whole_or_none(least: int = 1, /, **numbers: Any) -> None:
    """Refuse what is neither None nor a whole number that is large enough.

    Raises:
        ValueError: there is such a thing.
    """
    for name, number in numbers.items():
        if not (number is None or _is_whole(number, least)):
            raise ValueError(f"{name} must be an integer of at least {least}, or null, got {number!r}")


def at_least(least: float, /, **values: float) -> None:
    """Refuse numbers that are smaller, or infinite.

    Raises:
        ValueError: there is one.
    """
    for name, value in values.items():
        if not least <= value < float("inf"):
            raise ValueError(f"{name} must be at least {least}, got {value!r}")


def within(low: float, high: float, /, **values: float) -> None:
    """Refuse numbers that are not between two others, these included.

    Raises:
        ValueError: there is one.
    """
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, got {value!r}")


def _is_whole(number: Any, least: int) -> bool:
    return type(number) is int and number >= least  # no truth value, and none of numpy's, which JSON does not know


def _is(value: Any, kind: type) -> bool:
    truth = isinstance(value, (bool, np.bool_))  # which Python counts among the integers
    return isinstance(value, KINDS[kind][0]) and (kind is bool or not truth)
