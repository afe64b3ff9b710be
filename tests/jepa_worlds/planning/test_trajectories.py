"""The latents that heads are fitted on: those of a dataset's episodes, encoded or imagined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.actions import vectors
from agents.objectives.core import Terms
from agents.world_models.core import Batch, WorldModel
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.planning import trajectories as trajectories_of
from jepa_worlds.planning.heads import sizes
from jepa_worlds.planning.trajectories import trajectories


class FirstPixels(WorldModel):
    """A latent is the first three numbers of a frame, and the sum of the actions before it."""

    latent_dim = 4

    def __init__(self, context: int = 1) -> None:
        super().__init__()
        self.context, self.scale = context, torch.nn.Parameter(torch.ones(()))

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        assert actions is not None
        told = torch.cat([torch.zeros(len(frames), 1), actions.sum(dim=2).cumsum(dim=1)], dim=1)
        return self.scale * torch.cat([frames.flatten(2)[..., :3].float(), told[..., None]], dim=2)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(self, batch: Batch) -> Terms:
        raise NotImplementedError


@pytest.fixture
def races(race: list[str], collect_to: Callable[..., Path], tmp_path: Path) -> Dataset:
    """Episodes of different lengths, choices, and rewards that tell where they come from."""
    return Dataset(collect_to(tmp_path / "races", *race, "episodes=30"))


def one_by_one(model: WorldModel, dataset: Dataset) -> dict[str, np.ndarray]:
    """What `trajectories` should give, an episode at a time, in no order: a row of all columns for each frame."""
    rows, first = [], model.context - 1
    for shard in dataset.shards("train"):
        for frame, step, length in zip(shard.first_frame, shard.first_step, shard.lengths, strict=True):
            if length <= first:
                continue
            frames = torch.tensor(shard.columns["frames"][frame : frame + length + 1][None]).permute(0, 1, 4, 2, 3)
            taken = torch.tensor(shard.columns["actions"][step : step + length][None])
            actions = vectors(taken, dataset.manifest["action"])
            z = model.encode(frames, actions)[0, first:].detach().numpy()
            ends = np.zeros((1, 4), np.float32)
            told = np.concatenate([actions[0, first:], shard.columns["rewards"][step + first : step + length, None]], 1)
            left = np.arange(len(z))[::-1, None]
            rows.append(np.concatenate([z, np.concatenate([told, ends]), left], axis=1))
    return np.concatenate(rows)


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("at_a_time", [1024, 5])
def test_trajectories__are_the_latents_of_whole_episodes(
    races: Dataset, context: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectories_of, "FRAMES", at_a_time)
    model = FirstPixels(context)
    data = trajectories(model, races)
    assert data.rewards is not None and len({*(data.last - torch.arange(len(data.last))).tolist()}) > 3
    left = (data.last - torch.arange(len(data.last)))[:, None]
    found = torch.cat([data.latents, data.actions, data.rewards[:, None], left], dim=1).numpy()
    np.testing.assert_array_equal(in_order(found), in_order(one_by_one(model, races)))
    # episodes are in one piece: the actions before a frame are what its latent says
    inside = data.steps()
    moved = data.latents[inside + 1, 3] - data.latents[inside, 3]
    torch.testing.assert_close(moved, data.actions[inside].sum(dim=1))


def test_trajectories__say_what_goals_latents_achieve(races: Dataset) -> None:
    class Sums(FirstPixels):
        def achieved_goal(self, latents: Tensor) -> Tensor:
            return latents[..., :3]

    whole, part = trajectories(FirstPixels(), races), trajectories(Sums(), races)
    assert torch.equal(whole.goals, whole.latents) and torch.equal(part.goals, part.latents[:, :3])
    told = sizes(Sums(), {"spec": {"action_dim": 3, "action_sizes": []}})  # to heads
    assert told == {"action_dim": 3, "action_sizes": [], "latent_dim": 4, "goal_dim": 3}


def test_trajectories__of_the_first_episodes(races: Dataset) -> None:
    model = FirstPixels()
    whole, some = len(trajectories(model, races).latents), trajectories(model, races, limit=20)
    assert 10 < len(some.latents) <= 20 < whole
    assert len(trajectories(model, races, limit=1).steps()) >= 1  # one episode at least


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_trajectories__that_are_imagined_begin_with_what_is_encoded(races: Dataset, steps: int, context: int) -> None:
    class Counting(FirstPixels):
        def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
            """The number of the step where pixels would be, and the sum of the actions as it is."""
            number = torch.arange(1.0, 1 + actions.shape[1])[None, :, None].expand(len(actions), -1, 3)
            return torch.cat([-number, latents[:, -1:, 3:] + actions.sum(dim=2).cumsum(dim=1)[..., None]], dim=2)

    whole, found = trajectories(FirstPixels(context), races), trajectories(Counting(context), races, imagined=steps)
    assert whole.rewards is not None and found.rewards is not None
    expected, first = [], 0
    while first < len(whole.last):
        last = int(whole.last[first])
        for start in range(first, last, steps):
            end = min(start + steps, last)
            row = torch.cat([whole.latents, whole.actions, whole.rewards[:, None]], dim=1)[start : end + 1]
            row[1:, :3] = -torch.arange(1.0, end - start + 1)[:, None]
            row[-1, 4:] = 0  # no action is taken there
            expected.append(torch.cat([row, torch.arange(end - start, -1, -1)[:, None]], dim=1))
        first = last + 1
    left = (found.last - torch.arange(len(found.last)))[:, None]
    rows = torch.cat([found.latents, found.actions, found.rewards[:, None], left], dim=1)
    np.testing.assert_array_equal(in_order(rows.numpy()), in_order(torch.cat(expected).numpy()))
    assert len(found.steps()) == len(whole.steps())  # none is lost


def test_trajectories__refuse_what_nothing_can_be_fitted_on(races: Dataset) -> None:
    with pytest.raises(ValueError, match="imagined must be an integer of at least 0, got -1"):
        trajectories(FirstPixels(), races, imagined=-1)
    with pytest.raises(ValueError, match="no train episode of at least 100 frames, and the model makes a latent of"):
        trajectories(FirstPixels(context=99), races)
    model = FirstPixels()
    model.scale.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model's latents are not finite"):
        trajectories(model, races)
