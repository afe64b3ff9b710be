from __future__ import annotations

import zipfile

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import envs  # noqa: F401
from agents.behaviours.mixture import Mixture
from agents.behaviours.sb3_policy import SB3Policy
from agents.behaviours.uniform import Uniform
from agents.policies.core import Goal
from agents.policies.latents import Latents
from agents.policies.vec_env import ObservedVecEnv
from agents.world_models.core import WorldModel
from envs import random


class Memory(WorldModel):
    """A recurrent model: z = (what was seen, what was done), both of all frames so far, in exact numbers."""

    latent_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 3.0]))
        self.eval()

    def update(self, state, action, frame):
        last = torch.zeros(len(frame), 2) if state is None else state
        done = torch.zeros(len(frame)) if action is None else (action * self.weights).sum(1)
        pixels = torch.arange(frame[0].numel()) % 7
        return last / 2 + torch.stack([(frame.flatten(1) * pixels).sum(1).float(), done], dim=1)

    encode = predict = loss = None  # type: ignore[assignment]


class FactorEnv(gymnasium.ObservationWrapper):
    """What a policy is trained on if it sees the factors ``angle`` and ``angular_velocity``."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("jepa_worlds/Pendulum-v0", size=16))
        self.observation_space = spaces.Box(-8, 8, (3,), np.float32)

    def reset(self, **kwargs):
        _, info = self.env.reset(**kwargs)
        return self._seen(info), info

    def step(self, action):
        _, *rest, info = self.env.step(action)
        return self._seen(info), *rest, info

    def _seen(self, info):
        return np.concatenate([info["factors"]["angle"], info["factors"]["angular_velocity"]])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Policies that were trained for a few steps: {algorithm: (model, path)}."""
    folder = tmp_path_factory.mktemp("policies")
    off_policy = {"learning_starts": 4, "batch_size": 4, "buffer_size": 50}
    settings: dict[str, dict] = {
        "PPO": {"n_steps": 16, "batch_size": 16},
        "A2C": {"n_steps": 16},
        "SAC": off_policy,
        "TD3": off_policy,
        "DDPG": off_policy,
        "DQN": off_policy,
    }
    models = {}
    for name, given in settings.items():
        env = "CartPole-v1" if name == "DQN" else FactorEnv()
        small = {"net_arch": [8]}  # which some algorithms add to
        models[name] = getattr(stable_baselines3, name)("MlpPolicy", env, policy_kwargs=small, seed=0, **given)
    for name, model in models.items():
        model.learn(16)
        model.save(folder / name)
    return {name: (model, str(folder / f"{name}.zip")) for name, model in models.items()}


@pytest.fixture(scope="module")
def on_frames(tmp_path_factory):
    """A policy that sees frames: (model, path, its environment)."""
    env = gymnasium.make("jepa_worlds/MovingDot-v0", size=36)
    model = stable_baselines3.PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0)
    model.learn(8)
    path = tmp_path_factory.mktemp("policies") / "frames.zip"
    model.save(path)
    return model, str(path), env


PENDULUM = {"observe": ["angle", "angular_velocity"]}


def begun(behaviour, key, space, frames, factors, goal=None):
    """The state with which the first step is taken."""
    return behaviour.look(behaviour.start(key, space), frames, factors, goal)


def pendulum(n):
    """Frames, factors and the action space of some pendulums."""
    env = gymnasium.make_vec("jepa_worlds/Pendulum-v0", n, size=16)
    frames, info = env.reset(seed=0)
    return frames, {name: info["factors"][name] for name in env.factor_space}, env.single_action_space


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "SAC", "TD3", "DDPG"])
@pytest.mark.parametrize("named", [False, True])
def test_sb3_policy__acts_as_the_policy_itself(algorithm, named, trained, keys):
    model, path = trained[algorithm]
    frames, factors, space = pendulum(12)
    behaviour = SB3Policy(path, algorithm if named else None, **PENDULUM)
    state = begun(behaviour, keys(12), space, frames, factors)
    actions, _ = behaviour.act(state, frames, factors)
    seen = np.concatenate([factors["angle"], factors["angular_velocity"]], axis=1)
    expected = np.stack([model.predict(row, deterministic=True)[0] for row in seen])
    np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(actions)) > 1
    assert actions.dtype == np.float32


