"""What the tests of `envs` share. No `__init__.py` here: a package `tests/envs` would shadow the real `envs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def _assert_same(a: Any, b: Any, where: str = "") -> None:
    """The same types, keys, shapes, dtypes and numbers, all the way down."""
    assert type(a) is type(b), f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            _assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            _assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert a.dtype == b.dtype, where
        _assert_same(list(a), list(b), where)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, err_msg=where, strict=True)
    else:
        assert a == b, f"{where}: {a!r} and {b!r}"


@pytest.fixture
def assert_same() -> Callable[..., None]:
    return _assert_same


@pytest.fixture
def keys() -> Callable[..., np.ndarray]:
    """``keys(n)``: n random keys; another ``seed`` gives others."""
    return lambda n, seed=0: np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)
