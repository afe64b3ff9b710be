"""What every registered world must do."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import envs
from envs.core import World
from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from envs.faces import WorldEnv
from envs.registry import NAMESPACE, register
from envs.vector_face import WorldVectorEnv

IDS = sorted(name for name in gymnasium.registry if name.startswith(f"{NAMESPACE}/"))
IDS = [name for name in IDS if gymnasium.spec(name).entry_point == "envs.faces:WorldEnv"]  # others: tests/envs/external
DISTRACTOR = Background(UniformNoise(), "dynamic")

each = pytest.mark.parametrize("name", IDS)
with_and_without = pytest.mark.parametrize("distractor", [(), DISTRACTOR], ids=["clean", "distracted"])


def rollout(env, steps: int, seed: int | None, start: bool = True) -> list:
    """Everything that an environment, single or vector, returns under random actions."""
    env.action_space.seed(0)
    seen: list = [env.reset(seed=seed)] if start else []
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
        if isinstance(env, gymnasium.Env) and (seen[-1][2] or seen[-1][3]):
            seen.append(env.reset())
    return seen


def test_registry__knows_the_worlds_of_the_paper():
    assert {"jepa_worlds/MovingDot-v0", "jepa_worlds/ThreeDots-v0"} <= set(IDS)


def test_registry__has_one_id_or_more_for_every_file_in_worlds():
    files = {path.stem for path in Path(envs.worlds.__file__).parent.glob("*.py")} - {"__init__"}
    modules = {gymnasium.spec(name).kwargs["world"].split(":")[0] for name in IDS}
    assert {f"envs.worlds.{file}" for file in files} == modules


def test_register__names_the_class_and_the_episode_length(monkeypatch):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", registry := {})
    register("Nothing-v3", World, max_episode_steps=9)
    spec = registry["jepa_worlds/Nothing-v3"]
    assert spec.kwargs == {"world": "envs.core:World"}
    assert spec.max_episode_steps == 9


@each
@with_and_without
def test_env__passes_gymnasiums_checker_without_a_warning(name, distractor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space")  # actions are in px
        env = gymnasium.make(name, render_mode="rgb_array", distractor=distractor)
        check_env(env.unwrapped)


@each
def test_env__passes_stable_baselines3s_checker(name):
    from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

    env = gymnasium.make(name, render_mode="rgb_array")
    if not isinstance(env.action_space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        pytest.skip(f"Stable-Baselines3 has no policies for {env.action_space}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on normalised actions and on the size of images
        check_env_for_sb3(env)


@each
def test_make__gives_both_faces_of_the_same_world(name):
    env, batch = gymnasium.make(name), gymnasium.make_vec(name, num_envs=3)
    assert isinstance(env.unwrapped, WorldEnv)
    assert isinstance(batch, WorldVectorEnv)
    assert env.observation_space == batch.single_observation_space
    assert env.action_space == batch.single_action_space
    assert env.unwrapped.factor_space == batch.factor_space
    assert batch.observation_space.shape == (3, *env.observation_space.shape)
    assert env.observation_space.dtype == np.uint8
    assert env.metadata["render_fps"] == batch.metadata["render_fps"] > 0


@each
def test_make__truncates_at_the_registered_length(name):
    length = gymnasium.spec(name).max_episode_steps
    for env in (gymnasium.make(name), gymnasium.make_vec(name, num_envs=2)):
        env.reset(seed=0)
        env.action_space.seed(0)
        elapsed, over = np.int64(0), np.bool_(False)  # of each world
        for _ in range(length):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            elapsed = np.where(over, 0, elapsed + 1)  # a vector resets what has ended
            np.testing.assert_array_equal(truncated, elapsed == length)
            over = (terminated | truncated) & isinstance(env, gymnasium.vector.VectorEnv)


@each
@with_and_without
def test_rollout__stays_within_the_spaces(name, distractor):
    env = gymnasium.make(name, distractor=distractor)
    for seed in range(5):
        for seen in rollout(env, 20, seed):
            observation, info = seen[0], seen[-1]
            assert env.observation_space.contains(observation)
            factors = {key: np.asarray(value) for key, value in info["factors"].items()}
            assert env.unwrapped.factor_space.contains(factors), factors


@each
@with_and_without
@pytest.mark.parametrize("face", ["env", "vector"])
def test_rollout__is_a_function_of_the_seed(name, distractor, face, assert_same):
    def make():
        kwargs = {"distractor": distractor, "max_episode_steps": 16}
        return gymnasium.make(name, **kwargs) if face == "env" else gymnasium.make_vec(name, num_envs=3, **kwargs)

    env, steps = make(), 20  # across the end of an episode
    first = rollout(env, steps, seed=5)
    assert_same(rollout(env, steps, seed=5), first)  # nothing is left over from before
    assert_same(rollout(make(), steps, seed=5), first)
    assert (rollout(env, 0, seed=6)[0][0] != first[0][0]).any()


@each
@pytest.mark.parametrize("face", ["env", "vector"])
def test_pickle__in_mid_episode_continues_identically(name, face, assert_same):
    make = gymnasium.make if face == "env" else gymnasium.make_vec
    env = make(name, distractor=DISTRACTOR, max_episode_steps=16, **({} if face == "env" else {"num_envs": 3}))
    rollout(env, 3, seed=0)
    copy = pickle.loads(pickle.dumps(env))
    assert_same(copy.unwrapped.state, env.unwrapped.state)
    steps = 20  # across the end of an episode
    assert_same(rollout(copy, steps, None, start=False), rollout(env, steps, None, start=False))


@each
def test_spec__survives_json(name, assert_same):
    spec = gymnasium.spec(name)
    assert EnvSpec.from_json(spec.to_json()) == spec
    env = gymnasium.make(name, render_mode="rgb_array")
    rebuilt = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert rebuilt.spec == env.spec
    assert_same(rollout(rebuilt, 3, seed=0), rollout(env, 3, seed=0))
