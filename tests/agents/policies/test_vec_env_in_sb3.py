"""Stable-Baselines3 takes these environments as its own."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.wrappers import TimeLimit
from moviepy.video.io.VideoFileClip import VideoFileClip
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize, VecVideoRecorder

import envs  # noqa: F401
from agents.policies.pixels import Pixels
from agents.policies.vec_env import LatentVecEnv, ObservedVecEnv

OFF_POLICY = {"learning_starts": 8, "batch_size": 8, "buffer_size": 100, "train_freq": 4}
SETTINGS: dict[str, dict] = {
    "PPO": {"n_steps": 8, "batch_size": 16, "n_epochs": 1},
    "A2C": {"n_steps": 4},
    "SAC": OFF_POLICY,
    "TD3": OFF_POLICY,
    "DQN": OFF_POLICY,
}


@pytest.fixture
def make_env(make_model):
    """``make_env(world)``: the latents of 4 of these worlds; always by the same model."""

    def make(world="Pendulum", n=4, **kwargs):
        env = gymnasium.make_vec(f"jepa_worlds/{world}-v0", n, size=16, max_episode_steps=6, **kwargs)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return LatentVecEnv(env, make_model((16, 16, 3)))

    return make


def learner(name, env, **kwargs):
    return getattr(stable_baselines3, name)(
        "MlpPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu", **SETTINGS[name], **kwargs
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_latent_vec_env__is_learned_in(name, make_env, tmp_path):
    """The policy that was saved is plain Stable-Baselines3's, and acts as it did."""
    env = make_env("CartPoleBalance" if name == "DQN" else "Pendulum")
    model = learner(name, env)
    before = model.policy.parameters_to_vector().copy()
    model.learn(64)
    after = model.policy.parameters_to_vector()
    assert model.num_timesteps == 64
    assert np.isfinite(after).all()
    assert (after != before).any()
    model.save(tmp_path / "policy")
    loaded = getattr(stable_baselines3, name).load(tmp_path / "policy", device="cpu")
    observations = env.reset()
    actions = model.predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], actions, strict=True)


def test_latent_vec_env__keeps_the_last_observation_of_an_episode_for_replay(make_env):
    """What follows the last action is not the next episode, and time that runs out is not an end."""
    model = learner("SAC", make_env())
    model.learn(40)  # 10 steps in each of 4 worlds: one episode of 6 steps, and 4 more
    buffer = model.replay_buffer
    assert buffer.dones[:10].tolist() == [[float(t == 5)] * 4 for t in range(10)]
    assert buffer.timeouts[:10].tolist() == buffer.dones[:10].tolist()
    follows = (buffer.next_observations[:9] == buffer.observations[1:10]).all(axis=-1)
    assert follows.tolist() == [[t != 5] * 4 for t in range(9)]


def test_latent_vec_env__is_normalised_monitored_and_evaluated(make_env, tmp_path):
    env = VecNormalize(VecMonitor(make_env(), str(tmp_path / "train")))
    env.seed(0)
    env.reset()
    for _ in range(6):
        observations, _, dones, infos = env.step(np.zeros((4, 1), np.float32))
    assert dones.all()
    raw = env.get_original_obs()
    np.testing.assert_allclose(observations, env.normalize_obs(raw), rtol=1e-5)
    assert [info["episode"]["l"] for info in infos] == [6] * 4
    assert all((info["terminal_observation"] != seen).any() for info, seen in zip(infos, observations, strict=True))
    model = learner("PPO", env)
    beside = VecNormalize(VecMonitor(make_env(n=2)), training=False)
    callback = EvalCallback(
        beside, n_eval_episodes=4, eval_freq=8, log_path=str(tmp_path), best_model_save_path=str(tmp_path), verbose=0
    )
    model.learn(64, callback=callback)
    evaluated = np.load(tmp_path / "evaluations.npz")
    assert evaluated["timesteps"].tolist() == [32, 64]
    assert (evaluated["ep_lengths"] == 6).all()
    rows = (tmp_path / "train.monitor.csv").read_text().splitlines()[2:]
    assert {row.split(",")[1] for row in rows} == {"6"}
    assert (tmp_path / "best_model.zip").is_file()
    env.save(str(tmp_path / "normaliser.pkl"))
    again = VecNormalize.load(str(tmp_path / "normaliser.pkl"), make_env())
    np.testing.assert_array_equal(again.normalize_obs(raw), env.normalize_obs(raw))


