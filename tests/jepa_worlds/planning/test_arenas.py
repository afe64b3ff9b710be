"""Where episodes of a protocol begin and where they are to get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_protocols import protocol

from agents.behaviours.two_rooms_expert import TwoRoomsExpert
from envs import random
from envs.external.vector import InThisProcess
from jepa_worlds.data.environments import make_vec
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.protocols import Goals

NOISE = {
    "_target_": "envs.distractors.background.Background",
    "source": {"_target_": "envs.distractors.uniform.UniformNoise"},
    "dynamics": "static",
}


def test_arena__an_episode_depends_on_its_seed_and_number_alone():
    together, alone, other = (
        Arena(protocol(), NOISE, seed, numbers).begin() for seed, numbers in ((5, range(4)), (5, [2]), (6, [2]))
    )
    for i in range(2):
        now, one = (x[0] if i == 0 else x[1] for x in (together, alone))
        assert np.array_equal(now.frames[2], one.frames[0])
        assert all(np.array_equal(now.factors[name][2], x[0]) for name, x in one.factors.items())
    assert not np.array_equal(other[0].factors["location"], alone[0].factors["location"])


def test_arena__no_episode_begins_as_one_of_a_dataset():
    now, _ = Arena(protocol(), {}, 0, range(8)).begin()
    env = make_vec(protocol().env, 8, max_episode_steps=1)
    key = random.fold_in(np.zeros(8, np.uint64), np.arange(8))
    env.reset(seed=[int(x) for x in random.fold_in(key, 0)])
    assert not np.isclose(now.factors["location"], env.unwrapped.state["location"]).any()


def test_arena__goals_of_the_world_are_seen_from_there_under_the_same_distractor():
    arena = Arena(protocol(), NOISE, 0, range(3))
    now, goal = arena.begin()
    assert np.array_equal(goal.factors["location"], now.state["goal"])
    arena.env.reset(options={"state": {**now.state, "location": now.state["goal"]}})
    assert np.array_equal(arena.env.unwrapped.world.render(arena.env.unwrapped.state), goal.frames)
    assert (goal.frames != now.frames).mean() < 0.5  # the noise is the same


def test_arena__goals_may_be_a_state():
    arena = Arena(protocol(name="pendulum/v1"), {}, 0, range(3))
    now, goal = arena.begin()
    assert np.allclose(goal.factors["angle"], [1, 0]) and not goal.factors["angular_velocity"].any()
    assert np.ptp(goal.frames, axis=0).max() == 0 and np.ptp(now.frames, axis=0).max() > 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"speed": 1}, r"unknown state variable 'speed'; this world has \['angle', "),
        ({"angle": [1, 2]}, r"state variable 'angle' has shape \(3,\), got \(2,\)"),
        ({"angle": np.nan}, "state variable 'angle' must be finite"),
    ],
)
def test_arena__refuses_states_that_worlds_do_not_have(state, message):
    made = protocol(name="pendulum/v1")
    with pytest.raises(ValueError, match=message):
        Arena(replace(made, goals=Goals(state=state)), {}, 0, range(3)).begin()


def test_arena__goals_may_be_what_a_behaviour_gets_to():
    made = protocol("goals.ahead=7", name="two_rooms/lewm")
    arena = Arena(made, NOISE, 3, range(5))
    now, goal = arena.begin()
    env = make_vec(made.env, 1, max_episode_steps=20)
    for i in range(5):
        seeds = iter([random.fold_in(arena.key[i : i + 1], 0), arena.key[i : i + 1]])
        env.reset(seed=[int(next(seeds)[0])])
        assert np.array_equal(env.unwrapped.state["location"][0], now.factors["location"][i])
        behaviour = TwoRoomsExpert(noise=0.5)
        state = behaviour.start(random.fold_in(next(seeds), 2), env.single_action_space)
        for _ in range(7):
            there = env.unwrapped
            factors = there.world.factors(there.state)
            actions, state = behaviour.act(state, there.world.render(there.state), factors)
            env.step(actions)
        assert np.array_equal(env.unwrapped.state["location"][0], goal.factors["location"][i])
    assert np.array_equal(arena.begin()[1].frames, goal.frames)  # again and again


def test_arena__a_goal_ahead_is_where_an_episode_ended(race):
    made = protocol("goals.ahead=60", "goals.behaviour={_target_: agents.behaviours.uniform.Uniform}")
    made = replace(made, env={"id": "jepa_worlds/TestRace-v0"})
    _, goal = Arena(made, {}, 0, range(20)).begin()
    assert (goal.factors["position"] >= goal.factors["goal"]).all()
    assert (goal.factors["position"] <= goal.factors["goal"] + 1).all() and np.ptp(goal.factors["goal"]) > 0


def test_arena__an_episode_stays_as_it_ended(race):
    made = protocol("goals.ahead=60", "goals.behaviour={_target_: agents.behaviours.uniform.Uniform}")
    arena = Arena(replace(made, env={"id": "jepa_worlds/TestRace-v0"}, budget=60), {}, 0, range(20))
    now, _ = arena.begin()
    first, rewards = now, []
    for _ in range(60):
        before, (now, given) = now, arena.step(np.ones((20, *arena.space.shape), arena.space.dtype))
        over = before.factors["position"] >= before.factors["goal"]
        assert np.array_equal(now.frames[over], before.frames[over]) and not given[over].any()
        assert np.array_equal(now.factors["position"][over], before.factors["position"][over])
        rewards.append(given)
    assert over.all() and np.any(rewards) and np.array_equal(now.factors["goal"], first.factors["goal"])


def test_arena__worlds_without_goals_say_what_to_do(race):
    made = replace(protocol(), env={"id": "jepa_worlds/TestRace-v0"})
    with pytest.raises(ValueError, match="has no goals"):
        Arena(made, {}, 0, range(2)).begin()


def test_arena__worlds_of_others_need_goals_ahead(pygame):
    env = {"via": "jepa_worlds/Gymnasium-v0", "id": "CartPole-v1", "size": 16, "info_factors": []}
    made = replace(protocol(), env=env)
    arena = Arena(made, {}, 0, range(2))
    assert arena.world is None and isinstance(arena.env.unwrapped, InThisProcess)
    with pytest.raises(ValueError, match=r"CartPole-v1 does not tell a goal: give protocol.goals.ahead and behaviour"):
        arena.begin()
    arena.close()


def test_arena__an_episode_that_worlds_of_others_cut_off_is_over(pygame):
    env = {
        "via": "jepa_worlds/Gymnasium-v0",
        "id": "MountainCarContinuous-v0",
        "size": 16,
        "info_factors": [],
        "action_repeat": 333,
    }
    made = protocol("goals.ahead=1", "goals.behaviour={_target_: agents.behaviours.uniform.Uniform}")
    arena = Arena(replace(made, env=env, budget=6), {}, 0, range(2))
    arena.begin()
    seen = [arena.step(np.ones((2, 1), np.float32)) for _ in range(4)]  # its limit is 999 steps
    assert [np.all(rewards < 0) for _, rewards in seen] == [True, True, True, False]
    assert np.array_equal(seen[3][0].frames, seen[2][0].frames) and not seen[3][1].any()
    arena.close()
