"""The true world as a model: what it foresees is what happens."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from agents.mpc import MPC, SearchSpace
from agents.planners.cem import CEM
from agents.simulation import Wanted, inner_world, simulated_cost
from envs.core import apart
from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise


@pytest.fixture
def env():
    noise = Background(UniformNoise(), "dynamic")
    made = gymnasium.make_vec("jepa_worlds/PointMaze-v0", num_envs=3, distractor=noise, frame_stack=2, reward="dense")
    made.reset(seed=1)
    return made


def test_simulated_cost__is_what_happens(env):
    """Two candidates for each of three worlds, one after the other in the real ones."""
    there, space = env.unwrapped, SearchSpace.of(env.single_action_space)
    actions = torch.rand(3, 2, 5, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    aim = np.array([[20.0, 20.0], [20.0, 44.0], [20.0, 44.0]])

    begun = there.state
    found = simulated_cost(inner_world(there), begun, space, Wanted("location", aim))(actions)
    rewarded = simulated_cost(inner_world(there), begun, space, None)(actions)
    for candidate in range(2):
        env.reset(seed=1)
        distances, straight, rewards = [], [], []
        for step in range(5):
            _, reward, _, _, infos = env.step(actions[:, candidate, step].numpy())
            distances.append(there.world.distance(there.state, "location", aim))
            straight.append(np.linalg.norm(infos["factors"]["location"] - aim, axis=1))
            rewards.append(reward)
        np.testing.assert_allclose(found[:, candidate], np.mean(distances, axis=0), rtol=1e-6)
        assert (np.mean(distances, axis=0) > np.mean(straight, axis=0) + 5).any()  # there are walls on the way
        np.testing.assert_allclose(rewarded[:, candidate], -np.mean(rewards, axis=0), rtol=1e-6)
    assert all((there.state[name] == x).all() for name, x in begun.items() if name == "goal")


def test_simulated_cost__carries_nothing_that_is_only_seen(env, monkeypatch):
    world, seen = inner_world(env.unwrapped), []
    actual = world.transition
    monkeypatch.setattr(world, "transition", lambda state, action: seen.append({*state}) or actual(state, action))
    space = SearchSpace.of(env.single_action_space)
    simulated_cost(world, env.unwrapped.state, space, None)(torch.zeros(3, 1, 2, 2))
    assert seen == [{"location", "goal", "velocity"}] * 2
    assert {name.split(".")[0] for name in env.unwrapped.state} == {*seen[0], "distractor", "stack"}


def test_simulated_cost__leads_through_the_door():
    """Where the straight line ends at a wall: from one room to the place behind it."""
    env = gymnasium.make_vec("jepa_worlds/TwoRooms-v0", num_envs=2, max_episode_steps=40, wall=31.5, door=12.0)
    there, space = env.unwrapped, SearchSpace.of(env.single_action_space)
    given = {"location": np.array([[20.0, 50.0], [44.0, 50.0]]), "goal": np.array([[44.0, 50.0], [20.0, 54.0]])}
    _, infos = env.reset(seed=0, options={"state": given})
    mpc = MPC(CEM(candidates=60, elites=8, iterations=4), space, 6, executed=2)
    world = inner_world(there)
    for _ in range(30):
        state = there.state
        actions = mpc.act(2, lambda: simulated_cost(world, state, space, Wanted("location", given["goal"])))  # noqa: B023
        _, _, _, _, infos = env.step(space.taken(actions))
    assert (apart(infos["factors"]["location"], given["goal"]) < 1).all()


def test_simulated_cost__goes_on_with_nothing_that_is_over():
    """A car that reaches its goal at the third step is paid for three, whatever the plan would do next."""
    env = gymnasium.make_vec("jepa_worlds/MountainCar-v0", num_envs=1, continuous=False)
    there, space = env.unwrapped, SearchSpace.of(env.single_action_space)
    env.reset(seed=0, options={"state": {"position": np.array([0.35]), "velocity": np.array([0.06])}})
    plans = torch.nn.functional.one_hot(torch.tensor([[2] * 12, [0] * 12]), 3)[None].float()
    found = simulated_cost(inner_world(there), there.state, space, None)(plans)
    aim = Wanted("position", np.array([[0.5]]))
    distances = simulated_cost(inner_world(there), there.state, space, aim)(plans)
    over = [bool(env.step(np.array([2]))[2][0]) for _ in range(12)]
    assert 1 < (steps := 1 + over.index(True)) < 6
    assert found[0, 0] == pytest.approx(steps / 12)
    assert distances[0, 0] < 0.05  # it stays where it ended


def test_inner_world__is_beneath_all_that_changes_what_is_seen(env):
    assert type(inner_world(env.unwrapped)).__name__ == "PointMaze"
    assert inner_world(gymnasium.make("CartPole-v1").unwrapped) is None
    assert inner_world(SimpleNamespace(world="of another library")) is None
