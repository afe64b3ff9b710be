"""Distractors on any environment: the same numbers as on a native world, and nothing of what happens is changed."""

from __future__ import annotations

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation, RecordVideo

from envs.distractors.background import Background
from envs.distractors.core import Distractor
from envs.distractors.photographs import Photographs
from envs.distractors.uniform import UniformNoise
from envs.distractors.wrapper import Distracted

DOT, PENDULUM = "jepa_worlds/MovingDot-v0", "jepa_worlds/Pendulum-v0"
ADDED = Background(UniformNoise(), "dynamic")
BEHIND = Background(UniformNoise(), "drifting", blend="behind")
STACK = [ADDED, Background(Photographs(), "static", level=0.5, blend="over"), BEHIND]
LAYERS = {"add": ADDED, "behind": BEHIND, "stack": STACK}

each_layers = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
each_world = pytest.mark.parametrize("name", [DOT, PENDULUM])


class Painted(gymnasium.Env):
    """A frame with a bright column that steps to the right on a grey of its own, and no factors."""

    observation_space = spaces.Box(0, 255, (4, 6, 3), np.uint8)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    render_mode = "rgb_array"
    backdrop = (10, 20, 30)

    def _seen(self):
        frame = np.full((4, 6, 3), self.backdrop, np.uint8)
        frame[:, self.column % 6] = (200, 21, 30)
        return frame

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.column = int(self.np_random.integers(6))
        return self._seen(), {}

    def step(self, action):
        self.column += int(action)
        return self._seen(), float(self.column), self.column > 8, False, {"column": self.column}

    def render(self):
        return self._seen()


