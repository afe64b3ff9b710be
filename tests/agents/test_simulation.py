"""The true world as a model: what it foresees is what happens."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from agents.mpc import SearchSpace
from agents.simulation import inner_world, simulated_cost
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
    aim = np.array([[10.0, 20.0], [30.0, 5.0], [50.0, 50.0]])

    def distance(rows):
        return lambda factors: np.linalg.norm(factors["location"] - aim[rows], axis=1)

    begun = there.state
    found = simulated_cost(inner_world(there), begun, space, distance)(actions)
    rewarded = simulated_cost(inner_world(there), begun, space, None)(actions)
    for candidate in range(2):
        env.reset(seed=1)
        distances, rewards = [], []
        for step in range(5):
            _, reward, _, _, infos = env.step(actions[:, candidate, step].numpy())
            distances.append(distance(np.arange(3))(infos["factors"]))
            rewards.append(reward)
        np.testing.assert_allclose(found[:, candidate], np.mean(distances, axis=0), rtol=1e-6)
        np.testing.assert_allclose(rewarded[:, candidate], -np.mean(rewards, axis=0), rtol=1e-6)
    assert all((there.state[name] == x).all() for name, x in begun.items() if name == "goal")


def test_inner_world__is_beneath_all_that_changes_what_is_seen(env):
    assert type(inner_world(env.unwrapped)).__name__ == "PointMaze"
    assert inner_world(gymnasium.make("CartPole-v1").unwrapped) is None
