from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.behaviours.two_rooms_expert import TwoRoomsExpert
from envs.worlds.two_rooms import TwoRooms

LAYOUTS = [
    {},
    {"size": 28},
    {"size": 128, "show_goal": True},
    {"wall": 12.0, "door": 10.0},
    {"max_step": 1.0},
    {"door_width": 6.0},
]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=str)


def run(world, behaviour, key, steps, state=None):
    """The states [steps + 1] of an episode, the actions and the targets [steps, n, 2]."""
    states, actions, targets = [world.initial(key) if state is None else state], [], []
    own, frames = behaviour.start(key, world.action_space), np.zeros((len(key), *world.frame_shape), np.uint8)
    for _ in range(steps):
        action, own = behaviour.act(own, frames, world.factors(states[-1]))
        states.append(world.transition(states[-1], action))
        actions.append(action)
        targets.append(own["target"])
    return states, np.stack(actions), np.stack(targets)


def in_right(state) -> np.ndarray:
    return state["location"][:, 0] > state["wall"][:, 0]


@layouts
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_two_rooms_expert__reaches_the_other_room_from_anywhere_and_again(layout, noise, keys):
    world = TwoRooms(**layout)
    bound = round(100 * world.frame_shape[0] / 64 / world.max_step / (1 - noise))  # 25 steps of 4 px in 64 px
    states, _, _ = run(world, TwoRoomsExpert(noise), keys(300), 4 * bound)
    right = np.stack([in_right(state) for state in states])  # [steps + 1, n]
    assert (right[: bound + 1] != right[0]).any(axis=0).all()
    assert (np.diff(right.astype(int), axis=0) != 0).sum(axis=0).min() >= 3


def test_two_rooms_expert__starts_anywhere_even_in_the_door(keys):
    world = TwoRooms(wall=31.5, door=20.0)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(*world.free, 41), np.linspace(*world.free, 41)))
    free = (np.abs(x - 31.5) >= 4) | (np.abs(y - 20) <= 4)
    start = np.stack([x, y], axis=1)[free].astype(np.float32)
    state = {**world.initial(keys(len(start))), "location": start}
    right = np.stack([in_right(s) for s in run(world, TwoRoomsExpert(), keys(len(start)), 40, state)[0]])
    assert ((right[:] != right[0]).any(axis=0)).all()


@pytest.mark.parametrize("size", [28, 64])
def test_two_rooms_expert__goes_to_the_goal_first(size, keys):
    world = TwoRooms(size, show_goal=True)
    states, _, _ = run(world, TwoRoomsExpert(), keys(500), 45)
    reached = np.stack([world.reward(state, np.zeros((500, 2)), state) for state in states]).any(axis=0)
    assert reached.all()
    hidden = TwoRooms(size)
    states, _, _ = run(hidden, TwoRoomsExpert(), keys(500), 45)
    reached = np.stack([world.reward(state, np.zeros((500, 2)), state) for state in states]).any(axis=0)
    assert reached.mean() < 0.6


def test_two_rooms_expert__gets_to_goals_beside_the_wall(keys):
    world = TwoRooms(show_goal=True)
    state = world.initial(keys(500))
    side = np.where(in_right(state), -1, 1)[:, None]
    state["goal"][:, :1] = state["wall"] + side * world.clearance
    states, _, _ = run(world, TwoRoomsExpert(), keys(500), 45, state)
    assert np.stack([world.reward(s, np.zeros((500, 2)), s) for s in states]).any(axis=0).all()


def test_two_rooms_expert__targets_are_all_over_the_other_room(keys):
    world = TwoRooms(wall=24.0)
    states, _, targets = run(world, TwoRoomsExpert(), keys(4000), 1)
    target, right = targets[0], in_right(states[0])
    assert ((target[:, 0] > 24) != right).all()
    for side, low, high in ((right, 6, 18), (~right, 30, 57)):
        some = target[side]
        for sample, start, end in ((some[:, 0], low, high), (some[:, 1], 6, 57)):
            gap = np.abs(np.sort((sample - start) / (end - start)) - np.arange(len(some)) / len(some)).max()
            assert gap < np.sqrt(-np.log(1e-6 / 2) / (2 * len(some))) + 1e-3


def test_two_rooms_expert__noise_is_a_share_of_the_step(keys):
    world, key = TwoRooms(), keys(4000)
    (_, clean, _), (_, half, _), (_, wild, _) = (run(world, TwoRoomsExpert(noise), key, 1) for noise in (0, 0.5, 1))
    assert clean.dtype == np.float32
    np.testing.assert_allclose(half, (clean + wild) / 2, atol=1e-6)
    assert np.linalg.norm(clean, axis=-1).max() <= 4 + 1e-5
    length, angle = np.linalg.norm(wild[0], axis=-1) / 4, np.arctan2(*wild[0].T) / (2 * np.pi) + 0.5
    for sample in (length, angle):
        gap = np.abs(np.sort(sample) - np.arange(4000) / 4000).max()
        assert gap < np.sqrt(-np.log(1e-6 / 2) / (2 * 4000)) + 1e-3


def test_two_rooms_expert__does_not_depend_on_batch_size_or_place(keys):
    world, key = TwoRooms(show_goal=True), keys(30)
    whole = run(world, TwoRoomsExpert(0.3), key, 30)[1]
    np.testing.assert_array_equal(run(world, TwoRoomsExpert(0.3), key[::-1], 30)[1], whole[:, ::-1])
    np.testing.assert_array_equal(run(world, TwoRoomsExpert(0.3), key[7:9], 30)[1], whole[:, 7:9])


def test_two_rooms_expert__is_pure(keys, assert_unchanged):
    world = TwoRooms(show_goal=True)
    factors = world.factors(world.initial(keys(5)))
    state, frames = TwoRoomsExpert().start(keys(5), world.action_space), np.zeros((5, 64, 64, 3), np.uint8)
    with assert_unchanged(state), assert_unchanged(factors):
        first, _ = TwoRoomsExpert().act(state, frames, factors)
    np.testing.assert_array_equal(TwoRoomsExpert().act(state, frames, factors)[0], first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": 1.1}, "noise must be from 0 to 1, got 1.1"),
        ({"noise": np.nan}, "noise must be from 0 to 1, got nan"),
        ({"clearance": 0.0}, "clearance must be positive and finite, or null, got 0.0"),
    ],
)
def test_two_rooms_expert__refuses_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        TwoRoomsExpert(**given)


def test_two_rooms_expert__refuses_other_worlds(keys):
    for space in (spaces.Discrete(4), spaces.Box(-1, 1, (3,)), spaces.Box(0, 1, (2,))):
        with pytest.raises(ValueError, match=r"it needs (actions Box|bounds around 0).*, got (Discrete|Box)"):
            TwoRoomsExpert().start(keys(3), space)
    state = TwoRoomsExpert().start(keys(3), spaces.Box(-4, 4, (2,)))
    with pytest.raises(ValueError, match=r"needs the factors location, wall and door, got \['location'\]"):
        TwoRoomsExpert().act(state, np.zeros((3, 8, 8, 1), np.uint8), {"location": np.zeros((3, 2))})
