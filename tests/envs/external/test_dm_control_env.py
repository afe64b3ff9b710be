"""Tasks of the DeepMind Control Suite."""

from __future__ import annotations

import pickle
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise

ID = "jepa_worlds/DMControl-v0"
TASKS = [("reacher", "easy"), ("walker", "walk"), ("cartpole", "swingup")]

each_task = pytest.mark.parametrize(("domain", "task"), TASKS, ids=[domain for domain, _ in TASKS])


def make(domain: str = "reacher", task: str = "easy", **kwargs) -> gymnasium.Env:
    return gymnasium.make(ID, domain=domain, task=task, **kwargs)


def test_checkers__pass(dm_control):
    from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

    env = make(size=40, render_mode="rgb_array", distractor=Background(UniformNoise(), "dynamic", blend="behind"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    check_env_for_sb3(env)
    env.close()


@each_task
def test_env__is_dm_controls_own(dm_control, domain, task):
    from dm_control import suite

    env = make(domain, task, size=16)
    _, info = env.reset(seed=3)
    theirs = suite.load(domain, task, task_kwargs={"random": int(np.random.default_rng(3).integers(2**32))})
    expected = theirs.reset()
    env.action_space.seed(0)
    for _ in range(20):
        for name, value in expected.observation.items():
            np.testing.assert_array_equal(info["factors"][name], np.float32(value).reshape(-1), strict=True)
        action = env.action_space.sample()
        _, reward, terminated, truncated, info = env.step(action)
        expected = theirs.step(action)
        assert (reward, terminated, truncated) == (expected.reward, False, False)
    env.close()


@each_task
def test_rollout__is_a_function_of_the_seed_and_stays_within_the_spaces(dm_control, rollout, domain, task, assert_same):
    def fresh():
        noise = Background(UniformNoise(), "dynamic")
        return make(domain, task, size=24, max_episode_steps=6, distractor=noise)

    env, other = fresh(), fresh()
    first = rollout(env, 15, seed=5)
    assert_same(rollout(env, 15, seed=5), first)
    assert_same(rollout(other, 15, seed=5), first)
    name = "orientations" if domain == "walker" else "position"
    assert (env.reset(seed=6)[1]["factors"][name] != first[0][1]["factors"][name]).any()
    for seen in first:
        assert env.observation_space.contains(seen[0])
        assert env.unwrapped.factor_space.contains(seen[-1]["factors"])
    env.close()
    other.close()


def test_reset__without_a_seed_goes_on(dm_control):
    env, again = make(size=8), make(size=8)
    starts = [env.reset(seed=1), env.reset(), env.reset()]
    places = [info["factors"]["position"].tolist() for _, info in starts]
    assert len({tuple(place) for place in places}) == 3
    again.reset(seed=1)
    assert again.reset()[1]["factors"]["position"].tolist() == places[1]


@pytest.mark.parametrize(("discount", "expected"), [(1.0, (False, True)), (0.0, (True, False))])
def test_end__is_a_truncation_unless_the_discount_is_0(dm_control, monkeypatch, discount, expected):
    import dm_env

    env = make(size=8)
    env.reset(seed=0)
    task = env.unwrapped.distracted.unwrapped._task
    last = task.step(np.zeros(2))._replace(step_type=dm_env.StepType.LAST, discount=discount)
    monkeypatch.setattr(task, "step", lambda action: last)
    assert env.step(np.zeros(2, np.float32))[2:4] == expected


def test_time_limit__truncates(dm_control):
    env = make("cartpole", "balance", size=8, action_repeat=250)  # 1000 steps
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[3] for _ in range(4)] == [False, False, False, True]


def test_fast__drops_what_is_slow_and_keep_keeps_it(dm_control):
    frames = {}
    for name, kwargs in {"fast": {}, "skybox": {"keep": ["skybox"]}, "plain": {"fast": False}}.items():
        env = make("walker", "walk", size=32, **kwargs)
        frames[name], _ = env.reset(seed=0)
        assert (env.unwrapped.distracted.unwrapped.model.vis.quality.offsamples > 0) == (name == "plain")
        env.close()
    assert (frames["fast"][0] == 0).all(), "black in place of the sky"
    assert (frames["skybox"][0] > 0).any()
    seen = frames["fast"].any(axis=-1)
    np.testing.assert_array_equal(frames["fast"][seen], frames["skybox"][seen])
    assert (frames["plain"][seen] != frames["fast"][seen]).any()


def test_camera__may_be_chosen_and_frames_larger_than_the_models_buffer(dm_control):
    by_number, by_name, other = (make(size=24, camera_id=camera) for camera in (0, "fixed", 1))
    frames = [env.reset(seed=0)[0] for env in (by_number, by_name, other)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()
    assert make(size=490).reset(seed=0)[0].shape == (490, 490, 3)  # the buffer has 640 × 480


@each_task
def test_behind__replaces_void_and_floor_and_nothing_else(dm_control, domain, task):
    clean = make(domain, task, size=32)
    behind = make(domain, task, size=32, distractor=Background(UniformNoise(), "dynamic", blend="behind"))
    for env in (clean, behind):
        env.reset(seed=0)
    for _ in range(3):
        action = np.ones(clean.action_space.shape, np.float32)
        frame, seen = (env.step(action)[0] for env in (clean, behind))
        coverage, _ = clean.unwrapped.distracted.env.scene()
        scene = coverage[..., 0] == 1
        assert 0.005 < scene.mean() < 0.4
        np.testing.assert_array_equal(seen[scene], frame[scene])
        assert (seen[~scene] == frame[~scene]).mean() < 0.02
    clean.close()
    behind.close()


def test_scene__takes_the_body_for_scene_and_the_floor_for_backdrop(dm_control):
    env = make("walker", "walk", size=64)
    frame, _ = env.reset(seed=0)
    coverage, backdrop = env.unwrapped.distracted.env.scene()
    body = (frame[..., 0] > frame[..., 2].astype(int) + 40)  # the walker is orange, the floor is blue  # fmt: skip
    assert (coverage[body] == 1).all()
    assert body.sum() > 0.8 * coverage.sum()
    np.testing.assert_array_equal(backdrop[-1], frame[-1])


def test_pickle__begins_anew(dm_control, rollout, assert_same):
    env = make(size=16, frame_stack=2, distractor=Background(UniformNoise(), blend="behind"))
    expected = rollout(env, 4, seed=1)
    assert_same(rollout(pickle.loads(pickle.dumps(env)), 4, seed=1), expected)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"domain": "runner"}, "unknown domain='runner': dm_control.suite has .*reacher.*walker"),
        ({"task": "fly"}, "unknown task='fly': dm_control's reacher has easy, hard"),
        ({"camera_id": 9}, r"dm_control reacher-easy has no camera_id=9: it has \['fixed', 'hand'\], numbered"),
        ({"camera_id": "top"}, "dm_control reacher-easy has no camera_id='top'"),
        ({"keep": ["fog"]}, r"keep must name some of .* got \['fog'\]"),
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
    ],
)
def test_env__says_what_is_wrong(dm_control, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_env__says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(
        ValueError, match=r'needs dm_control, which is not installed: pip install "jepa_worlds\[control\]"'
    ):
        make()


def test_env__notices_that_dm_control_renders_otherwise(dm_control, monkeypatch):
    monkeypatch.setattr(sys.modules["dm_control._render"], "BACKEND", "glfw2")
    with pytest.raises(ValueError, match=r"imported before and renders with 'glfw2', .* set MUJOCO_GL="):
        make()