def test_sb3_policy__acts_in_discrete_spaces(trained, keys):
    model, path = trained["DQN"]
    observed = np.random.default_rng(0).normal(0, 2, (40, 4)).astype(np.float32)
    behaviour = SB3Policy(path, observe=["x"])
    frames = np.zeros((40, 1, 1, 1), np.uint8)
    state = begun(behaviour, keys(40), spaces.Discrete(2), frames, {"x": observed})
    actions, _ = behaviour.act(state, frames, {"x": observed})
    assert actions.tolist() == [int(model.predict(row, deterministic=True)[0]) for row in observed]
    assert actions.shape == (40,)
    assert len(set(actions.tolist())) == 2


def test_sb3_policy__sees_frames(on_frames, keys):
    model, path, env = on_frames
    batch = gymnasium.make_vec("jepa_worlds/MovingDot-v0", 5, size=36)
    frames, _ = batch.reset(seed=0)
    behaviour = SB3Policy(path)
    actions, _ = behaviour.act(begun(behaviour, keys(5), env.action_space, frames, {}), frames, {})
    expected = np.stack([model.predict(frame, deterministic=True)[0] for frame in frames])
    np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(actions, axis=0)) == 5


def test_sb3_policy__epsilon_is_the_share_of_uniform_actions(trained, keys):
    n, (_, path) = 400, trained["PPO"]
    frames, factors, space = pendulum(n)
    greedy, lost, half = (SB3Policy(path, epsilon=epsilon, **PENDULUM) for epsilon in (0.0, 1.0, 0.25))
    policy = greedy.act(begun(greedy, keys(n), space, frames, factors), frames, factors)[0]
    drawn = []
    for behaviour in (lost, half):
        state = begun(behaviour, keys(n), space, frames, factors)
        for _ in range(2):
            actions, state = behaviour.act(state, frames, factors)
            drawn.append(actions)
    unit = np.sort((drawn[0][:, 0] + 2) / 4)
    assert np.abs(unit - np.arange(n) / n).max() < np.sqrt(-np.log(1e-6 / 2) / (2 * n)) + 0.003
    assert (drawn[0] != drawn[1]).all()
    for actions in drawn[2:]:
        explored = (actions != policy).any(axis=1)
        assert abs(explored.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)
    assert ((drawn[2] != policy) != (drawn[3] != policy)).any()


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_sb3_policy__does_not_depend_on_batch_size_or_place(epsilon, trained, keys, assert_unchanged):
    frames, factors, space = pendulum(20)
    key = keys(20)

    def act(part):
        behaviour = SB3Policy(trained["SAC"][1], epsilon=epsilon, **PENDULUM)
        some = {name: x[part] for name, x in factors.items()}
        state = begun(behaviour, key[part], space, frames[part], some)
        with assert_unchanged(state), assert_unchanged(some):
            first, state = behaviour.act(state, frames[part], some)
        return np.stack([first, behaviour.act(state, frames[part], some)[0]], axis=1)

    whole = act(slice(None))
    np.testing.assert_array_equal(act(slice(None, None, -1)), whole[::-1])
    np.testing.assert_array_equal(np.concatenate([act(slice(i, i + 1)) for i in range(20)]), whole)


def test_sb3_policy__reads_the_file_when_it_starts(tmp_path, keys):
    behaviour = SB3Policy(str(tmp_path / "none.zip"))
    with pytest.raises(ValueError, match=r"no policy at path='.*none.zip': give the .zip file that .* save\(\) wrote"):
        behaviour.start(keys(2), spaces.Discrete(2))


@pytest.mark.parametrize("kind", ["text", "zip", "list", "strange"])
def test_sb3_policy__refuses_files_that_are_no_policies(kind, tmp_path, keys):
    path = tmp_path / "policy.zip"
    if kind == "text":
        path.write_text("not a zip")
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("other" if kind == "zip" else "data", "[1]" if kind == "list" else "{}")
    message = (
        "is of an algorithm that is none of" if kind == "strange" else "is not a policy that Stable-Baselines3 saved"
    )
    with pytest.raises(ValueError, match=f"policy.zip' {message}"):
        SB3Policy(str(path)).start(keys(2), spaces.Discrete(2))


