from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.core import apart
from envs.worlds.two_rooms import DOT, GOAL, WALL, TwoRooms

LAYOUTS = [{}, {"wall": 20.5, "door": 41.0}, {"size": 28}, {"size": 100, "thickness": 1.0, "radius": 5.0}]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=str)


def blocked(world, state, location) -> np.ndarray:
    """Whether the square around a dot overlaps the wall or leaves the borders: [n, 2] -> [n]."""
    x, y = location.T
    wall, door = state["wall"][:, 0], state["door"][:, 0]
    in_wall = np.abs(x - wall) < world.thickness / 2 + world.radius
    in_door = np.abs(y - door) <= world.door_width / 2 - world.radius
    low, high = world.inside
    inside = ((location >= low + world.radius) & (location <= high - world.radius)).all(axis=1)
    return (in_wall & ~in_door) | ~inside


def crawl(world, state, step, steps=3000) -> np.ndarray:
    """A step as many small ones, where a component that would lead into a wall is given up."""
    location, part = state["location"].astype(float), step / steps
    for _ in range(steps):
        for axis in (0, 1):
            part[blocked(world, state, location + part * (np.arange(2) == axis)), axis] = 0
        location += part
    return location


@layouts
def test_two_rooms__moves_as_many_small_steps_would(layout, keys):
    world = TwoRooms(**layout, max_step=1e6)
    state = world.initial(keys(300))
    step = np.random.default_rng(0).normal(0, world.frame_shape[0] / 3, (300, 2)).astype(np.float32)
    found = world.transition(state, step)["location"]
    apart = np.abs(found - crawl(world, state, step.astype(float))).max(axis=1)
    assert (apart < 0.1).mean() > 0.98  # paths that just graze a jamb may part there
    crossed = (state["location"][:, 0] > state["wall"][:, 0]) != (found[:, 0] > state["wall"][:, 0])
    assert 0 < crossed.mean() < 0.5


@layouts
def test_two_rooms__dots_stay_out_of_the_walls(layout, keys):
    world, generator = TwoRooms(**layout, max_step=1e6), np.random.default_rng(1)
    state = world.initial(keys(500))
    for scale in (0.1, 3, 50, 1e6) * 10:
        action = generator.normal(0, scale, (500, 2)) * generator.integers(0, 2, (500, 2))
        state = world.transition(state, action.astype(np.float32))
        x, y = state["location"].T.astype(float)
        in_wall = np.abs(x - state["wall"][:, 0]) < float(world.clearance) - 1e-5
        in_door = np.abs(y - state["door"][:, 0]) <= world.door_width / 2 - world.radius + 1e-5
        assert (~in_wall | in_door).all()
        assert world.factor_space["location"].low.min() <= state["location"].min()
        assert world.factor_space["location"].high.max() >= state["location"].max()


def test_two_rooms__no_step_is_long_enough_to_get_through_the_wall(keys):
    world = TwoRooms(wall=30.0, door=12.0, thickness=0.01, radius=0.01, max_step=1e9)
    state = world.initial(keys(500))
    state["location"][:, 1] = np.linspace(20, 60, 500)
    left = state["location"][:, 0] < 30
    new = world.transition(state, np.where(left, 1, -1)[:, None] * np.array([[1e9, 0]], np.float32))["location"]
    np.testing.assert_allclose(new[:, 0], np.where(left, 30 - 0.015, 30 + 0.015), atol=1e-5)
    np.testing.assert_array_equal(new[:, 1], state["location"][:, 1])


