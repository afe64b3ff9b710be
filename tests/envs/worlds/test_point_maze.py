from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.core import apart
from envs.worlds.point_maze import BALL, GOAL, MAZES, RADIUS, WALL, PointMaze, read_maze, shortest_ways

OPEN = ["########", *["#......#"] * 6, "########"]
named = pytest.mark.parametrize("name", MAZES)


def at(world, location, velocity=(0, 0)) -> dict[str, np.ndarray]:
    """A state with the ball at a place (x, y) in cells from the maze's corner."""
    state = world.initial(np.zeros(1, np.uint64))
    place = world.grid.corner + np.array(location) * world.grid.scale
    return {**state, "location": place[None].astype(np.float32), "velocity": np.array([velocity], float)}


def in_cells(world, state) -> np.ndarray:
    return (state["location"][0] - world.grid.corner) / world.grid.scale


def overlaps_wall(world, location) -> np.ndarray:
    """Whether the square around the ball overlaps a wall: [n, 2] -> [n]."""
    low, high = location - RADIUS * world.grid.scale, location + RADIUS * world.grid.scale
    found = np.zeros(len(location), bool)
    for centre in world.grid.px(np.argwhere(world.cells)):
        half = world.grid.scale / 2 - 1e-5
        found |= ((low < centre + half) & (high > centre - half)).all(axis=1)
    return found


def test_point_maze__moves_as_the_formula_says():
    world = PointMaze(size=80, maze=OPEN, frame_skip=1)
    generator = np.random.default_rng(0)
    state, location, velocity = at(world, (4, 4), (1, -2)), np.array([4.0, 4.0]), np.array([1.0, -2.0])
    for _ in range(60):
        action = generator.uniform(-1.5, 1.5, 2).astype(np.float32)
        state = world.transition(state, action[None])
        for i in range(2):
            mass = 1000 * 4 / 3 * np.pi * 0.1**3
            velocity[i] = min(max(velocity[i], -5), 5)
            velocity[i] += 0.01 * (100 * np.clip(float(action[i]), -1, 1) - velocity[i]) / (mass + 0.01)
            location[i] += 0.01 * velocity[i]
        np.testing.assert_allclose(state["velocity"][0], velocity, atol=1e-9)
        np.testing.assert_allclose(in_cells(world, state), location, atol=1e-4)


