"""What every registered world that is drawn on a canvas must do."""

from __future__ import annotations

import pkgutil

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs  # noqa: F401 (registers the worlds)
from envs.core import State
from envs.drawing import DrawnWorld


def drawn() -> dict[str, type[DrawnWorld]]:
    """The classes of worlds that are drawn, by id."""
    entries = {name: spec.kwargs["world"] for name, spec in gymnasium.registry.items() if "world" in spec.kwargs}
    classes = {name: pkgutil.resolve_name(entry) for name, entry in entries.items()}
    return {name: world for name, world in sorted(classes.items()) if issubclass(world, DrawnWorld)}


DRAWN = drawn()
each = pytest.mark.parametrize("world", DRAWN.values(), ids=DRAWN)


def random_actions(world, shape, seed=0) -> np.ndarray:
    """Actions [*shape, *action_space.shape], as both faces would pass them."""
    space, rng = world.action_space, np.random.default_rng(seed)
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, shape)
    return rng.uniform(space.low, space.high, (*shape, *space.shape)).astype(space.dtype)


def run(world, key, action) -> State:
    """The state after actions [t, n, ...]."""
    state = world.initial(key)
    for a in action:
        state = world.transition(state, a)
    return state


def test_drawn_worlds__are_there():
    names = ("Pendulum", "CartPoleSwingUp", "CartPoleBalance", "Acrobot", "MountainCar")
    assert {f"jepa_worlds/{name}-v0" for name in names} <= DRAWN.keys()


@each
def test_drawn__does_not_depend_on_the_batch(world, keys):
    world, key = world(), keys(67)  # more than are drawn at a time
    action = random_actions(world, (4, 67))

    def everything(chosen) -> list:
        state = run(world, key[chosen], action[:3, chosen])
        last = action[3, chosen]
        new = world.transition(state, last)
        results = [world.render(new), world.coverage(new), world.reward(state, last, new), world.terminated(new)]
        return [*state.values(), *world.factors(new).values(), *results]

    whole = everything(np.arange(67))
    for chosen in (np.array([40]), np.arange(67)[::-1], np.array([5, 66, 2])):
        for part, total in zip(everything(chosen), whole, strict=True):
            np.testing.assert_array_equal(part, total[chosen], strict=True)


@each
@pytest.mark.parametrize("size", [28, 64, 100])
def test_drawn__frame_is_scene_where_covered_and_backdrop_elsewhere(world, size, keys):
    frames, worlds = [], [world(size=size) for _ in range(2)]
    worlds[1].backdrop = dark = (10, 80, 0)
    action = random_actions(worlds[0], (20, 30))
    for world in worlds:
        state = run(world, keys(30), action)
        frames.append(world.render(state).astype(float))
    coverage = worlds[0].coverage(state)
    assert coverage.shape == (30, size, size, 1)
    assert coverage.dtype == np.float32
    assert (coverage == 0).mean() > 0.05  # there is room for a background
    assert (coverage > 0.9).any(axis=(1, 2, 3)).all()
    difference = np.subtract(worlds[0].backdrop, dark)
    np.testing.assert_allclose(frames[0] - frames[1], (1 - coverage) * difference, atol=4)  # every layer is rounded
    for frame, backdrop in zip(frames, (worlds[0].backdrop, dark), strict=True):
        assert (frame[coverage[..., 0] == 0] == backdrop).all()


@each
def test_drawn__factors_stay_within_their_space(world, keys):
    world = world()
    state = world.initial(keys(40))
    for action in random_actions(world, (60, 40)):
        new = world.transition(state, action)
        keep = world.terminated(state)
        state = {k: np.where(keep.reshape(-1, *[1] * (v.ndim - 1)), state[k], v) for k, v in new.items()}
        factors = world.factors(state)
        assert factors.keys() == world.factor_space.keys()
        for key, space in world.factor_space.items():
            assert factors[key].shape == (40, *space.shape)
            assert factors[key].dtype == space.dtype == np.float32
            assert ((space.low <= factors[key]) & (factors[key] <= space.high)).all(), key


@each
@pytest.mark.parametrize("size", [0, -3, 64.0])
def test_drawn__refuses_a_size_that_is_not_a_whole_number(world, size):
    with pytest.raises(ValueError, match=rf"{size}"):
        world(size=size)


@each
def test_drawn__leaves_its_inputs_alone(world, keys):
    world = world()
    action = random_actions(world, (2, 5))
    state = run(world, keys(5), action[:1])
    before, a = {k: v.copy() for k, v in state.items()}, action[1].copy()
    new = world.transition(state, a)
    for function in (world.render, world.coverage, world.factors, world.terminated):
        function(state)
    world.reward(state, a, new)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)
    np.testing.assert_array_equal(a, action[1])