@pytest.mark.parametrize(
    ("start", "action", "end"),
    [
        ((20, 20), (3, 2), (23, 22)),
        ((20, 20), (6, 8), (22.4, 23.2)),  # a length of 10 is clipped to 4
        ((25, 20), (3, 2), (26, 22)),  # along the wall, whose face is 2 px from 28
        ((26, 20), (0, 4), (26, 24)),
        ((26, 33), (3, 1), (29, 34)),  # into the door
        ((33, 36), (-1, 3), (32, 36)),  # the jamb is at 38
        ((6, 30), (-3, 1), (5.5, 31)),  # the border's face is at 3.5
        ((57, 57), (2, 2), (57.5, 57.5)),
    ],
)
def test_two_rooms__walls_are_where_they_are_drawn(start, action, end):
    world = TwoRooms(wall=30.0, door=32.0)
    state = {**world.initial(np.zeros(1, np.uint64)), "location": np.array([start], np.float32)}
    new = world.transition(state, np.array([action], np.float32))
    np.testing.assert_allclose(new["location"], [end], atol=1e-5)
    for name in ("goal", "wall", "door"):
        np.testing.assert_array_equal(new[name], state[name])


@layouts
def test_two_rooms__start_and_goal_are_anywhere_in_different_rooms(layout, keys):
    world = TwoRooms(**layout)
    state = world.initial(keys(20_000))
    side = {name: state[name][:, 0] > state["wall"][:, 0] for name in ("location", "goal")}
    assert (side["location"] != side["goal"]).all()
    low, high = world.free
    right = high - state["wall"][:, 0] - world.clearance
    share = right / (right + state["wall"][:, 0] - world.clearance - low)
    assert abs((side["location"] - share).mean()) < 5 * 0.5 / np.sqrt(20_000)  # a larger room is begun in more often
    assert abs(np.corrcoef(state["location"][:, 1], state["goal"][:, 1])[0, 1]) < 5 / np.sqrt(20_000)
    for name in ("location", "goal"):
        assert not blocked(world, state, state[name]).any()
        start = np.where(side[name], state["wall"][:, 0] + world.clearance, low)
        end = np.where(side[name], high, state["wall"][:, 0] - world.clearance)
        unit = np.stack([(state[name][:, 0] - start) / (end - start), (state[name][:, 1] - low) / (high - low)])
        gap = np.abs(np.sort(unit, axis=1) - np.arange(20_000) / 20_000).max()
        assert gap < np.sqrt(-np.log(1e-6 / 2) / (2 * 20_000)) + 1e-3  # Kolmogorov-Smirnov at p = 1e-6


def test_two_rooms__wall_and_door_are_drawn_unless_they_are_given(keys):
    state = TwoRooms().initial(keys(5000))
    np.testing.assert_allclose([state["wall"].min(), state["wall"].max()], [31.5 - 12, 31.5 + 12], atol=0.05)
    np.testing.assert_allclose([state["door"].min(), state["door"].max()], [9.5, 53.5], atol=0.05)
    assert abs(np.corrcoef(state["wall"][:, 0], state["door"][:, 0])[0, 1]) < 5 / np.sqrt(5000)
    state = TwoRooms(wall=18.0).initial(keys(50))
    assert (state["wall"] == 18).all()
    assert len(np.unique(state["door"])) == 50
    assert (TwoRooms(door=18.0).initial(keys(50))["door"] == 18).all()


def test_two_rooms__looks_like_two_rooms(keys):
    world = TwoRooms(wall=29.5, door=31.5, show_goal=True)
    state = {**world.initial(keys(1)), "location": np.float32([[15, 20]]), "goal": np.float32([[45, 50]])}
    frame = world.render(state)[0]
    expected = np.zeros((64, 64, 3), np.uint8)
    expected[:4] = expected[-4:] = expected[:, :4] = expected[:, -4:] = expected[:, 28:32] = WALL
    expected[26:38, 28:32] = 0
    away = np.ones((64, 64), bool)
    for (x, y), colour in (((15, 20), DOT), ((45, 50), GOAL)):
        assert frame[y, x].tolist() == list(colour)
        away[y - 2 : y + 3, x - 2 : x + 3] = False
        assert frame[y - 3, x].tolist() == frame[y, x + 3].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(frame[away], expected[away])
    coverage = world.coverage(state)[0, :, :, 0]
    np.testing.assert_array_equal(coverage[away] == 1, expected[away].any(axis=-1))
    assert (coverage[frame.any(axis=-1)] > 0).all()
    hidden = TwoRooms(wall=29.5, door=31.5).render(state)[0]
    assert hidden[50, 45].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(hidden[:, :32], frame[:, :32])


