"""The two faces of a world, compared with each other through Gymnasium's own `SyncVectorEnv`."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs  # noqa: F401 (registers the worlds)
from envs import random
from envs.core import World
from envs.distractors.background import Background
from envs.distractors.photographs import Photographs
from envs.distractors.uniform import UniformNoise
from envs.registry import register
from envs.vector_face import WorldVectorEnv

DOT, DOTS, RACE = "jepa_worlds/MovingDot-v0", "jepa_worlds/ThreeDots-v0", "jepa_worlds/TestRace-v0"
STACK = (Background(UniformNoise(), "dynamic"), Background(Photographs(), "drifting", level=0.5, speed=0.7))


class Race(World):
    """A counter that runs to a goal of its own in random strides: rewards, ends and episode lengths that differ."""

    def __init__(self, width: int = 9) -> None:
        self.frame_shape = (4, width, 3)
        self.action_space = spaces.Discrete(3)
        self.factor_space = spaces.Dict({"position": spaces.Box(0, 99, (), np.float32)})  # no axis but the world's

    def initial(self, key):
        goal = random.integers(random.fold_in(key, 0), 12)  # perhaps 0: over at the first step
        return {"position": np.zeros(len(key), np.int32), "goal": goal, "key": random.fold_in(key, 1)}

    def transition(self, state, action):
        key = random.fold_in(state["key"], 0)
        stride = action + random.integers(random.fold_in(key, 1), 2)
        return {**state, "position": (state["position"] + stride).astype(np.int32), "key": key}

    def render(self, state):
        frames = np.zeros((len(state["goal"]), *self.frame_shape), np.uint8)
        frames[..., 0] = state["position"][:, None, None]
        frames[..., 1] = state["goal"][:, None, None]
        return frames + np.arange(self.frame_shape[1], dtype=np.uint8)[:, None]

    def factors(self, state):
        return {"position": state["position"].astype(np.float32)}

    def reward(self, state, action, next_state):
        return next_state["position"] - 1.5 * state["position"] + 0.1 * action

    def terminated(self, state):
        return state["position"] >= state["goal"]


@pytest.fixture(autouse=True)
def race(monkeypatch):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    register("TestRace-v0", Race, max_episode_steps=6)


def vector(name=DOT, n=5, **kwargs) -> WorldVectorEnv:
    return gymnasium.make_vec(name, n, **kwargs)


def sync(name=DOT, n=5, autoreset_mode=AutoresetMode.NEXT_STEP, **kwargs) -> SyncVectorEnv:
    options = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": autoreset_mode}}
    return gymnasium.make_vec(name, n, **options, **kwargs)


def actions(env, steps, seed=0):
    env.action_space.seed(seed)
    return np.stack([env.action_space.sample() for _ in range(steps)])


def play(env, steps, seed=0, start=True) -> list:
    """Everything returned by reset and by ``steps`` steps."""
    seen = [env.reset(seed=seed)] if start else []
    return seen + [env.step(action) for action in actions(env, steps, seed=1)]


# --- the vector face against Gymnasium's ---


@pytest.mark.parametrize("distractor", [(), STACK], ids=["clean", "distracted"])
@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("name", [DOT, DOTS, RACE])
def test_vector__equals_gymnasiums_number_for_number(name, mode, distractor, assert_same):
    kwargs = {"distractor": distractor, "autoreset_mode": mode}
    if name != RACE:
        kwargs["max_episode_steps"] = 4
    ours, theirs = vector(name, **kwargs), sync(name, **kwargs)
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    lots = np.random.default_rng(0)
    ended = 0
    for t, action in enumerate(actions(ours, 30 if name == RACE else 13)):
        a, b = ours.step(action), theirs.step(action)
        assert_same(a, b, f"step {t}")
        done = a[2] | a[3]
        ended += done.sum()
        mask = done if mode == AutoresetMode.DISABLED else lots.random(5) < 0.05
        if mask.any():  # by the caller where nothing else resets, and in mid-episode elsewhere
            seed = [100 + t, None, 200 + t, 300 + t, None] if t % 2 else None
            a = ours.reset(seed=seed, options={"reset_mask": mask.copy()})
            b = theirs.reset(seed=seed, options={"reset_mask": mask.copy()})
            assert_same(a, b, f"reset after step {t}")
    assert ended >= 10


def test_vector__ends_episodes_of_different_lengths_as_the_world_says():
    env = vector(RACE, 50, autoreset_mode="Disabled", max_episode_steps=-1)
    _, infos = env.reset(seed=0)
    goals, lengths = env.state["goal"], np.zeros(50, int)
    for t in range(1, 13):
        running = lengths == 0
        _, _, terminated, truncated, infos = env.step(np.ones(50, int))
        assert not truncated.any()
        np.testing.assert_array_equal(terminated, infos["factors"]["position"] >= goals)
        lengths[running & terminated] = t
        if terminated.any():
            env.reset(options={"reset_mask": terminated, "state": {"goal": np.full(50, 99), "position": [0] * 50}})
            goals = np.where(terminated, 99, goals)
    assert len(set(lengths)) > 4


def test_vector__has_the_attributes_of_gymnasiums():
    ours, theirs = vector(render_mode="rgb_array"), sync(render_mode="rgb_array")
    for env in (ours, theirs):
        env.reset(seed=3)
    for name in ("num_envs", "render_mode", "metadata", "np_random_seed", "observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert [g.bit_generator.state for g in ours.np_random] == [g.bit_generator.state for g in theirs.np_random]


def test_vector__accepts_one_seed_a_world(assert_same):
    env = vector(n=3)
    assert_same(env.reset(seed=[5, 6, 7]), env.reset(seed=5))
    a = env.reset(seed=[9, 5, 9])[0]
    np.testing.assert_array_equal(a[0], a[2])
    np.testing.assert_array_equal(a[1], env.reset(seed=5)[0][0])


def test_vector__keeps_the_generator_where_no_seed_is_given(assert_same):
    a, b = vector(n=2), vector(n=2)
    a.reset(seed=1)
    b.reset(seed=1)
    kept, reseeded = a.reset(seed=[None, 8])[0], b.reset()[0]
    np.testing.assert_array_equal(kept[0], reseeded[0])
    assert (kept[1] != reseeded[1]).any()


def test_vector__seeds_some_of_its_worlds_at_the_first_reset():
    frames = vector(n=2).reset(seed=[4, None])[0]
    np.testing.assert_array_equal(frames[0], vector(n=2).reset(seed=4)[0][0])
    assert (frames[1] != vector(n=2).reset(seed=[4, None])[0][1]).any()


def test_vector__without_a_seed_starts_differently_every_time():
    assert (vector().reset()[0] != vector().reset()[0]).any()


def test_vector__ignores_the_action_of_a_world_that_is_reset():
    env = vector(max_episode_steps=2)
    play(env, 2)
    frames, reward, *_, infos = env.step(np.full((5, 2), np.nan, np.float32))
    assert np.isfinite(infos["factors"]["location"]).all()
    assert (reward == 0).all()
    np.testing.assert_array_equal(frames, env.world.render(env.state))


@pytest.mark.parametrize("make", [gymnasium.make, vector])
@pytest.mark.parametrize("name", [DOT, RACE])
def test_env__hands_out_arrays_that_are_the_callers_own(name, make, assert_same):
    def endless():
        state = {"goal": np.full((5,) if make is vector else (), 99)} if name == RACE else {}
        env = make(name, distractor=STACK, render_mode="rgb_array", max_episode_steps=-1).unwrapped
        return env, env.reset(seed=0, options={"state": state})

    def scribble(*arrays):
        for array in arrays:
            if isinstance(array, np.ndarray):
                array[...] = 1

    (env, seen), (reference, expected) = endless(), endless()
    act = actions(env, 5)
    for action in [*act, None]:
        assert_same(seen, expected)
        scribble(seen[0], *seen[-1]["factors"].values(), *env.state.values())
        for _ in range(2):
            shown = env.render()
            assert_same(shown, reference.render())
            scribble(*(shown if make is vector else [shown]))
        if action is not None:
            seen, expected = env.step(action), reference.step(action)


# --- what a trajectory depends on ---


@pytest.mark.parametrize("name", [DOT, DOTS, RACE])
def test_trajectory__does_not_depend_on_batch_size_or_place(name):
    n, steps = 33, 9
    whole = vector(name, n, distractor=STACK)
    act = actions(whole, steps)

    def run(chosen):
        env = vector(name, len(chosen), distractor=STACK)
        seen = [env.reset(seed=[int(seed) for seed in chosen])] + [env.step(action[chosen]) for action in act]
        return [(step[0], *step[1:-1], *step[-1]["factors"].values()) for step in seen]

    everyone = run(np.arange(n))
    for chosen in (np.arange(n)[::-1], np.array([17, 3, 32, 8]), np.array([20])):
        for part, total in zip(run(chosen), everyone, strict=True):
            for a, b in zip(part, total, strict=True):
                np.testing.assert_array_equal(a, b[chosen])


@pytest.mark.parametrize("make", [gymnasium.make, vector])
def test_trajectory__does_not_depend_on_rendering(make, assert_same):
    silent, drawn = make(DOTS, distractor=STACK), make(DOTS, distractor=STACK, render_mode="rgb_array")
    assert_same(silent.reset(seed=0), drawn.reset(seed=0))
    for action in actions(silent, 12):
        drawn.render()
        drawn.render()
        assert_same(silent.step(action), drawn.step(action))


def test_trajectory__does_not_depend_on_other_environments(assert_same):
    alone = play(vector(distractor=STACK), 6)
    env, other = vector(distractor=STACK), vector(DOTS, distractor=STACK)
    seen = [env.reset(seed=0)]
    other.reset(seed=9)
    for action in actions(env, 6, seed=1):
        other.step(action)
        np.random.seed(0)  # noqa: NPY002 (the global generator is what must not matter)
        seen.append(env.step(action))
    assert_same(seen, alone)


# --- rendering ---


@pytest.mark.parametrize("name", [DOT, DOTS, RACE])
def test_render__shows_what_the_agent_saw_however_often(name):
    env = gymnasium.make(name, render_mode="rgb_array", distractor=STACK)
    frame = env.reset(seed=0)[0]
    for action in [*actions(env, 3), None]:
        for _ in range(2):
            shown = env.render()
            assert shown.shape == (*frame.shape[:2], 3)
            assert (shown == frame).all()
        if action is not None and not env.unwrapped.world.terminated(env.unwrapped._state)[0]:
            frame = env.step(action)[0]


def test_render__of_a_vector_shows_what_the_agents_saw():
    env = vector(render_mode="rgb_array", distractor=STACK, max_episode_steps=3)
    frames = env.reset(seed=0)[0]
    for action in actions(env, 8):
        for _ in range(2):
            assert len(env.render()) == 5
            assert (np.stack(env.render()) == frames).all()
        frames = env.step(action)[0]


@pytest.mark.parametrize("make", [gymnasium.make, vector])
def test_render__without_a_mode_draws_nothing(make):
    env = make(DOT).unwrapped
    env.reset(seed=0)
    assert env.render() is None


# --- reset options ---


@pytest.mark.parametrize("name", [DOTS, RACE])
def test_reset_mask__resets_the_masked_and_nothing_else(name):
    env, untouched = (vector(name, distractor=STACK, max_episode_steps=8, autoreset_mode="Disabled") for _ in "ab")
    endless = {"state": {"goal": np.full(5, 99)}} if name == RACE else {}
    for each in (env, untouched):
        each.reset(seed=0, options=endless)
    act = actions(env, 8)
    for action in act[:3]:
        env.step(action)
        untouched.step(action)
    mask = np.array([True, False, False, True, False])
    before, others = env.state, untouched.state
    _, infos = env.reset(options={"reset_mask": mask, **endless})
    np.testing.assert_array_equal(infos["_factors"], mask)
    for key, array in env.state.items():
        np.testing.assert_array_equal(array[~mask], others[key][~mask])
    assert (env.state["distractor.time"] == np.where(mask, 0, 3)).all()
    assert (env.state["key"] != before["key"])[mask].all()
    for action in act[3:]:
        a, b = env.step(action), untouched.step(action)
        for x, y in zip(a[:-1], b[:-1], strict=True):
            np.testing.assert_array_equal(x[~mask], y[~mask])
    assert (a[3] == ~mask).all()  # the masked have taken five steps, the others eight


@pytest.mark.parametrize("name", [DOT, DOTS, RACE])
def test_state__given_back_to_an_env_continues_identically(name, assert_same):
    env, other = (gymnasium.make(name, distractor=STACK, max_episode_steps=-1) for _ in "ab")
    act = actions(env, 12)
    env.reset(seed=0)
    for action in act[:4]:
        seen = env.step(action)
    frame, info = other.reset(seed=77, options={"state": env.unwrapped.state})
    assert_same((frame, info), (seen[0], seen[-1]))
    assert_same(other.unwrapped.state, env.unwrapped.state)
    for action in act[4:]:
        assert_same(other.step(action), env.step(action))


@pytest.mark.parametrize("name", [DOT, DOTS, RACE])
def test_state__given_back_to_a_vector_continues_identically(name, assert_same):
    env, other = (vector(name, distractor=STACK, max_episode_steps=-1, autoreset_mode="Disabled") for _ in "ab")
    act = actions(env, 12)
    endless = {"state": {"goal": np.full(5, 99)}} if name == RACE else {}
    env.reset(seed=0, options=endless)
    for action in act[:4]:
        seen = env.step(action)
    frames, infos = other.reset(seed=77, options={"state": env.state})
    assert_same((frames, infos), (seen[0], seen[-1]))
    for action in act[4:]:
        assert_same(other.step(action), env.step(action))


def test_state__draws_what_is_not_given_as_usual(assert_same):
    usual, given = vector(DOTS), vector(DOTS)
    usual.reset(seed=0)
    given.reset(seed=0, options={"state": {"action": np.full((5, 2), 9.0)}})
    assert (given.state["action"] == 9).all()
    assert given.state["action"].dtype == np.float32
    for key in set(usual.state) - {"action"}:
        np.testing.assert_array_equal(given.state[key], usual.state[key])


def test_state__goes_to_the_masked_worlds_only():
    env = vector()
    env.reset(seed=0)
    before, mask = env.state["location"], np.array([False, True, False, False, True])
    place = np.arange(10.0).reshape(5, 2) + 5
    env.reset(options={"reset_mask": mask, "state": {"location": place}})
    np.testing.assert_array_equal(env.state["location"], np.where(mask[:, None], place, before).astype(np.float32))


# --- actions ---


def test_action__is_taken_as_its_space_would_record_it(assert_same):
    env, other = gymnasium.make(DOT).unwrapped, gymnasium.make(DOT).unwrapped
    for action in ([1.1, -0.3], np.array([0.1, 3.3]), np.array([100, 100], np.uint8)):
        env.reset(seed=0)
        other.reset(seed=0)
        assert_same(env.step(action), other.step(np.asarray(action, np.float32)))
