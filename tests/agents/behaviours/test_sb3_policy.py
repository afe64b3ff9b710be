from __future__ import annotations

import zipfile

import gymnasium
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces

import envs  # noqa: F401
from agents.behaviours.sb3_policy import SB3Policy
from agents.behaviours.uniform import Uniform


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
    state = behaviour.start(keys(12), space)
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
    state = behaviour.start(keys(40), spaces.Discrete(2))
    actions, _ = behaviour.act(state, np.zeros((40, 1, 1, 1), np.uint8), {"x": observed})
    assert actions.tolist() == [int(model.predict(row, deterministic=True)[0]) for row in observed]
    assert actions.shape == (40,)
    assert len(set(actions.tolist())) == 2


def test_sb3_policy__sees_frames(on_frames, keys):
    model, path, env = on_frames
    batch = gymnasium.make_vec("jepa_worlds/MovingDot-v0", 5, size=36)
    frames, _ = batch.reset(seed=0)
    behaviour = SB3Policy(path)
    actions, _ = behaviour.act(behaviour.start(keys(5), env.action_space), frames, {})
    expected = np.stack([model.predict(frame, deterministic=True)[0] for frame in frames])
    np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(actions, axis=0)) == 5


def test_sb3_policy__epsilon_is_the_share_of_uniform_actions(trained, keys):
    n, (_, path) = 400, trained["PPO"]
    frames, factors, space = pendulum(n)
    greedy, lost, half = (SB3Policy(path, epsilon=epsilon, **PENDULUM) for epsilon in (0.0, 1.0, 0.25))
    policy = greedy.act(greedy.start(keys(n), space), frames, factors)[0]
    drawn = []
    for behaviour in (lost, half):
        state = behaviour.start(keys(n), space)
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
        state, some = behaviour.start(key[part], space), {name: x[part] for name, x in factors.items()}
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
        ({}, r"observes Box\(-8.0, 8.0, \(3,\), float32\), but observe='frames' gives uint8 .* \(16, 16, 3\)"),
        ({"observe": ["angle"]}, r"but observe=\['angle'\] gives float32 arrays of shape \(2,\)"),
        ({"observe": ["angle", "mood"]}, r"observe names the factors \['mood'\], which are not among \['angle', "),
    ):
        behaviour = SB3Policy(path, **given)
        with pytest.raises(ValueError, match=message):
            behaviour.act(behaviour.start(keys(2), space), frames, factors)
    _, path, env = on_frames
    behaviour = SB3Policy(path)
    with pytest.raises(ValueError, match=r"but observe='frames' gives uint8 arrays of shape \(40, 40, 1\)"):
        behaviour.act(behaviour.start(keys(2), env.action_space), np.zeros((2, 40, 40, 1), np.uint8), {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": 1.5}, "epsilon must be from 0 to 1, got 1.5"),
        ({"algorithm": "REINFORCE"}, r"algorithm must be one of \['PPO', .*\], or null, got 'REINFORCE'"),
        ({"observe": "location"}, "observe must be 'frames' or a list of factors, got 'location'"),
        ({"observe": []}, r"observe must be 'frames' or a list of factors, got \[\]"),
    ],
)
def test_sb3_policy__refuses_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        SB3Policy("policy.zip", **given)


def test_sb3_policy__random_actions_are_those_of_uniform(trained, keys):
    frames, factors, space = pendulum(9)
    behaviour = SB3Policy(trained["PPO"][1], epsilon=1.0, **PENDULUM)
    state = behaviour.start(keys(9), space)
    own = {name.removeprefix("uniform."): x for name, x in state.items() if name.startswith("uniform.")}
    np.testing.assert_array_equal(behaviour.act(state, frames, factors)[0], Uniform().act(own, frames, factors)[0])
