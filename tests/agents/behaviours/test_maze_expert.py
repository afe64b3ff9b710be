from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.behaviours.maze_expert import MazeExpert
from envs.worlds.point_maze import MAZES, PointMaze

# Steps of 0.04 s; the longest way in each maze is 6, 13 and 27 cells, and 5 cells take a second at the speed limit.
BOUNDS = {"U": 75, "medium": 130, "large": 220}


def run(world, behaviour, key, steps):
    """Whether each world has been at its goal by each step [steps, n], the actions and the targets [steps, n, 2]."""
    state, reached, actions, targets = world.initial(key), [], [], []
    own, frames = behaviour.start(key, world.action_space), np.zeros((len(key), *world.frame_shape), np.uint8)
    for _ in range(steps):
        action, own = behaviour.act(own, frames, world.factors(state))
        new = world.transition(state, action)
        reached.append(world.reward(state, action, new) > 0)
        actions.append(action)
        targets.append(own["target"])
        state = new
    return np.logical_or.accumulate(reached), np.stack(actions), np.stack(targets)


@pytest.mark.parametrize("maze", MAZES)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_maze_expert__reaches_the_goal_from_anywhere(maze, noise, keys):
    reached, _, _ = run(PointMaze(48, maze, show_goal=True), MazeExpert(maze, noise), keys(150), BOUNDS[maze])
    assert reached[-1].all()
    assert not reached[5].all()


def test_maze_expert__goes_from_target_to_target_in_all_free_cells(keys):
    world = PointMaze(60)
    _, actions, targets = run(world, MazeExpert(), keys(100), 200)
    changes = (np.diff(targets, axis=0) != 0).any(axis=-1).sum(axis=0)
    assert changes.min() >= 4
    cells = world.grid.cell(targets.reshape(-1, 2))
    assert len(np.unique(cells, axis=0)) == 7
    assert not world.cells[tuple(cells.T)].any()
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    assert np.abs(actions).max(axis=(0, 1)).min() == 1  # it hurries


def test_maze_expert__takes_the_shortest_way(keys):
    """Around a block, the way that is shorter by cells."""
    maze = ["#######", "#.....#", "#.###.#", "#.###.#", "#.....#", "#######"]
    world, n = PointMaze(60, maze, show_goal=True), 20
    state = world.initial(keys(n))
    state["location"] = np.tile(world.grid.px(np.array([1, 2])), (n, 1)).astype(np.float32)
    state["goal"] = np.tile(world.grid.px(np.array([4, 1])), (n, 1)).astype(np.float32)
    own = MazeExpert(maze).start(keys(n), world.action_space)
    for _ in range(40):
        action, own = MazeExpert(maze).act(own, np.zeros((n, 60, 60, 3), np.uint8), world.factors(state))
        state = world.transition(state, action)
        assert (state["location"][:, 0] < world.grid.px(np.array([1, 2]))[0] + 1).all()
        if world.reward(state, action, state).all():
            return
    pytest.fail("the goal is four cells away")


def test_maze_expert__noise_is_a_share_of_the_force(keys):
    world, key = PointMaze(), keys(4000)
    (_, clean, _), (_, half, _), (_, wild, _) = (run(world, MazeExpert(noise=noise), key, 1) for noise in (0, 0.5, 1))
    np.testing.assert_allclose(half, (clean + wild) / 2, atol=1e-6)
    gap = np.abs(np.sort(wild[0], axis=0) - np.linspace(-1, 1, 4000)[:, None]).max() / 2
    assert gap < np.sqrt(-np.log(1e-6 / 2) / (2 * 4000)) + 1e-3


def test_maze_expert__does_not_depend_on_batch_size_or_place(keys, assert_unchanged):
    world, key = PointMaze(maze="medium", show_goal=True), keys(30)
    whole = run(world, MazeExpert("medium", 0.3), key, 30)[1]
    np.testing.assert_array_equal(run(world, MazeExpert("medium", 0.3), key[::-1], 30)[1], whole[:, ::-1])
    np.testing.assert_array_equal(run(world, MazeExpert("medium", 0.3), key[7:9], 30)[1], whole[:, 7:9])
    state, factors = MazeExpert("medium").start(key, world.action_space), world.factors(world.initial(key))
    with assert_unchanged(state), assert_unchanged(factors):
        MazeExpert("medium").act(state, np.zeros((30, 64, 64, 3), np.uint8), factors)


def test_maze_expert__refuses_what_is_not_point_maze(keys):
    with pytest.raises(ValueError, match="noise must be from 0 to 1, got -1"):
        MazeExpert(noise=-1)
    with pytest.raises(ValueError, match="unknown maze 'V'"):
        MazeExpert("V")
    for space in (spaces.Discrete(3), spaces.Box(-2, 2, (2,)), spaces.Box(-1, 1, (1,))):
        with pytest.raises(ValueError, match=r"maze_expert needs the actions of PointMaze, .*, got (Discrete|Box)"):
            MazeExpert().start(keys(2), space)
    state = MazeExpert().start(keys(2), spaces.Box(-1, 1, (2,)))
    with pytest.raises(ValueError, match=r"maze_expert needs the factors location and velocity, got \['location'\]"):
        MazeExpert().act(state, np.zeros((2, 8, 8, 1), np.uint8), {"location": np.zeros((2, 2))})