def test_two_rooms__the_picture_of_the_goal_is_that_of_being_there(keys):
    world = TwoRooms(show_goal=True)
    state = world.initial(keys(20))
    there = world.at_goal(state)
    assert not world.terminated(there).any()
    assert TwoRooms(terminate=True).terminated(there).all()
    np.testing.assert_array_equal(world.factors(there)["location"], world.factors(state)["goal"])
    np.testing.assert_array_equal(there["wall"], state["wall"])
    x, y = np.round(state["goal"]).astype(int).T
    assert (world.render(there)[np.arange(20), y, x, 0] > 150).all()
    assert (world.render(state)[np.arange(20), y, x, 0] < 150).all()


def test_two_rooms__reward_and_end_at_the_goal():
    state = {
        "location": np.float32([[10, 10], [10, 10], [10, 10]]),
        "goal": np.float32([[13, 14], [13.9, 10], [14.1, 10]]),
        "wall": np.full((3, 1), 30, np.float32),
        "door": np.full((3, 1), 30, np.float32),
    }
    nowhere = {**state, "location": state["location"] + 100}
    action = np.zeros((3, 2), np.float32)
    assert TwoRooms().reward(nowhere, action, state).tolist() == [0, 1, 0]
    np.testing.assert_allclose(TwoRooms(reward="dense").reward(nowhere, action, state), [-5, -3.9, -4.1], atol=1e-5)
    assert TwoRooms(terminate=True).terminated(state).tolist() == [False, True, False]
    assert not TwoRooms().terminated(state).any()


def test_two_rooms__a_goal_is_given_in_the_state():
    env = gymnasium.make("jepa_worlds/TwoRooms-v0", wall=31.5, door=31.5, terminate=True, show_goal=True)
    given = {"location": [10, 31.5], "goal": [50, 31.5]}
    _, info = env.reset(seed=0, options={"state": given})
    np.testing.assert_array_equal(info["factors"]["goal"], given["goal"])
    steps, terminated = 0, False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(np.array([4, 0], np.float32))
        steps += 1
        assert not truncated
        assert reward == terminated
    assert steps == 9  # to 46, which is 4 px away
    np.testing.assert_allclose(info["factors"]["location"], [46, 31.5])


def around(world, state, start, end) -> float:
    """The shortest way over the corners of the walls, as the dot's centre meets them: by sight, and Floyd's method."""
    wall, door = float(state["wall"][0, 0]), float(state["door"][0, 0])
    x, y = float(world.clearance), world.door_width / 2 - world.radius
    corners = [[wall + i * x, door + j * y] for i in (-1, 1) for j in (-1, 1)]
    places = np.array([start, end, *corners], float)
    shares, wide = np.linspace(0, 1, 1500)[:, None], TwoRooms(door_width=world.door_width, radius=world.radius - 0.01)
    between = np.full((len(places), len(places)), np.inf)
    for i, j in np.ndindex(between.shape):
        line = places[i] + shares * (places[j] - places[i])
        some = {name: np.repeat(array[:1], len(line), axis=0) for name, array in state.items()}
        if not blocked(wide, some, line).any():
            between[i, j] = np.linalg.norm(places[i] - places[j])
    for middle in range(len(places)):
        between = np.minimum(between, between[:, middle : middle + 1] + between[middle])
    return between[0, 1]


