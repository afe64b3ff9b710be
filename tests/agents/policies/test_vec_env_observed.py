"""What `ObservedVecEnv` gives is what Stable-Baselines3's own `DummyVecEnv` gives of the same worlds, one by one."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

import envs  # noqa: F401
from agents.policies.latents import Latents
from agents.policies.pixels import Pixels
from agents.policies.true_state import TrueState
from agents.policies.vec_env import LatentVecEnv, ObservedVecEnv

N = 4
CART_POLE = {"id": "jepa_worlds/CartPoleBalance-v0", "size": 16, "max_episode_steps": 22}
REACH = {"id": "jepa_worlds/MovingDotReach-v0", "size": 12, "terminate": True, "reach": 3.0, "max_episode_steps": 7}
MODES = list(AutoresetMode)


class EncodedOneByOne(gymnasium.Wrapper):
    """A world whose frames are encoded as they come, as a tutorial would have it."""

    def __init__(self, env, model) -> None:
        super().__init__(env)
        self.model, self.sees_goal = model, env.unwrapped.seeks_goal
        self.observation_space = spaces.Box(-np.inf, np.inf, (3 * (1 + self.sees_goal),), np.float32)

    def reset(self, **kwargs):
        frame, info = self.env.reset(**kwargs)
        self.memory = self.model.update(None, None, _batch(frame))
        self.goal = self.model.update(None, None, _batch(self.unwrapped.goal()[0])) if self.sees_goal else None
        return self._latent(), info

    def step(self, action):
        frame, *rest = self.env.step(action)
        space = self.action_space
        vector = np.eye(space.n)[action] if isinstance(space, spaces.Discrete) else action
        self.memory = self.model.update(self.memory, torch.tensor(vector[None]).float(), _batch(frame))
        return self._latent(), *rest

    def _latent(self):
        found = [self.memory] if self.goal is None else [self.memory, self.goal]
        return torch.cat([x[0, :3] for x in found]).detach().numpy()


def _batch(frame):
    return torch.from_numpy(frame).permute(2, 0, 1)[None]


def single(id, **kwargs):
    return gymnasium.make(id, **kwargs)


def vector_env(kind, given, mode=AutoresetMode.NEXT_STEP, **kwargs):
    if kind == "native":
        arguments = {name: value for name, value in given.items() if name != "id"}
        return gymnasium.make_vec(given["id"], N, autoreset_mode=mode, **arguments)
    make = AsyncVectorEnv if kind == "async" else SyncVectorEnv
    return make([partial(single, **given)] * N, autoreset_mode=mode, **kwargs)


def assert_same_steps(env, reference, steps):
    """Both give the same for the same actions; episodes are cut off and come to their end."""
    env.action_space.seed(1)
    for venv in (env, reference):
        venv.seed(5)
    np.testing.assert_array_equal(env.reset(), reference.reset(), strict=True)
    endings = []
    for _ in range(steps):
        actions = np.stack([env.action_space.sample() for _ in range(N)])
        observations, rewards, dones, infos = env.step(actions)
        wanted, wanted_rewards, wanted_dones, wanted_infos = reference.step(actions)
        np.testing.assert_array_equal(dones, wanted_dones, strict=True)
        np.testing.assert_array_equal(rewards, wanted_rewards, strict=True)
        np.testing.assert_array_equal(observations, wanted, strict=True)
        for done, info, wanted_info in zip(dones, infos, wanted_infos, strict=True):
            assert ("terminal_observation" in info) == done
            if done:
                last, wanted_last = info["terminal_observation"], wanted_info["terminal_observation"]
                np.testing.assert_array_equal(last, wanted_last, strict=True)
                assert info["TimeLimit.truncated"] is bool(wanted_info["TimeLimit.truncated"])
                endings.append(info["TimeLimit.truncated"])
    assert len(endings) > 2 * N
    assert set(endings) == {True, False}
    env.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["native", "sync"])
def test_latent_vec_env__steps_as_single_worlds_do(kind, mode, make_memory):
    model = make_memory(2)  # two choices, as one-hot vectors
    reference = DummyVecEnv([lambda: EncodedOneByOne(single(**CART_POLE), model)] * N)
    assert_same_steps(LatentVecEnv(vector_env(kind, CART_POLE, mode), model), reference, 60)


@pytest.mark.parametrize("mode", MODES)
def test_latent_vec_env__shows_the_goal_of_every_episode(mode, make_memory):
    model = make_memory(2)
    reference = DummyVecEnv([lambda: EncodedOneByOne(single(**REACH), model)] * N)
    env = LatentVecEnv(vector_env("native", REACH, mode), model)
    assert env.observation_space.shape == (6,)
    assert_same_steps(env, reference, 40)


def test_latent_vec_env__takes_worlds_in_workers(make_memory):
    model = make_memory(2)
    reference = DummyVecEnv([lambda: EncodedOneByOne(single(**CART_POLE), model)] * N)
    assert_same_steps(LatentVecEnv(vector_env("async", CART_POLE, AutoresetMode.SAME_STEP), model), reference, 60)


@pytest.mark.parametrize("given", [CART_POLE, REACH], ids=["cart pole", "reach"])
@pytest.mark.parametrize("mode", MODES)
def test_latent_vec_env__encodes_every_frame_once(mode, given, make_memory):
    model = make_memory(2)
    env = LatentVecEnv(vector_env("native", given, mode), model)
    model.calls.clear()  # one, of a frame of zeros, to see whether the model takes them
    env.action_space.seed(0)
    env.reset()
    goals, ended = 1 + env.seeks_goal, 0
    assert model.calls == [(True, N)] * goals
    for _ in range(50):
        model.calls.clear()
        _, _, dones, _ = env.step(np.stack([env.action_space.sample() for _ in range(N)]))
        fresh = [(True, int(dones.sum()))] * goals if dones.any() else []
        assert model.calls == [(False, N), *fresh]
        ended += dones.sum()
    assert ended > N


@pytest.mark.parametrize("frames", [1, 3])
def test_latent_vec_env__is_encode_for_models_of_several_frames(frames, make_model):
    make = partial(gymnasium.make_vec, "jepa_worlds/Pendulum-v0", N, size=16, max_episode_steps=5)
    plain, model = make(autoreset_mode=AutoresetMode.DISABLED), make_model((16, 16, 3), frames)
    venv = LatentVecEnv(make(), model)
    venv.seed(3)
    seen, latents = [plain.reset(seed=3)[0]], [venv.reset()]
    for actions in np.random.default_rng(0).uniform(-2, 2, (5, N, 1)).astype(np.float32):
        seen.append(plain.step(actions)[0])
        observations, _, dones, infos = venv.step(actions)
        latents.append(observations)
    assert dones.all()
    latents[-1] = np.stack([info["terminal_observation"] for info in infos])

    def encoded(frames):
        with torch.no_grad():
            return model.encode(torch.from_numpy(np.stack(frames, axis=1)).permute(0, 1, 4, 2, 3)).numpy()

    np.testing.assert_allclose(np.stack(latents, axis=1), encoded(seen), atol=1e-4)
    begun = encoded([plain.reset(options={"reset_mask": dones.copy()})[0]])[:, 0]
    np.testing.assert_allclose(observations, begun, atol=1e-4)
    assert np.abs(np.diff(np.stack(latents), axis=0)).max() > 0.02


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["native", "sync"])
def test_observed_vec_env__shows_factors(kind, mode):
    """Those of the last step where an episode has ended, and those of the next one's first."""
    names = ("angle", "position")
    env = vector_env(kind, CART_POLE, mode)
    env.unwrapped.factor_space = single(**CART_POLE).unwrapped.factor_space
    venv, plain = ObservedVecEnv(env, TrueState(names)), vector_env("native", CART_POLE, AutoresetMode.DISABLED)

    def row(infos):
        return np.concatenate([infos["factors"][name] for name in names], axis=1)

    venv.seed(0)
    np.testing.assert_array_equal(venv.reset(), row(plain.reset(seed=0)[1]), strict=True)
    rng, ended = np.random.default_rng(0), 0
    for _ in range(60):
        actions = rng.integers(2, size=N)
        observations, _, dones, infos = venv.step(actions)
        wanted = row(plain.step(actions)[4])
        np.testing.assert_array_equal(observations[~dones], wanted[~dones], strict=True)
        for i in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[i]["terminal_observation"], wanted[i], strict=True)
        if dones.any():
            begun = row(plain.reset(options={"reset_mask": dones.copy()})[1])
            np.testing.assert_array_equal(observations[dones], begun[dones], strict=True)
        ended += dones.sum()
    assert ended > N