def test_latent_vec_env__has_the_returns_of_its_worlds(make_env):
    """`evaluate_policy` counts every episode from beginning to end, cut off or not."""

    class Pushes:
        def predict(self, observations, state=None, episode_start=None, deterministic=True):
            return np.ones(len(observations), int), state

    env = make_env("CartPoleBalance")
    env.seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no Monitor
        returns, lengths = evaluate_policy(Pushes(), env, n_eval_episodes=12, return_episode_rewards=True)
    assert lengths == [6] * 12
    assert returns == [6.0] * 12


def test_observed_vec_env__answers_what_it_is_asked(make_env):
    env = make_env(render_mode="rgb_array")
    assert env.get_attr("render_mode") == ["rgb_array"] * 4
    assert env.get_attr("factor_space", [0, 2]) == [env.env.unwrapped.factor_space] * 2
    assert (env.has_attr("factor_space"), env.has_attr("mood")) == (True, False)
    assert env.env_is_wrapped(TimeLimit) == [False] * 4
    assert env.env_is_wrapped(TimeLimit, indices=1) == [False]
    with pytest.raises(ValueError, match="worlds are stepped together: 'size' cannot be set for some"):
        env.set_attr("size", 8)
    with pytest.raises(ValueError, match="worlds are stepped together: 'close' cannot be called on each"):
        env.env_method("close")
    env.close()
    assert env.env.closed


def test_observed_vec_env__is_drawn(make_env):
    env = make_env(render_mode="rgb_array")
    env.reset()
    images = env.get_images()
    assert [image.shape for image in images] == [(16, 16, 3)] * 4
    np.testing.assert_array_equal(env.render(), np.vstack([np.hstack(images[:2]), np.hstack(images[2:])]))
    blind = make_env()
    blind.reset()
    assert (blind.render_mode, blind.get_images()) == (None, [None] * 4)


def test_observed_vec_env__is_filmed(make_env, tmp_path, capfd):
    env = make_env(render_mode="rgb_array")
    film = VecVideoRecorder(env, str(tmp_path), lambda step: step == 0, video_length=5)
    film.reset()
    for _ in range(6):
        film.step(np.zeros((4, 1), np.float32))
    film.close()
    capfd.readouterr()
    with VideoFileClip(str(tmp_path / "rl-video-step-0-to-step-5.mp4")) as clip:
        assert clip.size == [32, 32]
        assert clip.fps == env.env.metadata["render_fps"] != 30


def test_observed_vec_env__shows_no_images_that_sb3_would_turn_around():
    env = gymnasium.make_vec("jepa_worlds/Pendulum-v0", 2, size=36)
    most = stable_baselines3.PPO("CnnPolicy", ObservedVecEnv(env, Pixels(12)), n_steps=4, batch_size=8)
    assert isinstance(most.env, ObservedVecEnv)
    with pytest.raises(ValueError, match="39 channels are too many for images of 36×36 px: see fewer frames"):
        ObservedVecEnv(env, Pixels(13))


def test_observed_vec_env__shows_images_that_sb3_takes_as_such():
    env = gymnasium.make_vec("jepa_worlds/Pendulum-v0", 2, size=36, max_episode_steps=4)
    model = stable_baselines3.PPO("CnnPolicy", ObservedVecEnv(env, Pixels(3)), n_steps=4, batch_size=8, n_epochs=1)
    assert model.policy.features_extractor.cnn[0].in_channels == 9
    assert isinstance(model.env, ObservedVecEnv)  # nothing had to be turned around
    assert model.learn(8).num_timesteps == 8