def test_sb3_policy__refuses_a_policy_of_another_algorithm(trained, keys):
    path = trained["PPO"][1]
    with pytest.raises(ValueError, match=r"PPO.zip' cannot be loaded as a policy of SAC: "):
        SB3Policy(path, "SAC").start(keys(2), spaces.Box(-2, 2, (1,)))


def test_sb3_policy__refuses_other_spaces(trained, on_frames, keys):
    path = trained["PPO"][1]
    with pytest.raises(ValueError, match=r"PPO.zip' acts in Box\(-2.0, 2.0, .*, the environment takes Discrete\(2\)"):
        SB3Policy(path).start(keys(2), spaces.Discrete(2))
    frames, factors, space = pendulum(2)
    for given, message in (
        ({}, r"observes Box\(-8.0, 8.0, \(3,\), float32\), but would be given Box\(0, 255, \(3, 16, 16\), uint8\)"),
        ({"observe": ["angle"]}, r"but would be given Box\(-inf, inf, \(2,\), float32\); set observe"),
        ({"observe": ["angle", "mood"]}, r"there are no factors \['mood'\] among \['angle', "),
    ):
        with pytest.raises(ValueError, match=message):
            begun(SB3Policy(path, **given), keys(2), space, frames, factors)
    _, path, env = on_frames
    with pytest.raises(ValueError, match=r"but would be given Box\(0, 255, \(1, 40, 40\), uint8\)"):
        begun(SB3Policy(path), keys(2), env.action_space, np.zeros((2, 40, 40, 1), np.uint8), {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": 1.5}, "epsilon must be from 0 to 1, got 1.5"),
        ({"algorithm": "REINFORCE"}, r"algorithm must be one of \['PPO', .*\], or null, got 'REINFORCE'"),
        ({"observe": "location"}, "observe must be 'frames', a list of factors or an observer, got 'location'"),
        ({"observe": []}, r"observe must be 'frames', a list of factors or an observer, got \[\]"),
    ],
)
def test_sb3_policy__refuses_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        SB3Policy("policy.zip", **given)


def test_sb3_policy__random_actions_are_those_of_uniform(trained, keys):
    frames, factors, space = pendulum(9)
    behaviour = SB3Policy(trained["PPO"][1], epsilon=1.0, **PENDULUM)
    state = begun(behaviour, keys(9), space, frames, factors)
    own = {name.removeprefix("uniform."): x for name, x in state.items() if name.startswith("uniform.")}
    np.testing.assert_array_equal(behaviour.act(state, frames, factors)[0], Uniform().act(own, frames, factors)[0])


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
    """A policy that sees a goal through a recurrent world model and a normalisation: (its environment, settings)."""
    folder = tmp_path_factory.mktemp("policies")
    worlds = ObservedVecEnv(gymnasium.make_vec("jepa_worlds/MovingDotReach-v0", 4), Latents(Memory()))
    env = VecNormalize(worlds)
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=8, batch_size=16, policy_kwargs={"net_arch": [8]}, seed=0)
    model.learn(64)
    model.save(folder / "policy.zip")
    env.save(str(folder / "normaliser.pkl"))
    env.training = False
    return model, env, {"path": str(folder / "policy.zip"), "normaliser": str(folder / "normaliser.pkl")}


def reached(n, seed=0):
    """Worlds with a goal, their first frames and factors, and the goals."""
    worlds = gymnasium.make_vec("jepa_worlds/MovingDotReach-v0", n)
    frames, infos = worlds.reset(seed=seed)
    return worlds, frames, infos["factors"], Goal(*worlds.unwrapped.goal())


def test_sb3_policy__sees_through_a_recurrent_model_what_it_was_trained_on(recurrent, keys):
    model, env, files = recurrent
    worlds, frames, factors, goal = reached(4)
    behaviour = SB3Policy(**files, observe=Latents(Memory()))
    state = begun(behaviour, keys(4), worlds.single_action_space, frames, factors, goal)
    env.seed(0)
    seen, taken = env.reset(), []
    for _ in range(5):
        taken.append(np.stack([model.predict(row, deterministic=True)[0] for row in seen]))
        seen, *_ = env.step(taken[-1])
        actions, state = behaviour.act(state, frames, factors)
        np.testing.assert_array_equal(actions, taken[-1])
        frames, *_, infos = worlds.step(actions)
        factors = infos["factors"]
    assert len(np.unique(np.stack(taken))) > 30


