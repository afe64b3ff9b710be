from __future__ import annotations

import numpy as np
import pytest

from envs.core import apart, merge, replace
from envs.worlds.pendulum import Pendulum


def test_merge__puts_the_new_worlds_where_the_mask_is_set_and_leaves_its_inputs_alone():
    old = {"a": np.arange(4), "b": np.zeros((4, 2))}
    mask = np.array([False, True, False, True])
    merged = merge(mask, {"a": np.array([10, 20]), "b": np.ones((2, 2))}, old)
    np.testing.assert_array_equal(merged["a"], [0, 10, 2, 20])
    np.testing.assert_array_equal(merged["b"][:, 0], [0, 1, 0, 1])
    np.testing.assert_array_equal(old["a"], np.arange(4))
    assert not old["b"].any()


def test_replace__takes_over_copies_in_the_states_own_dtype():
    given = np.array([5.0, 6.0])
    state = {"a": np.zeros(2, np.float32), "b": np.zeros(2)}
    replaced = replace(state, {"a": given})
    given[:] = 9
    np.testing.assert_array_equal(replaced["a"], np.array([5, 6], np.float32), strict=True)
    assert replaced["b"] is state["b"]
    assert not state["a"].any()


def test_replace__refuses_unknown_names_and_other_shapes():
    state = {"b": np.zeros((2, 3)), "a": np.zeros(2)}
    with pytest.raises(ValueError, match=r"unknown state variable 'c'; this world has \['a', 'b'\]"):
        replace(state, {"c": np.zeros(2)})
    with pytest.raises(ValueError, match=r"state variable 'b' has shape \(2, 3\), got \(3, 2\)"):
        replace(state, {"b": np.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"state variable 'a' must be finite, got \[0, nan\]"):
        replace(state, {"a": [0, np.nan]})


def test_apart__is_the_straight_line_over_all_that_a_factor_has():
    one = np.float32([[[3, 0], [0, 4]], [[1, 1], [1, 1]]])
    assert apart(one, np.zeros((2, 2, 2))).tolist() == [5, 2]
    assert apart(np.float32([1, -2]), np.float32([4, 4])).tolist() == [3, 6]


def test_distance__of_a_world_that_knows_no_way_is_straight(keys):
    world = Pendulum()
    state = {**world.initial(keys(2)), "angle": np.array([0.0, np.pi]), "velocity": np.array([1.0, -2.0])}
    upright = world.factors({**state, "angle": np.zeros(2)})["angle"]
    np.testing.assert_allclose(world.distance(state, "angle", upright), [0, 2], atol=1e-6)
