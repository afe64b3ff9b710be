"""Goals that frames do not show: what is seen of them, through both faces of a world."""

from __future__ import annotations

import pickle

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 (registers the worlds)
from envs.core import World, apart
from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from envs.faces import WorldEnv
from envs.goals import GoalWorld
from envs.vector_face import WorldVectorEnv
from envs.worlds.moving_dot import MovingDot
from envs.worlds.two_rooms import TwoRooms

SEEKING = ("MovingDotReach", "TwoRooms", "PointMaze")
STATIC, DYNAMIC = (Background(UniformNoise(), dynamics) for dynamics in ("static", "dynamic"))
SEEN = {
    "clean": {},
    "static": {"distractor": STATIC},
    "dynamic": {"distractor": DYNAMIC},
    "stacked": {"distractor": STATIC, "frame_stack": 3},
}

each = pytest.mark.parametrize("name", SEEKING)
each_way = pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)


def one(name, **kwargs) -> WorldEnv:
    return gymnasium.make(f"jepa_worlds/{name}-v0", max_episode_steps=-1, **kwargs).unwrapped


def many(name, n=5, **kwargs) -> WorldVectorEnv:
    return gymnasium.make_vec(f"jepa_worlds/{name}-v0", n, **{"max_episode_steps": -1, **kwargs})


def begun(env, steps=3):
    """An environment, some steps into its episodes."""
    env.reset(seed=7)
    env.action_space.seed(0)
    for _ in range(steps):
        env.step(env.action_space.sample())
    return env


def arrived(state) -> dict:
    """The same place and time, with the agent at rest where it is to get."""
    there = {**state, "location": state["goal"]}
    return {**there, **{name: np.zeros_like(state[name]) for name in ("velocity", "stack.time") if name in state}}


# --- how far it is ---


@each_way
def test_distance__is_the_way_whatever_is_seen(seen):
    env = begun(many("TwoRooms", **seen))
    world, state, aim = env.world, env.state, env.state["goal"]
    inner = TwoRooms()
    np.testing.assert_array_equal(world.distance(state, "location", aim), inner.distance(state, "location", aim))
    assert (world.distance(state, "location", aim) > apart(state["location"], aim) + 1).any()


# --- what a goal looks like ---


@each
@each_way
@pytest.mark.parametrize("make", [one, many])
def test_goal__is_what_is_seen_and_true_there(name, seen, make, assert_same):
    env, other = begun(make(name, **seen)), make(name, **seen)
    frame, infos = other.reset(seed=1, options={"state": arrived(env.state)})
    factors = {key: x for key, x in infos["factors"].items() if not key.startswith("_")}
    assert_same(env.goal(), (frame, factors))
    assert (frame != env.world.render(env._state)).any()
    np.testing.assert_array_equal(factors["location"], env.state["goal"])


@each
@pytest.mark.parametrize("make", [one, many])
def test_goal__of_an_episode_with_static_noise_has_its_background(name, make):
    env = begun(make(name, distractor=STATIC))
    frames, factors = env.goal()
    same = frames == env.world.render(env._state)
    assert 0.7 < same.mean() < 1  # the rest is where the agent is, and where it will be
    *_, infos = env.step(env.action_space.sample())
    np.testing.assert_array_equal(factors["background"], infos["factors"]["background"])


@each
def test_goal__among_changing_noise_is_seen_among_that_of_now(name):
    env = begun(many(name, distractor=DYNAMIC))
    first, again = env.goal()[0], env.goal()[0]
    np.testing.assert_array_equal(first, again)
    env.step(env.action_space.sample())
    assert (env.goal()[0] != first).mean() > 0.5


@each
def test_goal__in_a_stack_is_one_frame_over_and_over(name):
    frames = begun(many(name, frame_stack=3)).goal()[0]
    np.testing.assert_array_equal(frames, np.tile(begun(many(name)).goal()[0], 3))


@each
@each_way
def test_goal__of_some_worlds_is_theirs_among_all(name, seen):
    env = begun(many(name, **seen))
    frames, factors = env.goal()
    for mask in (np.array([True, False, False, True, True]), np.arange(5) == 2):
        some, true = env.goal(mask)
        assert len(some) == mask.sum()
        np.testing.assert_array_equal(some, frames[mask], strict=True)
        for key in env.factor_space:
            np.testing.assert_array_equal(true[key], factors[key][mask], strict=True)


