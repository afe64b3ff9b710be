from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from envs.worlds.moving_dot import MovingDot
from envs.worlds.moving_dot_reach import MovingDotReach

REACH, DOT = "jepa_worlds/MovingDotReach-v0", "jepa_worlds/MovingDot-v0"


def at(location, goal) -> dict:
    return {"location": np.array(location, np.float32), "goal": np.array(goal, np.float32)}


@pytest.mark.parametrize("distractor", [(), Background(UniformNoise(), "dynamic")], ids=["clean", "noisy"])
@pytest.mark.parametrize("kwargs", [{}, {"size": 40, "sigma": 2.0, "max_step": 6.0}], ids=str)
def test_moving_dot_reach__is_the_moving_dot_frame_for_frame(distractor, kwargs, assert_same):
    ours, theirs = (gymnasium.make_vec(name, 6, distractor=distractor, **kwargs) for name in (REACH, DOT))
    assert ours.single_action_space == theirs.single_action_space
    assert ours.unwrapped.factor_space == theirs.unwrapped.factor_space
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    ours.action_space.seed(0)
    for _ in range(20):  # across the end of an episode, which is at the same step
        action = ours.action_space.sample()
        (frames, _, *rest), (expected, _, *others) = ours.step(action), theirs.step(action)
        assert_same((frames, rest), (expected, others))


def test_moving_dot_reach__is_covered_as_the_moving_dot_is(keys):
    state = MovingDotReach().initial(keys(20))
    np.testing.assert_array_equal(MovingDotReach().coverage(state), MovingDot().coverage(state))


def test_moving_dot_reach__goals_are_anywhere_whatever_the_start(keys):
    n, low, high = 40_000, 2.6, 24.4
    state = MovingDotReach().initial(keys(n))
    goal = state["goal"]
    assert goal.dtype == np.float32
    assert np.float32(low) <= goal.min() <= goal.max() <= np.float32(high)
    for axis in (0, 1):
        counts = np.histogram(goal[:, axis], bins=20, range=(low, high))[0]
        assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 19 + 5 * np.sqrt(2 * 19)
    correlation = np.corrcoef(np.concatenate([goal, state["location"]], axis=1).T)
    assert np.abs(correlation - np.eye(4)).max() < 5 / np.sqrt(n)


def test_moving_dot_reach__does_not_depend_on_batch_size_or_place(keys, assert_same):
    world, key = MovingDotReach(), keys(30)
    action = np.random.default_rng(0).normal(0, 3, (30, 2)).astype(np.float32)
    whole = world.transition(world.initial(key), action)
    for part in (slice(3, 4), slice(10, 21), slice(None, None, -1)):
        some = world.transition(world.initial(key[part]), action[part])
        assert_same(some, {name: array[part] for name, array in whole.items()})
        np.testing.assert_array_equal(world.reward(some, action[part], some), world.reward(whole, action, whole)[part])


def test_moving_dot_reach__goal_stays_while_the_dot_moves(keys):
    world = MovingDotReach()
    state = world.initial(keys(9))
    moved = world.transition(state, np.full((9, 2), 2, np.float32))
    np.testing.assert_array_equal(moved["goal"], state["goal"])
    assert (moved["location"] != state["location"]).any(axis=1).all()


def test_moving_dot_reach__reward_and_end_at_the_goal():
    state = at([[10, 10]] * 4, [[13, 14], [11.9, 10], [12.1, 10], [10, 10]])
    nowhere, action = at([[20, 20]] * 4, state["goal"]), np.ones((4, 2), np.float32)
    reward = MovingDotReach().reward(nowhere, action, state)
    np.testing.assert_allclose(reward, [-5, -1.9, -2.1, 0], atol=1e-5)
    assert reward.dtype == np.float64
    assert MovingDotReach(reward="sparse").reward(nowhere, action, state).tolist() == [0, 1, 0, 1]
    assert MovingDotReach(reward="sparse", reach=2.2).reward(nowhere, action, state).tolist() == [0, 1, 1, 1]
    assert MovingDotReach(terminate=True).terminated(state).tolist() == [False, True, False, True]
    assert not MovingDotReach().terminated(state).any()


def test_moving_dot_reach__the_picture_of_the_goal_is_a_dot_there():
    world, state = MovingDotReach(), at([[5, 6]], [[10, 20]])
    there = world.render(world.at_goal(state))
    np.testing.assert_array_equal(there, MovingDot().render({"location": state["goal"]}))
    assert there[0, 20, 10] == 255
    assert world.render(state)[0, 20, 10] == 0
    np.testing.assert_array_equal(state["location"], [[5, 6]])


def test_moving_dot_reach__straight_on_gets_there_within_an_episode():
    env = gymnasium.make_vec(REACH, 300)
    env.reset(seed=0)
    goal, earned = env.unwrapped.goal()[1]["location"], np.zeros(300)
    for _ in range(16):
        place = env.unwrapped.state["location"]
        _, reward, terminated, truncated, _ = env.step(goal - place)
        apart = np.linalg.norm(goal.astype(float) - place, axis=1)
        np.testing.assert_allclose(reward, -np.maximum(apart - 4, 0), atol=1e-4)
        earned += reward
    assert truncated.all()
    assert not terminated.any()
    np.testing.assert_allclose(reward, 0, atol=1e-5)
    assert earned.min() < -50 < earned.mean() < -5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reach": 0}, "reach must be positive and finite, got 0"),
        ({"reward": "many"}, "reward must be 'sparse' or 'dense', got 'many'"),
        ({"sigma": -1}, "sigma and max_step must be positive and finite, got sigma=-1"),
        ({"size": 5}, "needs size > "),
        ({"reach": "far"}, "MovingDotReach: reach must be a number, got 'far'"),
    ],
)
def test_moving_dot_reach__refuses_bad_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(REACH, **given)