def test_two_rooms__distance_is_the_shortest_way_through_the_door(keys):
    world, n = TwoRooms(door_width=16), 40
    state = world.initial(keys(n))
    state["location"][:10, 0] = state["wall"][:10, 0] - 2.5  # in the door
    state["location"][:10, 1] = state["door"][:10, 0] + np.linspace(-5.9, 5.9, 10)
    state["goal"][30:, :1] = 2 * state["wall"][30:] - state["goal"][30:, :1]  # in the same room, or nearly so
    state["goal"] = np.clip(state["goal"], *world.free)
    found = world.distance(state, "location", state["goal"])
    for i in range(n):
        here = {name: array[i : i + 1] for name, array in state.items()}
        assert found[i] == pytest.approx(around(world, here, here["location"][0], here["goal"][0]), abs=0.05), i
    straight = apart(state["location"], state["goal"])
    assert (found >= straight - 1e-9).all() and 0.2 < (found > straight + 0.5).mean() < 0.8
    back = world.distance({**state, "location": state["goal"]}, "location", state["location"])
    np.testing.assert_allclose(back, found, rtol=1e-12)
    np.testing.assert_allclose(world.distance(state, "wall", state["wall"] + 3), 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "through"),
    [
        ((10, 10), (10, 50), []),
        ((10, 30), (50, 34), []),
        ((10, 10), (50, 10), [(26, 26), (36, 26)]),
        ((10, 50), (50, 50), [(26, 36), (36, 36)]),
        ((20, 4), (42, 58), [(26, 26), (36, 36)]),
        ((42, 4), (20, 58), [(36, 26), (26, 36)]),
        ((10, 28), (50, 4), [(36, 26)]),
        ((31, 30), (50, 4), [(36, 26)]),
        ((30, 30), (33, 34), []),
        ((31, 28), (31.5, 34), []),
        ((26, 10), (36, 10), [(26, 26), (36, 26)]),
    ],
)
def test_two_rooms__distance_bends_where_the_way_does(start, end, through):
    world = TwoRooms(thickness=6, radius=2, door_width=14)  # a dot's centre gets from x = 26 to 36 at y = 26 to 36
    state = {name: np.float32([[x]]) for name, x in (("wall", 31), ("door", 31))}
    found = world.distance({**state, "location": np.float32([start])}, "location", np.float32([end]))
    steps = np.diff(np.array([start, *through, end], float), axis=0)
    assert found == pytest.approx(np.linalg.norm(steps, axis=1).sum(), abs=1e-9)


def test_two_rooms__factors_have_names_and_bounds(keys):
    assert set(TwoRooms().factor_space) == {"location", "wall", "door"}
    world = TwoRooms(show_goal=True)
    factors = world.factors(world.initial(keys(200)))
    assert set(factors) == {"location", "wall", "door", "goal"} == set(world.factor_space)
    for name, space in world.factor_space.items():
        assert all(space.contains(row) for row in factors[name]), name


def test_two_rooms__does_not_depend_on_batch_size_or_place(keys, assert_same):
    world, key = TwoRooms(), keys(30)
    action = np.random.default_rng(0).normal(0, 9, (30, 2)).astype(np.float32)
    whole = world.transition(world.initial(key), action)
    for part in (slice(3, 4), slice(10, 21), slice(None, None, -1)):
        some = world.transition(world.initial(key[part]), action[part])
        assert_same(some, {name: array[part] for name, array in whole.items()})
        np.testing.assert_array_equal(world.render(some), world.render(whole)[part])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 15}, "size must be an integer of at least 16, got 15"),
        ({"size": 64.0}, "size must be an integer of at least 16, got 64.0"),
        ({"radius": 0}, "radius must be positive and finite, or null, got 0"),
        ({"thickness": -1}, "thickness must be positive and finite, or null, got -1"),
        ({"max_step": np.inf}, "max_step must be positive and finite, or null, got inf"),
        ({"door_width": np.nan}, "door_width must be positive and finite, or null, got nan"),
        ({"radius": 6}, r"a dot of radius=6 does not fit through door_width=12"),
        ({"thickness": 20}, "no rooms are left in size=64 by thickness=20, .*: make them smaller"),
        ({"door_width": 60}, "no rooms are left in size=64 by .* door_width=60: make them smaller"),
        ({"wall": 5}, "wall must be between 9.5 and 53.5 px, or null, got 5"),
        ({"door": 60.0}, "door must be between 9.5 and 53.5 px, or null, got 60.0"),
        ({"reward": "many"}, "reward must be 'sparse' or 'dense', got 'many'"),
    ],
)
def test_two_rooms__refuses_rooms_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        TwoRooms(**given)
