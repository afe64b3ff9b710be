"""Environments that are registered with Gymnasium."""

from __future__ import annotations

import gc
import pickle
import sys
import warnings
from functools import partial
from types import ModuleType

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.utils.env_checker import check_env

from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from envs.external.frames import resized

ID = "jepa_worlds/Gymnasium-v0"
WHITE = (255, 255, 255)


def make(env_id: str = "CartPole-v1", **kwargs) -> gymnasium.Env:
    return gymnasium.make(ID, env_id=env_id, **kwargs)


def test_gymnasium_env__is_the_environment_itself(pygame, rollout):
    plain = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    for ours, theirs in zip(rollout(make(size=48), 40, 3), rollout(plain, 40, 3), strict=True):
        np.testing.assert_array_equal(ours[-1]["factors"]["state"], theirs[0])
        assert ours[1:-1] == theirs[1:-1]
    np.testing.assert_array_equal(ours[0], resized(plain.render(), 48))
    assert ours[0].shape == (48, 48, 3)


def test_gymnasium_env__passes_the_checkers(pygame):
    from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

    env = make(render_mode="rgb_array", grey=True, frame_stack=2, distractor=Background(UniformNoise(), "dynamic"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        warnings.simplefilter("ignore")  # advice on the number of channels
        check_env_for_sb3(env)
    env.close()


@pytest.mark.parametrize("blend", ["add", "over", "behind"])
def test_gymnasium_env__is_a_function_of_its_seed_under_every_blend(pygame, rollout, blend, assert_same):
    layers = Background(UniformNoise(), "dynamic", blend=blend)
    env = make(key_colour=WHITE, distractor=layers)
    first = rollout(env, 30, seed=5)  # over more than one episode
    assert_same(rollout(env, 30, seed=5), first)
    assert_same(rollout(make(key_colour=WHITE, distractor=layers), 30, seed=5), first)
    assert (rollout(env, 0, seed=6)[0][0] != first[0][0]).any()
    clean = rollout(make(), 30, seed=5)
    assert [seen[1:-1] for seen in first] == [seen[1:-1] for seen in clean]
    for seen in first:
        assert env.unwrapped.factor_space.contains(seen[-1]["factors"])
        assert env.observation_space.contains(seen[0])


def test_gymnasium_env__keeps_the_registered_limit_unless_a_shorter_one_is_given(pygame, monkeypatch):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    gymnasium.register("Brief-v0", "gymnasium.envs.classic_control.pendulum:PendulumEnv", max_episode_steps=9)
    for limits, length in (({}, 9), ({"max_episode_steps": 20}, 9), ({"max_episode_steps": 7}, 7)):
        env = make("Brief-v0", size=8, **limits)
        env.reset(seed=0)
        truncated = [env.step(np.zeros(1, np.float32))[3] for _ in range(length)]
        assert truncated == [False] * (length - 1) + [True]


def test_gymnasium_env__hands_arguments_on_to_the_environment(pygame):
    light = make("Pendulum-v1", g=0.0, max_episode_steps=-1)
    light.reset(seed=0)
    before = light.step(np.zeros(1, np.float32))[-1]["factors"]["state"][2]
    assert light.step(np.zeros(1, np.float32))[-1]["factors"]["state"][2] == before, "nothing falls where g = 0"


def test_pickle__begins_anew(pygame, rollout, assert_same):
    env = make(size=16, distractor=Background(UniformNoise()))
    expected = rollout(env, 5, seed=1)
    copy = pickle.loads(pickle.dumps(env))
    assert_same(rollout(copy, 5, seed=1), expected)


def test_gymnasium_env__has_the_joints_of_mujoco_as_factors(renders, rollout):
    env = make("InvertedPendulum-v5", size=32)
    for *_, info in rollout(env, 3, seed=0):
        factors = info["factors"]
        assert {name: x.shape for name, x in factors.items()} == {
            "state": (4,),
            "positions": (2,),
            "velocities": (2,),
            "background": (8,),
        }
        np.testing.assert_array_equal(np.concatenate([factors["positions"], factors["velocities"]]), factors["state"])
    assert env.unwrapped.render_backend in ("egl", "osmesa", "glfw", "default")
    env.close()


def test_gymnasium_env__renders_mujoco_plainly_and_at_the_size_of_a_frame_unless_asked(renders):
    frames, sizes = {}, {}
    for name, kwargs in {
        "fast": {},
        "shadow": {"keep": ["shadow"]},
        "pretty": {"fast": False, "width": 80, "height": 40},
    }.items():
        env = make("Hopper-v5", size=32, **kwargs)
        frames[name], _ = env.reset(seed=0)
        inner = env.unwrapped.distracted.unwrapped
        sizes[name] = inner.render().shape
        assert (inner.model.vis.quality.offsamples > 0) == (name == "pretty")
        env.close()
    assert sizes == {"fast": (32, 32, 3), "shadow": (32, 32, 3), "pretty": (40, 80, 3)}
    assert (frames["fast"] != frames["shadow"]).any()


def test_mujoco__environments_side_by_side_do_not_disturb_each_other(renders, rollout):
    def frames(env, steps=4):
        return [seen[0] for seen in rollout(env, steps, seed=0)]

    alone = make("Hopper-v5", size=32)
    expected = frames(alone)
    alone.close()
    one, other = make("Hopper-v5", size=32), make("InvertedPendulum-v5", size=24)
    frames(other)
    np.testing.assert_array_equal(frames(one), expected)
    other.close()
    np.testing.assert_array_equal(frames(one), expected)
    one.close()


def test_behind__leaves_mujocos_bodies_as_they_are(renders):
    clean = make("Hopper-v5", size=32)
    behind = make("Hopper-v5", size=32, distractor=Background(UniformNoise(), "dynamic", blend="behind"))
    for env in (clean, behind):
        env.reset(seed=0)
    for _ in range(3):
        frame, seen = (env.step(np.ones(3, np.float32))[0] for env in (clean, behind))
        same = (frame == seen).all(axis=-1)
        assert 0.01 < same.mean() < 0.1, "the hopper covers few pixels, and noise hits a colour by chance only"
        assert same[12:28].mean() > 2 * same[:6].mean()
    clean.close()
    behind.close()


def test_mujoco__is_drawn_whole_while_environments_are_collected(renders, monkeypatch):
    from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer

    behind = Background(UniformNoise(), "dynamic", blend="behind")
    env, forgotten = (make("Hopper-v5", size=32, distractor=behind) for _ in range(2))
    expected, _ = env.reset(seed=0)
    assert not (expected == forgotten.reset(seed=1)[0]).all()
    cycle: list = [forgotten]
    cycle.append(cycle)
    del forgotten, cycle
    make_current = OffScreenViewer.make_context_current

    def and_collect(self):
        make_current(self)
        if gc.isenabled():  # as it may happen at any time
            gc.collect()

    monkeypatch.setattr(OffScreenViewer, "make_context_current", and_collect)
    np.testing.assert_array_equal(env.reset(seed=0)[0], expected)
    assert gc.isenabled()
    env.close()


def test_pusht__shows_no_action_and_tells_the_poses():
    pytest.importorskip("gym_pusht", reason='needs gym-pusht: pip install "jepa_worlds[pusht]"')
    env = make(
        "gym_pusht/PushT-v0",
        module="gym_pusht",
        obs_type="pixels",
        info_factors=["pos_agent", "vel_agent", "block_pose"],
    )
    env.reset(seed=0)
    frame, *_, info = env.step(np.array([450, 60], np.float32))
    red = (frame[..., 0] > 180) & (frame[..., 1] < 90)
    assert not red.any(), "the cross where the action points is red"
    assert {name: x.shape for name, x in info["factors"].items()} == {
        "pos_agent": (2,),
        "vel_agent": (2,),
        "block_pose": (3,),
        "background": (8,),
    }
    np.testing.assert_array_equal(info["factors"]["pos_agent"], np.float32(info["pos_agent"]))


class Short(CartPoleEnv):
    """Takes the seeds that NumPy's older generator does."""

    def reset(self, *, seed=None, options=None):
        np.random.RandomState(seed)
        return super().reset(seed=seed, options=options)


def test_reset__hands_seeds_on_that_every_environment_takes(monkeypatch, pygame):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    gymnasium.register("Short-v0", entry_point=Short)
    plain, env = gymnasium.make("CartPole-v1"), make("Short-v0")
    for seed, handed_on in ((7, 7), (2**64 - 1, 2**31 - 1), (2**40 + 5, 5)):
        state = env.reset(seed=seed)[1]["factors"]["state"]
        np.testing.assert_array_equal(state, plain.reset(seed=handed_on)[0])
    with pytest.raises(gymnasium.error.Error, match="Seed must be greater or equal to zero"):
        make().reset(seed=-1)


class Blind(gymnasium.Env):
    """Renders for people only."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012
    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode


@pytest.fixture
def blind(monkeypatch):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    gymnasium.register("Blind-v0", entry_point=Blind)


def test_gymnasium_env__needs_pixels(blind):
    with pytest.raises(ValueError, match=r"Blind.* has no pixels.*\['human'\] lack rgb_array"):
        make("Blind-v0")


def test_gymnasium_env__names_ids_alike():
    with pytest.raises(gymnasium.error.NameNotFound, match="Did you mean: `CartPole`"):
        make("CartPol-v1")


def test_gymnasium_env__says_what_to_install(monkeypatch, pygame):
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    with pytest.raises(ValueError, match=r'needs gym_pusht, .*: pip install "jepa_worlds\[pusht\]"'):
        make("gym_pusht/PushT-v0", module="gym_pusht")
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ValueError, match=r'CartPole-v1.*pygame.*pip install "jepa_worlds\[classic\]"'):
        make()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ValueError, match=r'Hopper-v5.* needs mujoco, .*pip install "jepa_worlds\[control\]"'):
        make("Hopper-v5")


def test_gymnasium_env__says_which_argument_the_environment_does_not_take():
    with pytest.raises(ValueError, match=r"'CartPole-v1' cannot be made with .*unexpected keyword argument 'colour'$"):
        make(colour="red")


def test_module__registers_the_environment(monkeypatch, pygame):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(sys, "meta_path", [Registering(), *sys.meta_path])
    assert make("Late-v0", module="registers_late").reset(seed=0)[0].shape == (64, 64, 3)
    sys.modules.pop("registers_late")


def test_module__may_stand_before_the_id(monkeypatch, pygame):
    monkeypatch.setattr(sys, "meta_path", [Registering(), *sys.meta_path])
    for made in (make, partial(gymnasium.make_vec, ID, 1)):
        monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
        gymnasium.registry.pop("Late-v0", None)
        assert made(env_id="registers_late:Late-v0").reset(seed=0)[0].shape[-3:] == (64, 64, 3)
        sys.modules.pop("registers_late")
    with pytest.raises(ValueError, match="env_id='registers_nothing:Late-v0' needs registers_nothing, which does not"):
        make("registers_nothing:Late-v0")


class Registering:
    """A finder of the module ``registers_late``, which registers Late-v0 when it is imported."""

    def find_spec(self, name, path=None, target=None):
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self) if name == "registers_late" else None

    def create_module(self, spec):
        return ModuleType(spec.name)

    def exec_module(self, module):
        gymnasium.register("Late-v0", entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv")