def rollout(env, steps: int, seed: int) -> list:
    env.action_space.seed(0)
    seen = [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
        if isinstance(env, gymnasium.Env) and (seen[-1][2] or seen[-1][3]):
            seen.append(env.reset())
    return seen


@each_world
@each_layers
def test_distracted__gives_number_for_number_what_a_native_world_gives(name, layers, assert_same):
    native = gymnasium.make(name, distractor=layers, max_episode_steps=5)
    wrapped = Distracted(gymnasium.make(name, max_episode_steps=5), layers)
    assert_same(rollout(wrapped, 12, seed=3), rollout(native, 12, seed=3))  # over several episodes
    assert wrapped.factor_space == native.unwrapped.factor_space
    assert wrapped.observation_space == native.observation_space


def test_distracted__shows_held_out_pictures_as_a_native_world_does(assert_same):
    photographs = Background(Photographs(), "dynamic")
    wrapped = Distracted(gymnasium.make(DOT), photographs, held_out=True)
    assert_same(rollout(wrapped, 3, 0), rollout(gymnasium.make(DOT, distractor=photographs, held_out=True), 3, 0))
    assert (wrapped.reset(seed=0)[0] != Distracted(gymnasium.make(DOT), photographs).reset(seed=0)[0]).any()


@pytest.mark.parametrize(
    ("vector", "mode"), [(SyncVectorEnv, "NextStep"), (SyncVectorEnv, "SameStep"), (AsyncVectorEnv, "NextStep")]
)
def test_distracted__commutes_with_vectorisation(vector, mode, assert_same):
    context = {"context": "forkserver"} if vector is AsyncVectorEnv else {}

    def make():
        return Distracted(gymnasium.make(DOT, max_episode_steps=4), STACK)

    batch = vector([make] * 3, autoreset_mode=mode, **context)
    native = gymnasium.make_vec(DOT, num_envs=3, distractor=STACK, max_episode_steps=4, autoreset_mode=mode)
    try:
        for ours, theirs in zip(rollout(batch, 10, seed=7), rollout(native, 10, seed=7), strict=True):
            assert_same(ours[0], theirs[0])
            assert_same(ours[-1]["factors"], theirs[-1]["factors"])
            for a, b in zip(ours[1:-1], theirs[1:-1], strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        batch.close()


@each_layers
def test_distracted__changes_nothing_of_what_happens(layers):
    plain, wrapped = (gymnasium.make(PENDULUM) for _ in range(2))
    wrapped = Distracted(wrapped, layers)
    frames_differ = False
    for ours, theirs in zip(rollout(wrapped, 30, seed=1), rollout(plain, 30, seed=1), strict=True):
        assert ours[1:-1] == theirs[1:-1]
        for name in ("angle", "angular_velocity"):
            np.testing.assert_array_equal(ours[-1]["factors"][name], theirs[-1]["factors"][name])
        frames_differ |= (ours[0] != theirs[0]).any()
    assert frames_differ
    assert wrapped.unwrapped.np_random.bit_generator.state == plain.unwrapped.np_random.bit_generator.state


def test_distracted__works_on_an_environment_without_factors():
    env = Distracted(Painted(), ADDED)
    assert list(env.factor_space) == ["background"]
    for seen in rollout(env, 12, seed=0):
        assert env.observation_space.contains(seen[0])
        assert env.factor_space.contains(seen[-1]["factors"])
    assert seen[-1]["column"], "what the environment said stays in info"


def test_distracted__is_a_function_of_its_seed(assert_same):
    env = Distracted(Painted(), ADDED)
    first = rollout(env, 12, seed=5)
    assert_same(rollout(env, 12, seed=5), first)
    assert (rollout(env, 0, seed=6)[0][0] != first[0][0]).any()
    starts = [env.reset(seed=5)[0], env.reset()[0], env.reset()[0]]
    assert (starts[1] != starts[2]).any(), "every episode has a background of its own"
    unseeded = Distracted(Painted(), ADDED)
    assert (unseeded.reset()[0] != Distracted(Painted(), ADDED).reset()[0]).any()


def test_render__shows_what_the_agent_saw_and_is_idempotent():
    for env in (Distracted(gymnasium.make(DOT, render_mode="rgb_array"), ADDED), Distracted(Painted(), ADDED)):
        for seen in rollout(env, 3, seed=0):
            frame = seen[0]
        for _ in range(2):
            np.testing.assert_array_equal(env.render(), np.broadcast_to(frame, (*frame.shape[:2], 3)))
    mute = Distracted(gymnasium.make(DOT), ADDED)
    mute.reset()
    assert mute.render() is None


def test_returned_frames__are_the_callers_own():
    env = Distracted(Painted(), ADDED)
    frame, info = env.reset(seed=0)
    kept, factors = frame.copy(), info["factors"]["background"].copy()
    frame[:], info["factors"]["background"][:] = 0, 0
    np.testing.assert_array_equal(env.render(), kept)
    assert factors.any()
    env.render()[:] = 0
    np.testing.assert_array_equal(env.render(), kept)


@pytest.mark.parametrize(("grey", "tolerance"), [(False, 0), (False, 40), (True, 0)])
def test_key_colour__leaves_what_differs_from_it_as_it_is(grey, tolerance):
    behind = Background(UniformNoise(), "dynamic", blend="behind")

    def make():
        return gymnasium.wrappers.GrayscaleObservation(Painted(), keep_dim=True) if grey else Painted()

    env = Distracted(make(), behind, key_colour=Painted.backdrop, tolerance=tolerance)
    for (frame, *_), (clean, *_) in zip(rollout(env, 4, seed=2), rollout(make(), 4, seed=2), strict=True):
        scene = clean[..., 0] != clean[0, :, 0].min()
        assert scene.sum() == 4
        np.testing.assert_array_equal(frame[scene], clean[scene])
        assert (frame[~scene] == clean[~scene]).mean() < 0.2


def test_key_colour__may_be_missed_by_the_tolerance_and_no_more():
    behind = Background(UniformNoise(), "static", blend="behind")
    near = (13, 17, 30)
    clean = Painted().reset(seed=2)[0]
    for tolerance, covered in ((3, 4), (2, 24)):
        frame, _ = Distracted(Painted(), behind, key_colour=near, tolerance=tolerance).reset(seed=2)
        assert (frame == clean).all(axis=-1).sum() == covered


def test_distracted__passes_the_checkers():
    from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

    for env in (Distracted(Painted(), ADDED), Distracted(gymnasium.make(DOT), STACK)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that the environment is wrapped, and advises on small images
            check_env(env, skip_render_check=True)
            check_env_for_sb3(env, skip_render_check=True)


def test_distracted__is_recorded(tmp_path):
    env = RecordVideo(Distracted(Painted(), ADDED), str(tmp_path / "videos"), disable_logger=True)
    rollout(env, 12, seed=0)
    env.close()
    assert list(tmp_path.glob("videos/*.mp4"))


def test_pickle__in_mid_episode_continues_identically(assert_same):
    env = Distracted(gymnasium.make(DOT, max_episode_steps=9), STACK)
    rollout(env, 3, seed=0)
    copy = pickle.loads(pickle.dumps(env))
    for _ in range(4):
        assert_same(copy.step(np.ones(2, np.float32)), env.step(np.ones(2, np.float32)))
    assert_same(copy.reset(), env.reset())


def test_spec__makes_it_again(assert_same):
    env = Distracted(gymnasium.make(DOT), STACK, held_out=True)
    again = gymnasium.make(env.spec)
    assert isinstance(again, Distracted)
    assert_same(rollout(again, 3, seed=0), rollout(env, 3, seed=0))


class Clashing(Distractor):
    """A distractor with a factor that MovingDot has."""

    def initial(self, key, frame_shape, held_out):
        return {}

    def advance(self, state, time, frame_shape, held_out):
        return {}

    def apply(self, picture, state):
        return picture

    def factor_space(self, frame_shape):
        return {"location": spaces.Box(0, 1, (1,), np.float32)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distracted(gymnasium.make("CartPole-v1"), ADDED), r"need frames, .* observes Box.*Gymnasium-v0"),
        (lambda: Distracted(FrameStackObservation(Painted(), 2), ADDED), "stack frames afterwards"),
        (lambda: Distracted(Distracted(Painted(), ADDED), ADDED), "already: give all of them to one wrapper"),
        (lambda: Distracted(gymnasium.make(DOT, distractor=ADDED), ADDED), "already: give all of them to one wrapper"),
        (lambda: Distracted(gymnasium.make(DOT), Clashing()), r"both have factors named \['location'\]"),
        (lambda: Distracted(Painted(), BEHIND), r"give key_colour=\(r, g, b\).*blend=add or blend=over"),
        (lambda: Distracted(Painted(), BEHIND, key_colour=(1, 2)), r"three integers from 0 to 255; got \(1, 2\)"),
        (lambda: Distracted(Painted(), BEHIND, key_colour=(1, 2, 256)), "three integers from 0 to 255; got"),
        (lambda: Distracted(Painted(), BEHIND, key_colour=(1, 2, 0.5)), "three integers from 0 to 255; got"),
        (lambda: Distracted(Painted(), BEHIND, key_colour="white"), "three integers from 0 to 255; got 'white'"),
        (lambda: Distracted(Painted(), "noise"), "must be an envs.distractors.core.Distractor"),
        (lambda: Distracted(Painted(), ADDED).render(), r"call reset\(\) before render\(\)"),
    ],
)
def test_distracted__says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_distracted__may_go_over_a_native_world_without_distractors_of_its_own():
    assert Distracted(gymnasium.make(DOT, distractor=[]), ADDED).distractors == (ADDED,)
