"""Actions of every space as world models see them."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.actions import described, vectors

SPACES = {
    "discrete": (spaces.Discrete(3), 3),
    "discrete from -1": (spaces.Discrete(4, start=-1), 4),
    "several choices": (spaces.MultiDiscrete([2, 3]), 5),
    "a table of choices": (spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, -3]]), 14),
    "switches": (spaces.MultiBinary(4), 4),
    "a table of switches": (spaces.MultiBinary([2, 3]), 6),
    "a number": (spaces.Box(-1, 1, (), np.float32), 1),
    "numbers": (spaces.Box(-1, 1, (2,), np.float64), 2),
    "a table of numbers": (spaces.Box(-1, 1, (2, 3), np.float32), 6),
    "bytes": (spaces.Box(0, 255, (2,), np.uint8), 2),
}


def stored(space: gymnasium.Space) -> np.ndarray:
    """Actions [3, 4, *shape], as a dataset stores them."""
    space.seed(0)
    return np.array([[space.sample() for _ in range(4)] for _ in range(3)], dtype=space.dtype)


@pytest.mark.parametrize(("space", "size"), SPACES.values(), ids=SPACES)
def test_vectors__are_rows_of_floats_for_every_space(space: gymnasium.Space, size: int) -> None:
    entry = json.loads(json.dumps(described(space)))  # as it comes out of a manifest
    found = vectors(torch.from_numpy(stored(space)), entry)
    assert (found.shape, found.dtype) == ((3, 4, size), torch.float32)


@pytest.mark.parametrize("name", ["discrete", "discrete from -1", "several choices", "a table of choices"])
def test_vectors__of_choices_are_one_hot_vectors_one_after_the_other(name: str) -> None:
    space = SPACES[name][0]
    actions = stored(space)
    found = vectors(torch.from_numpy(actions), described(space)).numpy()
    sizes = np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)  # type: ignore[attr-defined]
    choices = (actions - space.start).reshape(12, -1)  # type: ignore[attr-defined]
    expected = [[np.eye(size)[c] for size, c in zip(sizes, row, strict=True)] for row in choices]
    np.testing.assert_array_equal(found.reshape(12, -1), np.stack([np.concatenate(row) for row in expected]))
    assert len(np.unique(found.reshape(12, -1), axis=0)) > 2


@pytest.mark.parametrize("name", [n for n in SPACES if "choices" not in n and "discrete" not in n])
def test_vectors__of_numbers_are_what_they_were(name: str) -> None:
    actions = stored(SPACES[name][0])
    found = vectors(torch.from_numpy(actions), described(SPACES[name][0])).numpy()
    np.testing.assert_array_equal(found, actions.reshape(3, 4, -1).astype(np.float32))


def test_described__of_a_box_names_no_choices() -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    assert described(box) == {"space": str(box), "shape": [2], "dtype": "float32"}