def test_sb3_policy__sees_the_goal_if_it_was_trained_to(recurrent, on_frames, keys):
    worlds, frames, factors, goal = reached(3)
    behaviour = SB3Policy(**recurrent[2], observe=Latents(Memory()))

    def first(goal):
        state = begun(behaviour, keys(3), worlds.single_action_space, frames, factors, goal)
        return behaviour.act(state, frames, factors)[0]

    elsewhere = Goal(goal.frames[::-1].copy(), {name: x[::-1] for name, x in goal.factors.items()})
    assert (first(goal) != first(elsewhere)).any(axis=1).tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"observes Box\(-inf, inf, \(4,\), .* but would be given .* \(2,\)"):
        first(None)
    model, path, env = on_frames  # on frames alone: it does without
    larger = np.zeros((3, 36, 36, 1), np.uint8)
    blind = SB3Policy(path)
    state = begun(blind, keys(3), env.action_space, larger, {}, Goal(larger + 9, {}))
    np.testing.assert_array_equal(blind.act(state, larger, {})[0][0], model.predict(larger[0], deterministic=True)[0])


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_sb3_policy__remembers_the_same_in_any_batch_and_in_a_mixture(epsilon, recurrent, keys, assert_unchanged):
    behaviour = SB3Policy(**recurrent[2], observe=Latents(Memory()), epsilon=epsilon)
    worlds, *_ = reached(6)

    def acted(behaviour, key, part):
        worlds, frames, _, goal = reached(6)
        goal = Goal(goal.frames[part], {name: x[part] for name, x in goal.factors.items()})
        state = begun(behaviour, key[part], worlds.single_action_space, frames[part], {}, goal)
        actions = []
        for _ in range(3):
            with assert_unchanged(state):
                action, state = behaviour.act(state, frames[part], {})
            actions.append(action)
            frames = frames[:, ::-1].copy()  # something new to see, whatever was done
        return np.stack(actions, axis=1)

    key = keys(6)
    whole = acted(behaviour, key, slice(None))
    assert len(np.unique(whole)) > 20
    apart = [acted(behaviour, key, slice(i, i + 1)) for i in range(6)]
    np.testing.assert_array_equal(np.concatenate(apart), whole)
    mixture = Mixture({"any": Uniform(), "policy": behaviour}, {"any": 1, "policy": 1})
    mixed, alone = acted(mixture, key, slice(None)), acted(behaviour, random.fold_in(key, 2), slice(None))
    chosen = mixture.start(key, worlds.single_action_space)["part"] == 1
    assert 0 < chosen.sum() < 6
    np.testing.assert_array_equal(mixed[chosen], alone[chosen])


def test_sb3_policy__remembers_the_actions_that_were_taken(recurrent, keys):
    """Not those that the policy would have taken where others were drawn."""
    worlds, frames, factors, goal = reached(5)
    behaviour = SB3Policy(**recurrent[2], observe=Latents(Memory()), epsilon=1.0)
    state = begun(behaviour, keys(5), worlds.single_action_space, frames, factors, goal)
    first, state = behaviour.act(state, frames, factors)
    _, state = behaviour.act(state, frames, factors)
    np.testing.assert_allclose(state["observer.model"][:, 1], first @ [1, 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), (b"no pickle", "cannot be loaded: give what")]
)
def test_sb3_policy__refuses_files_that_are_no_normalisers(content, message, recurrent, keys, tmp_path):
    file = tmp_path / "normaliser.pkl"
    if content is not None:
        file.write_bytes(content)
    worlds, frames, factors, goal = reached(2)
    behaviour = SB3Policy(recurrent[2]["path"], observe=Latents(Memory()), normaliser=str(file))
    state = begun(behaviour, keys(2), worlds.single_action_space, frames, factors, goal)
    with pytest.raises(ValueError, match=message):
        behaviour.act(state, frames, factors)


def test_sb3_policy__refuses_the_normaliser_of_another_policy(recurrent, trained, keys):
    frames, factors, space = pendulum(2)
    behaviour = SB3Policy(trained["PPO"][1], normaliser=recurrent[2]["normaliser"], **PENDULUM)
    with pytest.raises(ValueError, match=r"normalises arrays of shape \(4,\), the policy observes \(3,\)"):
        behaviour.act(begun(behaviour, keys(2), space, frames, factors), frames, factors)