def test_point_maze__moves_as_the_original_s_model_does():
    mujoco = pytest.importorskip("mujoco", reason="the control extra is not installed")
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><option timestep="0.01" gravity="0 0 0" integrator="Euler"/><worldbody><body>
        <geom size="0.1" density="1000"/><joint name="x" type="slide" axis="1 0 0" damping="1"/>
        <joint name="y" type="slide" axis="0 1 0" damping="1"/></body></worldbody><actuator>
        <motor joint="x" gear="100"/><motor joint="y" gear="100"/></actuator></mujoco>"""
    )
    data = mujoco.MjData(model)
    world = PointMaze(size=400, maze=["#" * 40, *["#" + "." * 38 + "#"] * 38, "#" * 40], frame_skip=3)
    state, generator = at(world, (20, 20)), np.random.default_rng(1)
    for _ in range(60):
        action = generator.uniform(-1, 1, 2).astype(np.float32)
        state = world.transition(state, action[None])
        for _ in range(3):
            data.ctrl[:], data.qvel[:] = action, np.clip(data.qvel, -5, 5)
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(state["velocity"][0], data.qvel, atol=1e-9)
        np.testing.assert_allclose(in_cells(world, state) - 20, data.qpos, atol=1e-4)


def test_point_maze__a_wall_takes_the_velocity_into_it_alone():
    world = PointMaze(size=80, maze=OPEN, frame_skip=1)
    state = world.transition(at(world, (6.79, 4), (4, 3)), np.zeros((1, 2), np.float32))
    assert state["velocity"][0, 0] == 0
    assert state["velocity"][0, 1] > 2.9
    np.testing.assert_allclose(in_cells(world, state), [6.8, 4.03], atol=2e-3)  # the face is at 7, the ball's at 6.8
    pressed = world.transition(state, np.array([[1, 0]], np.float32))
    np.testing.assert_array_equal(pressed["location"][:, 0], state["location"][:, 0])
    assert pressed["velocity"][0, 0] == 0
    freed = world.transition(pressed, np.array([[-1, 0]], np.float32))
    assert freed["velocity"][0, 0] < 0
    assert freed["location"][0, 0] < pressed["location"][0, 0]


def test_point_maze__goes_around_the_u():
    world = PointMaze(size=60)
    state = at(world, (1.5, 1.5))
    for action, steps in (((1, 0), 40), ((0, 1), 40), ((-1, 0), 40)):
        for _ in range(steps):
            state = world.transition(state, np.array([action], np.float32))
    np.testing.assert_allclose(in_cells(world, state), [1.2, 3.8], atol=1e-5)


@named
@pytest.mark.parametrize("size", [28, 64])
def test_point_maze__the_ball_stays_out_of_the_walls(name, size, keys):
    world, generator = PointMaze(size, name), np.random.default_rng(0)
    state = world.initial(keys(200))
    assert not overlaps_wall(world, state["location"]).any()
    assert not overlaps_wall(world, state["goal"]).any()
    start = state["location"]
    for _ in range(25):
        push = generator.choice([-1, -0.3, 0, 1], (200, 2)).astype(np.float32)
        for _ in range(4):
            state = world.transition(state, push)
            assert not overlaps_wall(world, state["location"]).any()
        factors = world.factors(state)
        assert all(space.contains(row) for n, space in world.factor_space.items() for row in factors[n])
    assert np.abs(state["location"] - start).max() > 2 * world.grid.scale


def test_point_maze__start_and_goal_are_in_different_free_cells(keys):
    world = PointMaze(size=100)
    state = world.initial(keys(14_000))
    start, goal = (world.grid.cell(state[name]) for name in ("location", "goal"))
    assert not world.cells[tuple(start.T)].any()
    assert (start != goal).any(axis=1).all()
    pairs, counts = np.unique(np.concatenate([start, goal], axis=1), axis=0, return_counts=True)
    assert len(pairs) == 7 * 6
    expected = 14_000 / 42
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert (state["velocity"] == 0).all()
    for name, cell in (("location", start), ("goal", goal)):
        offset = (state[name] - world.grid.px(cell)) / world.grid.scale
        np.testing.assert_allclose([offset.min(axis=0), offset.max(axis=0)], [[-0.25] * 2, [0.25] * 2], atol=0.002)
        assert abs(offset.mean()) < 0.01


def test_point_maze__needs_one_free_cell(keys):
    state = PointMaze(maze="###\n#.#\n###").initial(keys(5))
    np.testing.assert_allclose(state["goal"], 31, atol=0.25 * 21)


@pytest.mark.parametrize("size", [25, 64])
def test_point_maze__looks_like_the_maze(size, keys):
    world = PointMaze(size, show_goal=True)
    state = world.initial(keys(1))
    state["location"], state["goal"] = world.grid.px(np.array([[1, 1]])), world.grid.px(np.array([[3, 1]]))
    frame, scale = world.render(state)[0], size // 5
    maze = np.kron(read_maze("U"), np.ones((scale, scale), bool))
    walls = np.pad(maze, ((size - 5 * scale) // 2, (size - 5 * scale + 1) // 2), constant_values=True)
    np.testing.assert_array_equal((frame == WALL).all(axis=-1), walls)
    np.testing.assert_array_equal(world.coverage(state)[0, walls], 1)
    for place, colour in ((state["location"], BALL), (state["goal"], GOAL)):
        x, y = np.round(place[0]).astype(int)
        assert np.abs(frame[y, x].astype(int) - colour).max() < 60
    lit = ~walls & frame.any(axis=-1)
    np.testing.assert_array_equal(world.coverage(state)[0, :, :, 0] > 0, walls | lit)
    assert 0 < lit.sum() <= 2 * np.pi * (0.2 * scale + 1.5) ** 2
    hidden = PointMaze(size).render(state)[0]
    y, x = np.round(state["goal"][0, ::-1]).astype(int)
    assert not hidden[y, x].any()


def test_point_maze__reward_end_and_picture_of_the_goal():
    world = PointMaze(size=50, terminate=True)
    state = at(world, (1.5, 1.5), (3, 0))
    state = {name: np.repeat(array, 3, axis=0) for name, array in state.items()}
    state["goal"] = state["location"] + np.float32([[4.4, 0], [4.6, 0], [3, 4]])  # within 0.45 cells of 10 px
    action = np.zeros((3, 2), np.float32)
    nowhere = {**state, "location": state["location"] + 30}
    assert world.reward(nowhere, action, state).tolist() == world.terminated(state).tolist() == [1, 0, 0]
    np.testing.assert_allclose(PointMaze(reward="dense").reward(nowhere, action, state), [-4.4, -4.6, -5], atol=1e-5)
    assert not PointMaze(size=50).terminated(state).any()
    there = world.at_goal(state)
    np.testing.assert_array_equal(there["location"], state["goal"])
    assert not there["velocity"].any()
    assert world.terminated(there).all()
    assert set(world.factor_space) == {"location", "velocity"}
    assert set(PointMaze(show_goal=True).factors(state)) == {"location", "velocity", "goal"}


def test_point_maze__an_action_is_held_for_frame_skip_steps(keys):
    one, four = PointMaze(frame_skip=1), PointMaze()
    assert four.frame_skip == 4
    state, action = one.initial(keys(20)), np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
    expected = state
    for _ in range(4):
        expected = one.transition(expected, action)
    for name, array in four.transition(state, action).items():
        np.testing.assert_array_equal(array, expected[name])
    assert (one.render_fps, four.render_fps) == (100, 25)
    assert gymnasium.make("jepa_worlds/PointMaze-v0").metadata["render_fps"] == 25


def test_point_maze__does_not_depend_on_batch_size_or_place(keys, assert_same):
    world, key = PointMaze(maze="large", show_goal=True), keys(30)
    action = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)
    whole = world.transition(world.initial(key), action)
    for part in (slice(3, 4), slice(10, 21), slice(None, None, -1)):
        some = world.transition(world.initial(key[part]), action[part])
        assert_same(some, {name: array[part] for name, array in whole.items()})
        np.testing.assert_array_equal(world.render(some), world.render(whole)[part])


def counted(cells) -> np.ndarray:
    """Steps from each free cell to each, by Floyd's method: [k, k]."""
    free = np.argwhere(~cells)
    beside = np.abs(free[:, None] - free).sum(axis=-1)
    found = np.where(beside <= 1, beside, np.inf)
    for middle in range(len(free)):
        found = np.minimum(found, found[:, middle : middle + 1] + found[middle])
    return found