class Loud(gymnasium.Wrapper):
    """Tells whether an episode was a success, when it ends, how far it is, and of every other step that it is even."""

    def reset(self, **kwargs):
        self.steps = 0
        return self.env.reset(**kwargs)

    def step(self, action):
        frame, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if terminated or truncated:
            info["is_success"] = not terminated
        if self.steps % 2 == 0:
            info["even"] = True
        return frame, reward, terminated, truncated, {**info, "steps": self.steps, "deep": {"er": 1}}


@pytest.mark.parametrize("mode", MODES)
def test_observed_vec_env__passes_on_what_the_last_step_told(mode):
    env = SyncVectorEnv([lambda: Loud(single(**CART_POLE))] * N, autoreset_mode=mode)
    venv = ObservedVecEnv(env, Pixels())
    venv.reset()
    steps, successes = np.zeros(N, int), set()
    for _ in range(60):
        steps += 1
        _, _, dones, infos = venv.step(np.random.default_rng(int(steps.sum())).integers(2, size=N))
        for i, (done, info) in enumerate(zip(dones, infos, strict=True)):
            if done:
                even = {"even"} if steps[i] % 2 == 0 else set()
                assert info.keys() == {"terminal_observation", "TimeLimit.truncated", "is_success", "steps"} | even
                assert (info["is_success"], info["steps"]) == (info["TimeLimit.truncated"], steps[i])
                successes.add(bool(info["is_success"]))
            else:
                assert info == {}
        steps[dones] = 0
    assert successes == {True, False}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observer", ["latents", "pixels", "state"])
