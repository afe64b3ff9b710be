"""What the two faces of a world refuse, and what they say."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 (registers the worlds)
from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from envs.faces import WorldEnv
from envs.vector_face import WorldVectorEnv

DOT = "jepa_worlds/MovingDot-v0"


def vector(name=DOT, n=5, **kwargs) -> WorldVectorEnv:
    return gymnasium.make_vec(name, n, **kwargs)


@pytest.mark.parametrize("make", [WorldEnv, lambda world: WorldVectorEnv(5, world)], ids=["env", "vector"])
def test_step__before_reset_is_refused(make):
    env = make("envs.worlds.moving_dot:MovingDot")
    with pytest.raises(ValueError, match=r"call reset\(\) first"):
        env.step(np.zeros(env.action_space.shape))
    with pytest.raises(ValueError, match=r"call reset\(\) first"):
        _ = env.state


@pytest.mark.parametrize("make", [gymnasium.make, vector])
def test_render__before_reset_is_refused(make):
    with pytest.raises(ValueError, match=r"call reset\(\) before render\(\)"):
        make(DOT, render_mode="rgb_array").unwrapped.render()


@pytest.mark.parametrize("make", [gymnasium.make, vector])
@pytest.mark.parametrize("bad", ["os:mkdir", "fractions:Fraction", "envs.distractors.uniform:UniformNoise"])
def test_make__calls_nothing_but_worlds(make, bad, tmp_path):
    with pytest.raises(ValueError, match=f"world must be the 'module:Class' of a subclass .*World, got '{bad}'"):
        make(DOT, world=bad, path=str(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("make", [gymnasium.make, vector])
def test_make__refuses_an_unknown_render_mode(make, recwarn):
    with pytest.raises(ValueError, match=r"render_mode must be None or one of \('rgb_array',\), got 'braille'"):
        make(DOT, render_mode="braille")


@pytest.mark.parametrize("make", [gymnasium.make, vector])
@pytest.mark.parametrize("bad", ["noise", UniformNoise(), 3, None, (Background(UniformNoise()), "noise")], ids=repr)
def test_make__refuses_what_is_no_distractor(make, bad):
    with pytest.raises(ValueError, match=r"distractor must be an envs\.distractors\.core\.Distractor or several, got"):
        make(DOT, distractor=bad)


@pytest.mark.parametrize("n", [0, -1])
def test_make_vec__refuses_no_worlds(n):
    with pytest.raises(ValueError, match=f"num_envs must be an integer of at least 1, got {n}"):
        vector(n=n)


def test_make_vec__refuses_an_unknown_autoreset_mode():
    with pytest.raises(ValueError, match="'sometimes' is not a valid AutoresetMode"):
        vector(autoreset_mode="sometimes")


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((1, 2)), 0.0, np.zeros((5, 2))], ids=str)
def test_step__refuses_an_action_of_another_shape(bad):
    env = gymnasium.make(DOT).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected actions of shape \(2,\) each, \(1, 2\) in all, got"):
        env.step(bad)


@pytest.mark.parametrize("bad", [np.zeros(2), np.zeros((4, 2)), np.zeros((5, 3)), np.zeros((5, 2, 1))], ids=np.shape)
def test_step__of_a_vector_refuses_actions_of_another_shape(bad):
    env = vector()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected actions of shape \(2,\) each, \(5, 2\) in all, got \("):
        env.step(bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_step__refuses_an_action_that_is_not_finite(bad, assert_same):
    env, batch = gymnasium.make(DOT).unwrapped, vector()
    env.reset(seed=0)
    batch.reset(seed=0)
    before = env.state, batch.state
    with pytest.raises(ValueError, match="actions must be finite and in Box"):
        env.step(np.array([0, bad]))
    many = np.zeros((5, 2), np.float32)
    many[3, 0] = bad
    with pytest.raises(ValueError, match="actions must be finite and in Box"):
        batch.step(many)
    assert_same((env.state, batch.state), before)  # refused, not half done


@pytest.mark.parametrize("bad", [-1, 3, 7, 0.5, np.nan])
def test_step__refuses_an_action_that_is_not_among_the_discrete_ones(bad):
    env, many = gymnasium.make("jepa_worlds/Acrobot-v0").unwrapped, vector("jepa_worlds/Acrobot-v0", 2)
    for face, action in ((env, bad), (many, np.array([0, bad]))):
        face.reset(seed=0)
        with pytest.raises(ValueError, match=r"actions must be finite and in Discrete\(3\), got"):
            face.step(action)


@pytest.mark.parametrize("make", [gymnasium.make, vector])
def test_reset__refuses_an_unknown_option(make):
    with pytest.raises(ValueError, match=r"unknown reset options \['speed'\]; known are \["):
        make(DOT).unwrapped.reset(options={"speed": 2})


@pytest.mark.parametrize(
    "bad",
    [[True] * 5, np.ones(4, bool), np.ones(5, int), np.zeros(5, bool), np.ones((5, 1), bool), True],
    ids=["a list", "too short", "integers", "nothing set", "two axes", "a scalar"],
)
def test_reset__refuses_a_bad_mask(bad):
    env = vector()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset_mask must be a bool array of shape \(5,\) with at least one True"):
        env.reset(options={"reset_mask": bad})


def test_reset__refuses_to_begin_with_some_of_the_worlds():
    with pytest.raises(ValueError, match=r"first reset\(\) must reset every world"):
        vector().reset(options={"reset_mask": np.array([True, False, False, False, False])})


def test_reset__refuses_an_unknown_state_variable():
    for env, place in ((gymnasium.make(DOT), [9, 9]), (vector(), [[9, 9]] * 5)):
        with pytest.raises(
            ValueError, match=r"unknown state variable 'place'; this world has \['distractor.time', 'location'\]"
        ):
            env.reset(seed=0, options={"state": {"place": place}})


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2)], ids=str)
def test_reset__refuses_a_state_of_another_shape(shape):
    with pytest.raises(ValueError, match="state variable 'location' has shape"):
        gymnasium.make(DOT).reset(options={"state": {"location": np.zeros(shape)}})


@pytest.mark.parametrize("shape", [(), (2,), (1, 2), (4, 2), (5,), (5, 3)], ids=str)
def test_reset__of_a_vector_refuses_states_of_another_shape(shape):
    with pytest.raises(ValueError, match="state variable 'location'"):
        vector().reset(options={"state": {"location": np.zeros(shape)}})


@pytest.mark.parametrize("seed", [[1, 2], [1] * 6, []], ids=str)
def test_reset__refuses_another_number_of_seeds(seed):
    with pytest.raises(ValueError, match=f"expected one seed for each of 5 worlds, got {len(seed)}"):
        vector().reset(seed=seed)


def test_step__refuses_worlds_that_the_caller_has_not_reset():
    env = vector(autoreset_mode="Disabled", max_episode_steps=2)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.reset(options={"reset_mask": np.array([False, True, True, False, True])})
    env.step(env.action_space.sample())
    with pytest.raises(ValueError, match=r"worlds \[0, 3\] have ended: reset them with options="):
        env.step(env.action_space.sample())
    env.reset(options={"reset_mask": np.array([True, False, False, True, False])})
    assert env.step(env.action_space.sample())[3].tolist() == [False, True, True, False, True]
