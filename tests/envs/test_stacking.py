"""Stacks of frames, against Gymnasium's own."""

from __future__ import annotations

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation

import envs  # noqa: F401 (registers the worlds)
from envs.distractors.background import Background
from envs.distractors.core import DistractedWorld
from envs.distractors.uniform import UniformNoise
from envs.stacking import StackedWorld
from envs.vector_face import WorldVectorEnv
from envs.worlds.moving_dot import MovingDot
from envs.worlds.pendulum import Pendulum

DOT, PENDULUM = "jepa_worlds/MovingDot-v0", "jepa_worlds/Pendulum-v0"
NOISE = Background(UniformNoise(), "dynamic")
each_world = pytest.mark.parametrize(("name", "kwargs"), [(DOT, {}), (PENDULUM, {"size": 20})], ids=["dot", "pendulum"])
with_and_without = pytest.mark.parametrize("distractor", [(), NOISE], ids=["clean", "distracted"])


def merged(frames) -> np.ndarray:
    """[k, H, W, C] -> [H, W, k·C]."""
    return np.concatenate(list(frames), axis=-1)


@each_world
@with_and_without
@pytest.mark.parametrize("depth", [2, 4])
def test_env__equals_gymnasiums_frame_stack(name, kwargs, distractor, depth, assert_same):
    kwargs = {**kwargs, "distractor": distractor, "max_episode_steps": 6}
    ours = gymnasium.make(name, frame_stack=depth, **kwargs)
    theirs = FrameStackObservation(gymnasium.make(name, **kwargs), depth)
    ours.action_space.seed(0)
    for episode in range(3):
        (a, info), (b, expected) = ours.reset(seed=episode), theirs.reset(seed=episode)
        assert_same((a, info), (merged(b), expected))
        assert a.shape == ours.observation_space.shape
        for _ in range(6):
            action = ours.action_space.sample()
            (a, *rest), (b, *expected) = ours.step(action), theirs.step(action)
            assert_same((a, *rest), (merged(b), *expected))


@each_world
@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector__equals_gymnasiums_over_single_environments(name, kwargs, mode, assert_same):
    kwargs = {**kwargs, "frame_stack": 3, "distractor": NOISE, "max_episode_steps": 4, "autoreset_mode": mode}
    ours: WorldVectorEnv = gymnasium.make_vec(name, 4, **kwargs)
    kwargs["vector_kwargs"] = {"autoreset_mode": kwargs.pop("autoreset_mode")}
    theirs: SyncVectorEnv = gymnasium.make_vec(name, 4, vectorization_mode="sync", **kwargs)
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    ours.action_space.seed(0)
    lots = np.random.default_rng(0)
    for t in range(14):
        action = ours.action_space.sample()
        a, b = ours.step(action), theirs.step(action)
        assert_same(a, b, f"step {t}")
        mask = a[3] if mode == AutoresetMode.DISABLED else lots.random(4) < 0.1
        if mask.any():  # some begin anew while others go on
            options = [{"reset_mask": mask.copy()} for _ in range(2)]
            assert_same(ours.reset(options=options[0]), theirs.reset(options=options[1]), f"reset after step {t}")


def test_stack__repeats_the_first_frame_of_a_given_state():
    env = gymnasium.make(DOT, frame_stack=3)
    frames, _ = env.reset(seed=0, options={"state": {"location": np.array([10, 20], np.float32)}})
    assert frames[20, 10].tolist() == [255, 255, 255]
    frames, *_ = env.step(np.array([4, 0], np.float32))
    assert frames[20, 10].tolist() == [255, 255, frames[20, 10, 2]]
    assert frames[20, 14, 2] == 255 > frames[20, 10, 2]


def test_state__given_back_goes_on_with_its_past(assert_same):
    env, other = (gymnasium.make_vec(PENDULUM, 3, frame_stack=3, size=20, distractor=NOISE) for _ in range(2))
    env.reset(seed=0)
    for _ in range(3):
        seen = env.step(np.ones((3, 1), np.float32))
    again, _ = other.reset(seed=1, options={"state": env.unwrapped.state})
    np.testing.assert_array_equal(again, seen[0])
    assert_same(other.step(np.ones((3, 1), np.float32)), env.step(np.ones((3, 1), np.float32)))


@pytest.mark.parametrize("make", [gymnasium.make, lambda name, **kwargs: gymnasium.make_vec(name, 2, **kwargs)])
@pytest.mark.parametrize(("name", "channels"), [(DOT, 1), (PENDULUM, 3)], ids=["grey", "colour"])
def test_render__shows_the_newest_frame_alone(make, name, channels):
    env = make(name, frame_stack=3, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(4):
        frames, *_ = env.step(env.action_space.sample())
    shown, newest = np.array(env.render()), frames[..., -channels:]
    np.testing.assert_array_equal(shown, np.broadcast_to(newest, shown.shape))
    assert (frames[..., :channels] != newest).any()


@each_world
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
def test_env__passes_gymnasiums_checker_and_pickling(name, kwargs, assert_same):
    env = gymnasium.make(name, frame_stack=2, render_mode="rgb_array", **kwargs)
    check_env(env.unwrapped)
    env.reset(seed=0)
    action = env.action_space.sample()
    env.step(action)
    copy = pickle.loads(pickle.dumps(env))
    assert_same(copy.step(action), env.step(action))


def test_stack__does_not_depend_on_what_was_drawn_before(keys):
    world = StackedWorld(DistractedWorld(Pendulum(size=20), NOISE), 3)
    action = np.ones((5, 1), np.float32)
    state = world.transition(world.initial(keys(5)), action)  # never drawn
    other = world.initial(keys(5, seed=1))
    world.render(other)  # another state was drawn last
    after = world.transition(state, action)
    drawn = StackedWorld(world.world, 3)
    expected = drawn.initial(keys(5))
    for _ in range(2):
        drawn.render(expected)
        expected = drawn.transition(expected, action)
    np.testing.assert_array_equal(world.render(after), drawn.render(expected))


def test_stack__draws_every_step_once(keys, monkeypatch):
    world = StackedWorld(DistractedWorld(MovingDot(), ()), 3)
    calls = []
    draw = world.world.render
    monkeypatch.setattr(world.world, "render", lambda state: calls.append(1) or draw(state))
    state = world.initial(keys(2))
    for _ in range(5):
        world.render(state)
        state = world.transition(state, np.ones((2, 2), np.float32))
    assert len(calls) == 5


def test_stack__has_the_scene_of_its_newest_frame(keys):
    inner = Pendulum(size=20)
    world = StackedWorld(DistractedWorld(inner, ()), 3)
    state = world.transition(world.initial(keys(4)), np.ones((4, 1), np.float32))
    np.testing.assert_array_equal(world.coverage(state), inner.coverage(state))
    assert world.backdrop == (255,) * 9
    assert StackedWorld(DistractedWorld(MovingDot(), ()), 2).backdrop == (0, 0)


@pytest.mark.parametrize("depth", [0, -1, 2.0, None, "3"])
def test_stack__refuses_what_is_no_number_of_frames(depth):
    with pytest.raises(ValueError, match=f"frame_stack must be an integer of at least 1, got {depth!r}"):
        gymnasium.make(DOT, frame_stack=depth)


def test_stack__of_one_is_the_world_itself(assert_same):
    one, plain = gymnasium.make(DOT, frame_stack=1), gymnasium.make(DOT)
    assert_same(one.reset(seed=0), plain.reset(seed=0))
    assert one.unwrapped.state.keys() == plain.unwrapped.state.keys()
