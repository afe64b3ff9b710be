"""Progress bars of work that may be part of other work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_drawn: ContextVar[bool] = ContextVar("drawn", default=True)


def bar(*arguments: Any, **settings: Any) -> tqdm[Any]:
    """A bar of tqdm, which takes the arguments; it is not drawn inside `no_bars`."""
    return tqdm(*arguments, **(settings if _drawn.get() else {**settings, "disable": True}))


@contextmanager
def no_bars() -> Iterator[None]:
    """No bar is drawn in here: a command that runs others, perhaps side by side, shows one of its own."""
    before = _drawn.set(False)
    try:
        yield
    finally:
        _drawn.reset(before)