@named
def test_shortest_ways__are_shortest_and_lead_there(name):
    cells = read_maze(name)
    ways, free, expected = shortest_ways(cells), np.argwhere(~cells), counted(cells)
    for i, end in enumerate(free):
        for j, start in enumerate(free):
            (first, last, steps), (*cell,) = (x[(*end, *start)] for x in ways), start
            assert steps == expected[i, j]
            passed = [cell]
            for _ in range(steps):
                cell = ways.first[(*end, *cell)].tolist()
                assert not cells[tuple(cell)] and np.abs(np.subtract(cell, passed[-1])).sum() == 1
                passed.append(cell)
            assert passed[-1] == [*end] and passed[max(0, steps - 1)] == [*last] and passed[min(1, steps)] == [*first]


@pytest.mark.parametrize(
    ("start", "end", "through"),
    [
        ((1.5, 1.5), (1.5, 1.5), []),
        ((1.3, 1.6), (1.7, 1.4), []),
        ((1.3, 1.6), (2.7, 1.4), []),
        ((1.3, 1.6), (3.4, 1.4), [(2.5, 1.5)]),
        ((1.3, 1.6), (3.4, 2.6), [(2.5, 1.5), (3.5, 1.5)]),
        ((1.3, 1.6), (1.4, 3.6), [(2.5, 1.5), (3.5, 1.5), (3.5, 2.5), (3.5, 3.5), (2.5, 3.5)]),
    ],
)
def test_point_maze__distance_leads_from_cell_to_cell(start, end, through):
    world = PointMaze(size=50)  # U
    aim = at(world, end)["location"]
    steps = np.diff(np.array([start, *through, end]), axis=0)
    expected = 10 * np.linalg.norm(steps, axis=1).sum()
    np.testing.assert_allclose(world.distance(at(world, start), "location", aim), expected, rtol=1e-5)
    moving = at(world, start, (3, 4))
    assert world.distance(moving, "velocity", np.array([[33, 34]])) == np.hypot(30, 30)


