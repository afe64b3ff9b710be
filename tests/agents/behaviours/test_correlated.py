from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.behaviours.correlated import Correlated

BOX = spaces.Box(np.array([-1, 0, 5], np.float32), np.array([1, 0.1, 50], np.float32))


def act(behaviour, key, space, steps):
    """Actions [n, steps, *space.shape]."""
    state, actions = behaviour.start(key, space), []
    for _ in range(steps):
        action, state = behaviour.act(state, np.zeros((len(key), 1, 1, 1), np.uint8), {})
        actions.append(action)
    return np.stack(actions, axis=1)


@pytest.mark.parametrize("time", [0.5, 8.0, 100.0])
def test_correlated__each_action_of_a_box_is_uniform_at_all_times(time, keys):
    actions = act(Correlated(time), keys(20_000), BOX, 12)
    assert actions.dtype == np.float32
    assert actions.shape == (20_000, 12, 3)
    assert (actions >= BOX.low).all()
    assert (actions <= BOX.high).all()
    unit = np.sort((actions - BOX.low) / (BOX.high - BOX.low), axis=0)
    gap = np.abs(unit - np.arange(20_000)[:, None, None] / 20_000).max(axis=0)
    assert (gap < np.sqrt(-np.log(1e-6 / 2) / (2 * 20_000)) + 1e-4).all()  # Kolmogorov-Smirnov at p = 1e-6


@pytest.mark.parametrize("time", [0.5, 8.0, 100.0])
def test_correlated__the_correlation_falls_as_the_formula_says(time, keys):
    unit = act(Correlated(time), keys(20_000), BOX, 12)
    for lag in (1, 4, 11):
        rho = np.exp(-lag / time)
        expected = 6 / np.pi * np.arcsin(rho / 2)  # of Φ(x) and Φ(y), for Gaussians of correlation ρ
        for first in {0, 11 - lag}:
            for i in range(3):
                found = np.corrcoef(unit[:, first, i], unit[:, first + lag, i])[0, 1]
                assert abs(found - expected) < 5 / np.sqrt(20_000)


def test_correlated__components_worlds_and_episodes_are_independent(keys):
    actions = act(Correlated(), keys(20_000), spaces.Box(-1, 1, (2, 2)), 2).reshape(20_000, 2, 4)
    for lag in (0, 1):
        columns = np.corrcoef(actions[:, 0].T, actions[:, lag].T)[:4, 4:]
        assert np.abs(columns - np.diag(np.diag(columns))).max() < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(actions[:-1, 0, 0], actions[1:, 0, 0])[0, 1]) < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("time", [1.0, 8.0])
def test_correlated__discrete_actions_stick(time, keys):
    actions = act(Correlated(time), keys(20_000), spaces.Discrete(5, start=-2), 9)
    assert actions.dtype == spaces.Discrete(5).dtype
    for step in (0, 8):
        found, counts = np.unique(actions[:, step], return_counts=True)
        assert found.tolist() == [-2, -1, 0, 1, 2]
        assert np.abs(counts - 4000).max() < 5 * np.sqrt(4000)
    for lag in (1, 8):
        kept = np.exp(-lag / time)
        same = (actions[:, 0] == actions[:, lag]).mean()
        assert abs(same - (kept + (1 - kept) / 5)) < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("space", [spaces.Box(-1, 2, (), np.int64), spaces.Box(0, 255, (1,), np.uint8)], ids=str)
def test_correlated__draws_every_integer_of_a_box_equally_often(space, keys):
    actions = act(Correlated(), keys(20_000), space, 2)[:, 1].ravel()
    assert actions.dtype == space.dtype
    values = np.arange(int(space.low.min()), int(space.high.max()) + 1)
    found, counts = np.unique(actions, return_counts=True)
    assert found.tolist() == values.tolist()
    expected = 20_000 / len(values)
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)


@pytest.mark.parametrize("space", [BOX, spaces.Discrete(1000)], ids=["box", "discrete"])
def test_correlated__does_not_depend_on_batch_size_or_place(space, keys, assert_unchanged):
    key = keys(40)
    whole = act(Correlated(), key, space, 4)
    np.testing.assert_array_equal(act(Correlated(), key[::-1], space, 4), whole[::-1])
    np.testing.assert_array_equal(act(Correlated(), key[13:20], space, 4), whole[13:20])
    one_by_one = np.concatenate([act(Correlated(), key[i : i + 1], space, 4) for i in range(40)])
    np.testing.assert_array_equal(one_by_one, whole)
    state = Correlated().start(key, space)
    with assert_unchanged(state):
        Correlated().act(state, np.zeros((40, 1, 1, 1), np.uint8), {})


@pytest.mark.parametrize("time", [0, -1.0, np.nan, np.inf])
def test_correlated__refuses_a_time_that_is_not_positive(time):
    with pytest.raises(ValueError, match=f"time must be positive and finite, got {time}"):
        Correlated(time)


@pytest.mark.parametrize("space", [spaces.Box(-np.inf, 1, (2,)), spaces.MultiDiscrete([3, 4])])
def test_correlated__refuses_spaces_without_a_uniform_distribution(space, keys):
    with pytest.raises(ValueError, match=r"needs a bounded Box or a Discrete action space, got (Box|MultiDiscrete)"):
        Correlated().start(keys(3), space)
