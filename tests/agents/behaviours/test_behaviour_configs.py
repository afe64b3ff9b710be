"""Each behaviour collects a dataset from the command line."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import stable_baselines3

from jepa_worlds import collect
from jepa_worlds.shared.app import composed

SMALL = ["episodes=12", "episode_length=6", "validation=0.2", "test=0.2"]
CASES = {
    "two_rooms_expert": ["env=two_rooms", "behaviour.noise=0.1"],
    "maze_expert": ["env=point_maze", "env.maze=medium"],
    "correlated": ["env=reacher", "behaviour.time=3"],
    "mixture": [
        "env=two_rooms",
        "behaviour@behaviour.parts.first=two_rooms_expert",
        "behaviour.parts.first.noise=0.5",
        "behaviour.weights.first=3",
    ],
}


def columns(folder: Path, name: str) -> np.ndarray:
    return np.concatenate([np.load(shard / f"{name}.npy") for shard in sorted(folder.glob("shard-*"))])


@pytest.mark.parametrize("behaviour", CASES)
def test_behaviour_config__collects_the_same_data_in_batches_of_any_size(behaviour, tmp_path):
    for num_envs in (1, 5):
        overrides = [*SMALL, f"behaviour={behaviour}", *CASES[behaviour]]
        collect.main(composed("collect", [*overrides, f"num_envs={num_envs}", f"out={tmp_path / str(num_envs)}"]))
    actions = columns(tmp_path / "1", "actions")
    assert actions.shape == (72, 2)
    assert len(np.unique(actions)) > 72
    for name in ("actions", "frames"):
        np.testing.assert_array_equal(columns(tmp_path / "5", name), columns(tmp_path / "1", name))


def test_behaviour_config__sb3_collects_with_a_saved_policy(tmp_path):
    env = gymnasium.make("jepa_worlds/Reacher-v0", size=36)
    model = stable_baselines3.PPO("CnnPolicy", env, n_steps=2, batch_size=2, seed=0)
    model.save(tmp_path / "policy.zip")
    overrides = ["env=reacher", "env.size=36", "behaviour=sb3", f"behaviour.path={tmp_path / 'policy.zip'}"]
    collect.main(composed("collect", [*SMALL, *overrides, f"out={tmp_path / 'data'}"]))
    frames = columns(tmp_path / "data", "frames").reshape(12, 7, 36, 36, 3)[:, :-1].reshape(-1, 36, 36, 3)
    expected = np.stack([model.predict(frame, deterministic=True)[0] for frame in frames])
    np.testing.assert_array_equal(columns(tmp_path / "data", "actions"), expected)


def test_behaviour_config__sb3_needs_a_path():
    with pytest.raises(ValueError, match=r"behaviour.path=… must be given"):
        collect.main(composed("collect", [*SMALL, "env=reacher", "behaviour=sb3", "out=nowhere"]))