@each
@each_way
def test_goal__does_not_depend_on_face_batch_or_place(name, seen):
    frames, factors = begun(many(name, **seen), steps=0).goal()
    for i in (4, 0, 3):
        alone, two = one(name, **seen), many(name, 2, **seen)
        alone.reset(seed=7 + i)
        two.reset(seed=[99, 7 + i])
        frame, true = alone.goal()
        np.testing.assert_array_equal(frame, frames[i], strict=True)
        np.testing.assert_array_equal(two.goal()[0][1], frames[i], strict=True)
        for key in alone.factor_space:
            np.testing.assert_array_equal(true[key], factors[key][i], strict=True)


@each
@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_goal__is_that_of_the_present_episode(name, mode):
    env = begun(many(name, max_episode_steps=3, autoreset_mode=mode), steps=2)
    old = env.goal()[1]["location"]
    *_, truncated, _ = env.step(env.action_space.sample())
    assert truncated.all()
    if mode == "Disabled":
        np.testing.assert_array_equal(env.goal()[1]["location"], old)
        env.reset(options={"reset_mask": np.arange(5) != 1})
    new = env.goal()[1]["location"]
    np.testing.assert_array_equal(new, env.state["goal"])
    assert (new != old).any(axis=1).tolist() == [True, mode == "SameStep", True, True, True]


# --- what looking at it changes: nothing ---


@each
@each_way
@pytest.mark.parametrize("make", [one, many])
def test_goal__however_often_it_is_looked_at_changes_nothing(name, seen, make, assert_same):
    env, untouched = (make(name, render_mode="rgb_array", **seen) for _ in "ab")
    a, b = env.reset(seed=3), untouched.reset(seed=3)
    env.action_space.seed(0)
    for _ in range(5):
        assert_same(a, b)
        for _ in range(2):
            frames, factors = env.goal()
            for array in (frames, *factors.values()):
                array[...] = 1  # they are the caller's own
        assert_same((env.state, env.render()), (untouched.state, untouched.render()))
        action = env.action_space.sample()
        a, b = env.step(action), untouched.step(action)
    assert_same(pickle.loads(pickle.dumps(env)).step(action), untouched.step(action))


# --- worlds that seek no goal ---


@each
@each_way
@pytest.mark.parametrize("make", [one, many])
def test_seeks_goal__says_so_however_the_world_is_seen(name, seen, make):
    assert make(name, **seen).seeks_goal is True
    if name != "MovingDotReach":
        shown = make(name, show_goal=True, **seen)
        assert shown.seeks_goal is False
        shown.reset(seed=0)
        np.testing.assert_array_equal(shown.goal()[1]["location"], shown.state["goal"])


@each_way
@pytest.mark.parametrize("make", [one, many])
def test_goal__of_a_world_without_goals_is_refused(seen, make):
    env = make("MovingDot", **seen)
    env.reset(seed=0)
    assert env.seeks_goal is False is World.seeks_goal
    with pytest.raises(ValueError, match="MovingDot has no goals: choose a world in which something is to get"):
        env.goal()


@pytest.mark.parametrize("make", [one, many])
def test_goal__before_reset_is_refused(make):
    with pytest.raises(ValueError, match=r"call reset\(\) first"):
        make("TwoRooms").goal()


@pytest.mark.parametrize("bad", [[True] * 5, np.ones(4, bool), np.ones(5, int), np.zeros(5, bool)], ids=repr)
def test_goal__of_a_bad_mask_is_refused(bad):
    env = begun(many("TwoRooms"), steps=0)
    with pytest.raises(ValueError, match=r"^mask must be a bool array of shape \(5,\) with at least one True, got"):
        env.goal(bad)


class Dot(GoalWorld, MovingDot):
    """A dot with a goal, made in the way that every world of goals is."""

    def __init__(self, **kwargs):
        MovingDot.__init__(self)
        GoalWorld.__init__(self, **{"reach": 1.0, "reward": "sparse", "terminate": False, "show_goal": False, **kwargs})


@pytest.mark.parametrize("reach", [0, -1.0, np.nan, np.inf])
def test_goal_world__refuses_a_reach_that_is_not_positive(reach):
    assert Dot(reach=0.1).reach == 0.1
    with pytest.raises(ValueError, match=f"reach must be positive and finite, got {reach}"):
        Dot(reach=reach)


def test_goal_world__refuses_an_unknown_reward():
    with pytest.raises(ValueError, match="reward must be 'sparse' or 'dense', got 'many'"):
        Dot(reward="many")