@named
def test_point_maze__distance_never_grows_on_the_way(name, keys):
    """Along the centres of cells, from places all over the first cell."""
    world = PointMaze(size=96, maze=name)
    state = world.initial(keys(60))
    location, aim = state["location"].astype(float), state["goal"]
    before = world.distance(state, "location", aim)
    assert (before > apart(location, aim) + world.grid.scale).any()
    ways, there = shortest_ways(world.cells), world.grid.cell(aim)
    for _ in range(800):
        here = world.grid.cell(location)
        near = (ways.steps[(*there.T, *here.T)] < 2)[:, None]
        step = np.where(near, aim, world.grid.px(ways.first[(*there.T, *here.T)])) - location
        length = np.linalg.norm(step, axis=1, keepdims=True)
        location += step * np.minimum(1, 0.2 / np.maximum(length, 1e-9))
        now = world.distance({**state, "location": location}, "location", aim)
        assert (now <= before + 1e-6).all()
        before = now
    np.testing.assert_allclose(before, 0, atol=1e-6)


def test_read_maze__takes_names_texts_and_rows():
    expected = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
    for maze in (
        "U",
        "#####\n#...#\n###.#\n#...#\n#####",
        "\n  #####\n  #...#\n  ###.#\n  #...#\n  #####\n",
        MAZES["U"],
    ):
        np.testing.assert_array_equal(read_maze(maze), expected)
    assert [(~read_maze(name)).sum() for name in ("medium", "large")] == [26, 46]
    assert [read_maze(name).shape for name in ("medium", "large")] == [(8, 8), (9, 12)]


@pytest.mark.parametrize(
    ("maze", "message"),
    [
        ("huge", r"unknown maze 'huge': give one of \['U', 'large', 'medium'\], or rows of '#' and '.'"),
        (["####", "#.#", "####"], r"the rows of a maze must be equally long, got \['####', '#.#', '####'\]"),
        (["####", "#..#", "#.##"], r"a maze must be closed: walls \('#'\) all around, got \['####'"),
        (["####", "...#", "####"], "a maze must be closed"),
        (["####", "####"], r"a maze needs a free cell \('.'\), got"),
        (["####", "#G1#", "####"], r"a maze is made of '#' \(wall\) and '.' \(free\), got \['1', 'G'\] in"),
        (["#####", "#.#.#", "#####"], r"of one part: a way between all free cells \('.'\), got \['#####', '#.#.#'"),
        (["####", "#.##", "##.#", "####"], "a maze must be of one part"),
        ([], "the rows of a maze must be equally long, got"),
        ([""], r"a maze needs a free cell"),
        (3, r"a maze is one of \['U', 'large', 'medium'\], or rows of '#' and '.'; got 3"),
        ([1, 2], "a maze is one of .* got \\[1, 2\\]"),
    ],
)
def test_read_maze__refuses_what_is_no_maze(maze, message):
    with pytest.raises(ValueError, match=message):
        PointMaze(maze=maze)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 4}, "size must be an integer of at least 5, got 4"),
        ({"size": 64.0}, "size must be an integer of at least 5, got 64.0"),
        ({"frame_skip": 0}, "frame_skip must be an integer of at least 1, got 0"),
        ({"reward": None}, "reward must be 'sparse' or 'dense', got None"),
    ],
)
def test_point_maze__refuses_what_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        PointMaze(**given)
