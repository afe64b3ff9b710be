"""What objectives and encoders need of their configurations, and of training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

import jepa_worlds
from agents.objectives.core import Terms, Views
from agents.objectives.part import Part
from agents.world_models.core import Batch
from jepa_worlds import train
from jepa_worlds.models.training import Trainer
from jepa_worlds.shared.app import composed
from jepa_worlds.shared.runs import read_metrics

TINY = ["model.latent_dim=8", "batch_size=8", "window=9", "precision=fp32", "log_every=1", "steps=2"]

Configuration = Callable[..., DictConfig]


@pytest.fixture
def configuration(dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """``configuration("objective=vicreg")``: that of a tiny training."""
    monkeypatch.setattr(train, "training_curves", lambda run: None)

    def make(*overrides: str) -> DictConfig:
        return composed("train", [f"data={dataset_path}", f"out={tmp_path / 'run'}", *TINY, *overrides])

    return make


def test_training_with_random_directions__goes_on_to_the_same_bits(
    configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.train_step

    def interrupted(trainer: Trainer, batch: Batch) -> dict[str, torch.Tensor]:
        if trainer.step == 3:
            raise InterruptedError
        return original(trainer, batch)

    config = configuration("objective=lejepa", "steps=5", "diagnose_every=2", "save_every=2")
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Trainer, "train_step", interrupted)
        train.main(copy.deepcopy(config))
    run = train.main(copy.deepcopy(config))
    config.out = str(tmp_path / "whole")
    whole = train.main(config)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    losses = [[row["train/loss"] for row in read_metrics(folder) if "train/loss" in row] for folder in (run, whole)]
    assert losses[0] == losses[1] and len(losses[0]) == 5


@pytest.mark.parametrize("dim", [5, 7, 8])
@pytest.mark.parametrize(("first", "last"), [(0, 0.5), (0.5, 1), (0.3, 0.9)])
def test_share__is_the_size_of_a_part(first: float, last: float, dim: int) -> None:
    class Size(nn.Module):
        def forward(self, views: Views) -> Terms:
            return {"size": torch.tensor(views.latents.shape[-1])}

    said = OmegaConf.create({"dim": dim, "size": f"${{share:${{dim}},{first},{last}}}"}).size
    latents = torch.zeros(2, 3, dim)
    views = Views(latents, latents, actions=torch.zeros(2, 2, 1), frames=torch.zeros(2, 3, 1, 1, 1), factors={})
    assert Part(Size(), first, last, "part")(views)["part_size"] == said


def test_part__of_an_objective_with_weights_of_its_own_trains(configuration: Configuration) -> None:
    run = train.main(configuration("objective=slow_fast", "model.latent_dim=9"))
    assert jepa_worlds.load(run).objectives["inverse"].objective.action[0].in_features == 2 * 5
    assert sum("train/fast_inverse_dynamics" in row for row in read_metrics(run)) == 2


@pytest.mark.parametrize("frames", [1, 3])
def test_differences__say_how_many_frames_they_need(frames: int, configuration: Configuration) -> None:
    with pytest.raises(ValueError, match=f"set model.frames=2, got {frames}"):
        train.main(configuration("encoder=differences", f"model.frames={frames}"))


def test_differences__may_keep_the_newest_frame(configuration: Configuration) -> None:
    keep = ["encoder.keep_newest=true", "encoder.encoder.frame_shape=${spec.input_shape}"]
    run = train.main(configuration("encoder=differences", "model.frames=2", *keep))
    encoder = jepa_worlds.load(run).encoder
    assert encoder.keep_newest and encoder.encoder.frame_shape == (2, 28, 28)
