"""Environments of other libraries side by side, in worker processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise

NOISE = Background(UniformNoise(), "dynamic")


def make(num_envs: int = 2, **kwargs):
    view = {"env_id": "CartPole-v1", "size": 16, "distractor": NOISE, "max_episode_steps": 6}
    return gymnasium.make_vec("jepa_worlds/Gymnasium-v0", num_envs=num_envs, **{**view, **kwargs})


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_workers__do_what_one_process_does(pygame, rollout, mode, assert_same):
    with closing(make(autoreset_mode=mode)) as workers, closing(make(processes=False, autoreset_mode=mode)) as single:
        assert isinstance(workers, AsyncVectorEnv)
        assert isinstance(single, SyncVectorEnv)
        assert_same(rollout(workers, 10, 3), rollout(single, 10, 3))
        for name in ("factor_space", "single_observation_space", "single_action_space", "num_envs", "metadata"):
            assert getattr(workers, name) == getattr(single, name), name
        assert workers.metadata["autoreset_mode"] == AutoresetMode(mode)
        assert workers.render_backend == single.render_backend == "rgb_array"


def test_vector__does_what_single_environments_do(pygame):
    with closing(make(processes=False)) as batch:
        frames, infos = batch.reset(seed=[4, 9])
        for i, seed in enumerate([4, 9]):
            env = gymnasium.make("jepa_worlds/Gymnasium-v0", env_id="CartPole-v1", size=16, distractor=NOISE)
            frame, info = env.reset(seed=seed)
            np.testing.assert_array_equal(frames[i], frame)
            for name, x in info["factors"].items():
                np.testing.assert_array_equal(infos["factors"][name][i], x)


def test_vector__of_one_stays_in_this_process(pygame):
    assert isinstance(make(1), SyncVectorEnv)
    with pytest.raises(ValueError, match="num_envs must be an integer of at least 1, got 0"):
        make(0)


def test_vector__resets_those_that_it_is_told_to(pygame):
    with closing(make(processes=False, autoreset_mode=AutoresetMode.DISABLED)) as batch:
        before, _ = batch.reset(seed=0)
        after, infos = batch.reset(options={"reset_mask": np.array([False, True])})
        np.testing.assert_array_equal(after[0], before[0])
        assert (after[1] != before[1]).any()
        assert infos["_factors"].tolist() == [False, True]


def test_workers__render_mujoco_alike(dm_control, rollout, assert_same):
    def batch(**kwargs):
        kwargs = {"domain": "reacher", "task": "easy", "size": 24, "max_episode_steps": 3, **kwargs}
        behind = Background(UniformNoise(), "static", blend="behind")
        return gymnasium.make_vec("jepa_worlds/DMControl-v0", num_envs=2, distractor=behind, **kwargs)

    with closing(batch()) as workers, closing(batch(processes=False)) as single:
        assert_same(rollout(workers, 5, 3), rollout(single, 5, 3))
        assert workers.render_backend == single.render_backend != "rgb_array"


@pytest.mark.parametrize("how", [["script.py"], ["-m", "script"]])
def test_workers__do_not_run_the_callers_script(pygame, tmp_path, how):
    """A script without a guard, with an environment of its own; it finds itself as it was."""
    (tmp_path / "script.py").write_text(
        "import gymnasium, envs\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "print('running')\n"
        "class Mine(CartPoleEnv):\n"
        "    pass\n"
        "gymnasium.register('Mine-v0', Mine)\n"
        "workers = gymnasium.make_vec('jepa_worlds/Gymnasium-v0', num_envs=2, env_id='Mine-v0', size=8)\n"
        "print(workers.reset(seed=0)[0].shape, __file__.endswith('script.py'), __spec__ is None)\n"
        "workers.close()\n"
    )
    command = [sys.executable, *how]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stdout.splitlines() == ["running", f"(2, 8, 8, 3) True {len(how) == 1}"], ran.stderr
