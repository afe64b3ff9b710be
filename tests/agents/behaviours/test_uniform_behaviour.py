from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.behaviours.uniform import Uniform


def act(key, space, steps=1):
    """Actions [n, steps, *space.shape]."""
    state, actions = Uniform().start(key, space), []
    for _ in range(steps):
        action, state = Uniform().act(state, np.zeros((len(key), 1, 1, 1), np.uint8), {})
        actions.append(action)
    return np.stack(actions, axis=1)


def test_uniform__fills_a_box_evenly_in_every_dimension(keys):
    low, high = np.array([[-3.0, 0.0], [10.0, -1.0]]), np.array([[1.0, 0.5], [10.5, 100.0]])
    space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
    actions = act(keys(20_000), space)[:, 0]
    assert actions.dtype == np.float32
    assert actions.shape == (20_000, 2, 2)
    assert (actions >= space.low).all()
    assert (actions <= space.high).all()
    unit = np.sort((actions - low) / (high - low), axis=0)
    gap = np.abs(unit - np.arange(20_000)[:, None, None] / 20_000).max()
    assert gap < np.sqrt(-np.log(1e-6 / 2) / (2 * 20_000)) + 1e-4  # Kolmogorov-Smirnov at p = 1e-6


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (spaces.Discrete(5), range(5)),
        (spaces.Discrete(4, start=-2), range(-2, 2)),
        (spaces.Discrete(3, start=7), range(7, 10)),
        (spaces.Box(-1, 2, (), np.int64), range(-1, 3)),
        (spaces.Box(0, 3, (), np.uint8), range(4)),
    ],
    ids=str,
)
def test_uniform__draws_every_integer_equally_often(space, values, keys):
    actions = act(keys(10_000), space)
    assert actions.shape == (10_000, 1)
    assert actions.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in actions[:100, 0])
    found, counts = np.unique(actions, return_counts=True)
    assert found.tolist() == list(values)
    expected = 10_000 / len(values)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_uniform__fills_the_whole_range_of_small_integers(dtype, keys):
    info = np.iinfo(dtype)
    actions = act(keys(10_000), spaces.Box(info.min, info.max, (1,), dtype))
    assert len(np.unique(actions)) == 256
    assert abs(actions.mean() - (info.min + info.max) / 2) < 5 * 256 / np.sqrt(12 * 10_000)


def test_uniform__steps_worlds_and_dimensions_are_independent(keys):
    actions = act(keys(20_000), spaces.Box(-1, 1, (2,)), steps=2).reshape(20_000, 4)
    assert np.abs(np.corrcoef(actions.T) - np.eye(4)).max() < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1]) < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2, 3)), spaces.Discrete(1000, start=5)], ids=["box", "discrete"])
def test_uniform__does_not_depend_on_batch_size_or_place(space, keys):
    key = keys(40)
    whole = act(key, space, steps=3)
    np.testing.assert_array_equal(act(key[::-1], space, steps=3), whole[::-1])
    np.testing.assert_array_equal(act(key[13:20], space, steps=3), whole[13:20])
    one_by_one = np.concatenate([act(key[i : i + 1], space, steps=3) for i in range(40)])
    np.testing.assert_array_equal(one_by_one, whole)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2,)), spaces.Discrete(9)], ids=["box", "discrete"])
def test_uniform__is_pure(space, keys, assert_unchanged):
    key = keys(5)
    state = Uniform().start(key, space)
    with assert_unchanged({**state, "given": key, "low": np.asarray(getattr(space, "low", 0))}):
        first, _ = Uniform().act(state, np.zeros((5, 1, 1, 1), np.uint8), {})
    again, _ = Uniform().act(state, np.zeros((5, 1, 1, 1), np.uint8), {})
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "space", [spaces.Box(-np.inf, 1, (2,)), spaces.Box(0, np.inf, (2,)), spaces.MultiDiscrete([3, 4])]
)
def test_uniform__refuses_spaces_without_a_uniform_distribution(space, keys):
    with pytest.raises(ValueError, match=r"needs a bounded Box or a Discrete action space, got (Box|MultiDiscrete)"):
        Uniform().start(keys(3), space)
