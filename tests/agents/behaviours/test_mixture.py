from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.behaviours.correlated import Correlated
from agents.behaviours.mixture import Mixture
from agents.behaviours.random_walk import RandomWalk
from agents.behaviours.two_rooms_expert import TwoRoomsExpert
from agents.behaviours.uniform import Uniform
from envs import random
from envs.worlds.two_rooms import TwoRooms

PLANE = spaces.Box(-4.0, 4.0, (2,), np.float32)
THREE = Mixture({"walk": RandomWalk(), "still": Correlated(1e9), "any": Uniform()}, {"walk": 1, "still": 0, "any": 2.5})


def act(behaviour, key, steps, frames=None, factors=None):
    """Actions [n, steps, 2] and the first state."""
    start = state = behaviour.start(key, PLANE)
    frames, actions = np.zeros((len(key), 1, 1, 1), np.uint8) if frames is None else frames, []
    for _ in range(steps):
        action, state = behaviour.act(state, frames, factors or {})
        actions.append(action)
    return np.stack(actions, axis=1), start


def test_mixture__follows_each_part_as_often_as_its_weight_says(keys):
    part = act(THREE, keys(20_000), 1)[1]["part"]
    counts = np.bincount(part, minlength=3) / 20_000
    np.testing.assert_allclose(counts, [1 / 3.5, 0, 2.5 / 3.5], atol=5 * 0.5 / np.sqrt(20_000))


def test_mixture__an_episode_is_that_of_its_part(keys):
    mixture = Mixture({"walk": RandomWalk(2.0), "lasting": Correlated(5.0)}, {"walk": 1, "lasting": 1})
    key = keys(200)
    actions, start = act(mixture, key, 6)
    assert actions.dtype == np.float32
    for i, part in enumerate(mixture.parts.values()):
        chosen = start["part"] == i
        assert 50 < chosen.sum() < 150
        expected, _ = act(part, random.fold_in(key, 1 + i), 6)
        np.testing.assert_array_equal(actions[chosen], expected[chosen])


def test_mixture__its_parts_see_their_own_worlds(keys):
    world, key = TwoRooms(), keys(60)
    factors, frames = world.factors(world.initial(key)), np.zeros((60, 64, 64, 3), np.uint8)
    mixture = Mixture({"any": Uniform(), "expert": TwoRoomsExpert()}, {"any": 1, "expert": 1})
    actions, start = act(mixture, key, 3, frames, factors)
    expected, _ = act(TwoRoomsExpert(), random.fold_in(key, 2), 3, frames, factors)
    chosen = start["part"] == 1
    np.testing.assert_array_equal(actions[chosen], expected[chosen])
    assert (actions[~chosen] != expected[~chosen]).any(axis=(1, 2)).all()


def test_mixture__does_not_depend_on_batch_size_or_place(keys, assert_unchanged):
    key = keys(40)
    whole, start = act(THREE, key, 4)
    np.testing.assert_array_equal(act(THREE, key[::-1], 4)[0], whole[::-1])
    np.testing.assert_array_equal(np.concatenate([act(THREE, key[i : i + 1], 4)[0] for i in range(40)]), whole)
    assert len(np.unique(whole)) == whole.size
    with assert_unchanged(start):
        THREE.act(start, np.zeros((40, 1, 1, 1), np.uint8), {})


def test_mixture__may_hold_mixtures(keys):
    nested = Mixture({"one": THREE, "two": Uniform()}, {"one": 1, "two": 1})
    actions, start = act(nested, keys(50), 3)
    assert actions.shape == (50, 3, 2)
    assert len(np.unique(start["one.part"])) == 2


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ({}, {}, "parts must be one behaviour or more, by name, got {}"),
        ({"a": 3}, {"a": 1}, "parts must be one behaviour or more, by name, got {'a': 3}"),
        ({"a": Uniform()}, {"b": 1}, r"weights must name the parts \['a'\], got {'b': 1}"),
        ({"a": Uniform()}, {"a": 0}, "weights must be finite, at least 0, and not all 0, got {'a': 0}"),
        ({"a": Uniform(), "b": Uniform()}, {"a": 1, "b": -1}, "weights must be finite, at least 0"),
        ({"a": Uniform(), "b": Uniform()}, {"a": 1, "b": np.inf}, "weights must be finite, at least 0"),
    ],
)
def test_mixture__refuses_what_is_no_mixture(parts, weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(parts, weights)


def test_mixture__refuses_spaces_that_a_part_refuses(keys):
    with pytest.raises(ValueError, match="random_walk moves in the plane"):
        THREE.start(keys(3), spaces.Discrete(3))