def test_observed_vec_env__gives_arrays_that_do_not_change(observer, mode, make_memory):
    """Not even over an environment that draws into the same memory again and again."""
    seen = {"latents": Latents(make_memory(2)), "pixels": Pixels(2), "state": TrueState(("angle",))}[observer]

    def trajectory(copy):
        env = vector_env("sync", CART_POLE, mode, copy=copy)
        env.factor_space = env.envs[0].unwrapped.factor_space
        venv = ObservedVecEnv(env, seen)
        venv.seed(0)
        given, rng = [venv.reset()], np.random.default_rng(0)
        before = [given[0].copy()]
        for _ in range(30):
            observations, _, _, infos = venv.step(rng.integers(2, size=N))
            new = [observations, *(info["terminal_observation"] for info in infos if info)]
            given, before = [*given, *new], [*before, *(x.copy() for x in new)]
        for after, first in zip(given, before, strict=True):
            np.testing.assert_array_equal(after, first, strict=True)
        return given

    for reused, own in zip(trajectory(False), trajectory(True), strict=True):
        np.testing.assert_array_equal(reused, own)


def test_observed_vec_env__seeds_once(make_memory):
    def first(seed):
        venv = LatentVecEnv(vector_env("native", CART_POLE), make_memory(2))
        assert venv.seed(seed) == [seed + i for i in range(N)]
        return venv.reset(), venv.reset()

    (one, then), (again, then_again), (shifted, _) = first(7), first(7), first(8)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(then, then_again)
    np.testing.assert_array_equal(one[1:], shifted[:-1])
    assert (one != then).any(axis=1).all()


def test_observed_vec_env__starts_from_given_states():
    env = vector_env("native", REACH)
    venv = ObservedVecEnv(env, TrueState(("location",)))
    location = np.full((N, 2), 5.0, np.float32)
    venv.set_options({"state": {"location": location}})
    np.testing.assert_array_equal(venv.reset()[:, :2], location)
    assert (venv.reset()[:, :2] != location).any()
    with pytest.raises(ValueError, match="worlds are reset together: give one dictionary of options, got a list of 4"):
        venv.set_options([{}] * N)


def test_observed_vec_env__refuses_what_are_not_frames():
    env = gymnasium.make_vec("CartPole-v1", 2)
    with pytest.raises(
        ValueError, match=r"policies see uint8 frames \[H, W, C\]; this environment observes Box\(.*env_id"
    ):
        ObservedVecEnv(env, Pixels())


def test_observed_vec_env__refuses_single_environments():
    with pytest.raises(ValueError, match=r"env must be a vector environment, such as gymnasium.make_vec makes, got <"):
        ObservedVecEnv(single(**REACH), Pixels())


def test_observed_vec_env__refuses_goals_that_are_not_told():
    with pytest.raises(ValueError, match="there is a goal that frames do not show, and Gymnasium's own"):
        ObservedVecEnv(vector_env("sync", REACH), Pixels())


def test_latents__refuse_what_is_no_world_model():
    with pytest.raises(
        ValueError, match=r"model must be a world model, such as jepa_worlds.load\(run\) gives, got 'runs/a'"
    ):
        LatentVecEnv(vector_env("native", CART_POLE), "runs/a")


def test_latent_vec_env__refuses_frames_of_another_shape(make_model):
    model = make_model((16, 16, 3))
    env = vector_env("native", CART_POLE)
    assert LatentVecEnv(env, model).observation_space == spaces.Box(-np.inf, np.inf, (6,), np.float32)
    for size in (18, 20):  # that cannot be cut into patches, and of too many
        env = vector_env("native", {**CART_POLE, "size": size})
        with pytest.raises(ValueError, match=rf"does not take frames of shape \({size}, {size}, 3\) \(H, W, C\): make"):
            LatentVecEnv(env, model)


def test_latent_vec_env__refuses_models_in_training(make_model):
    with pytest.raises(ValueError, match=r"EncoderPredictor is in training mode: call its eval\(\) first"):
        LatentVecEnv(vector_env("native", CART_POLE), make_model((16, 16, 3)).train())
