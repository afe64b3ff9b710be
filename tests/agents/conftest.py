"""What the tests of `agents` share. No `__init__.py` here: a package `tests/agents` would shadow the real `agents`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from agents.objectives.core import Views
from agents.world_models.frame_model import imagined


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def keys() -> Callable[..., np.ndarray]:
    """``keys(n)``: n random keys; another ``seed`` gives others."""
    return lambda n, seed=0: np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


@pytest.fixture
def assert_unchanged() -> Callable[[dict[str, np.ndarray]], AbstractContextManager[None]]:
    """``with assert_unchanged(arrays):`` the arrays are the same after as before."""

    @contextmanager
    def watch(arrays: dict[str, np.ndarray]) -> Iterator[None]:
        before = {name: array.copy() for name, array in arrays.items()}
        yield
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, before[name], err_msg=name, strict=True)

    return watch


@pytest.fixture
def make_views() -> Callable[..., Views]:
    """``make_views()``: random views of 5 sequences of 4 steps, in double precision; any part may be given.

    With ``predict=…``, a predictor, predictions are those that it makes, and other actions can be asked about.
    """

    def make(**given: Any) -> Views:
        latents, predict = given.pop("latents", torch.randn(5, 4, 6, dtype=torch.double)), given.pop("predict", None)
        b, t, _ = latents.shape
        parts = {
            "predictions": latents + 0.3 * torch.randn_like(latents),
            "actions": torch.randn(b, t - 1, 2, dtype=latents.dtype),
            "frames": torch.randn(b, t, 1, 4, 4, dtype=latents.dtype),
            "factors": {"location": torch.randn(b, t, 2, dtype=latents.dtype)},
        }
        parts |= given
        if predict is not None:
            start = latents[:, :1]
            parts["imagine"] = lambda others: imagined(predict, start, others)
            if "predictions" not in given:
                parts["predictions"] = torch.cat([start, predict(start, parts["actions"])], dim=1)
        return Views(latents=latents, **parts)

    return make
