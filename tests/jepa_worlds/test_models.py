"""Every model of the configurations trains, is saved, loaded, and does what a world model does."""

from __future__ import annotations

import json
import math
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

import jepa_worlds
from agents.world_models.core import NoDecoder, WorldModel
from jepa_worlds import train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows
from jepa_worlds.shared.app import CONFIGS, composed
from jepa_worlds.shared.runs import read_metrics

TINY = ["model.latent_dim=16", "batch_size=8", "window=9", "precision=fp32", "steps=2", "log_every=1"]
NARROW = {
    "space_to_depth": ["encoder.width=8"],
    "nested_patches": ["encoder.width=8", "encoder.patch=4"],
    "menet5": ["encoder.width=1"],
    "differences": ["encoder.encoder.width=8", "model.frames=2"],
}
SMALL = {
    "model=rssm": ["stochastic.choices=2", "stochastic.classes=3"],
    "model=rssm_gaussian": ["stochastic.dimensions=6"],
}
DRAWING = ("gru_autoencoder",)


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


MODELS, OBJECTIVES = options("model"), options("objective")
PARTS = ("encoder", "predictor", "optimizer")
ELBOS = ("elbo", "elbo_v1")  # of models with a posterior
LOSSES = [name for name in OBJECTIVES if name not in ("none", "reconstruction", *ELBOS)]
CASES = [
    *([f"model={model}"] for model in MODELS),
    *(["model=jepa", f"objective={objective}"] for objective in LOSSES),
    *(
        [f"model={DRAWING[0]}", f"objective={objective}", "decoder.width=8"]
        for objective in ("reconstruction", "vicreg")
    ),
    *(
        ["model=jepa", *(f"{group}={option}" for group, option in zip(PARTS, parts, strict=True) if option)]
        for parts in zip_longest(*map(options, PARTS))
    ),
    *([model, f"objective={elbo}"] for model, elbo in zip(SMALL, reversed(ELBOS), strict=True)),
    *(["objective=infonce", f"objective.terms.infonce.negatives={negatives}"] for negatives in ("time", "both")),
]


@pytest.mark.parametrize("overrides", CASES, ids=" ".join)
def test_model__trains_is_saved_and_loaded_and_does_what_world_models_do(
    overrides: list[str], dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "training_curves", lambda run: None)
    encoder = next((item.partition("=")[2] for item in overrides if item.startswith("encoder=")), "space_to_depth")
    where = [f"data={dataset_path}", f"out={tmp_path / 'run'}"]
    run = train.main(composed("train", [*where, *TINY, *overrides, *NARROW[encoder], *SMALL.get(overrides[0], [])]))

    card = json.loads((run / "model.json").read_text())
    logged = [row for row in read_metrics(run) if "train/loss" in row]
    assert len(logged) == (2 if card["objective"]["weights"] else 0)
    for row in logged:
        terms = {name: row[f"train/{name}"] for name in card["objective"]["weights"]}
        weighted = sum(weight * terms[name] for name, weight in card["objective"]["weights"].items())
        assert row["train/loss"] == pytest.approx(weighted, rel=1e-3, abs=1e-4)
        assert math.isfinite(row["train/gradient"]) and row["train/gradient"] > 0

    model = jepa_worlds.load(run)
    assert isinstance(model, WorldModel) and model.latent_dim == 16
    batch = Windows(Dataset(dataset_path), "test", 9).batch(0, 3, seed=0)
    latents = model.encode(batch["frames"], batch["actions"])
    assert latents.shape == (3, 9, 16) and latents.isfinite().all()
    rollout = model.predict(latents[:, :1], batch["actions"])
    assert rollout.shape == (3, 8, 16) and rollout.isfinite().all()
    torch.testing.assert_close(model.predict(latents[:, :1], batch["actions"][:, :3]), rollout[:, :3])  # causal
    assert not torch.equal(model.predict(latents[:, :1], -batch["actions"]), rollout)
    torch.testing.assert_close(model.update(None, None, batch["frames"][:, 0])[:, :16], latents[:, 0])
    if "decoder" in card["model"]:
        frames = model.decode(latents)
        assert frames.shape == batch["frames"].shape
        assert frames.min() >= 0 and frames.max() <= 255 and frames.std() > 0
    else:
        with pytest.raises(NoDecoder):
            model.decode(latents)


def test_cases__leave_out_no_configuration() -> None:
    """A new yaml in one of these folders is tested above without anybody having to think of it."""
    named = {item for overrides in CASES for item in overrides}
    for group in ("model", *PARTS):
        assert {f"{group}={option}" for option in options(group)} <= named
    assert {f"objective={option}" for option in OBJECTIVES} - named == {"objective=none"}  # which is model=random
    assert {"model=jepa", "model=gru_autoencoder", "model=supervised", "model=random"} <= named


@pytest.mark.parametrize("model", ["jepa", "gru_autoencoder"])
def test_model__of_another_frame_size_trains_too(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jepa_worlds import collect

    monkeypatch.setattr(train, "training_curves", lambda run: None)
    data = collect.main(
        composed("collect", ["env=three_dots", "env.size=20", "episodes=20", f"out={tmp_path / 'data'}"])
    )
    objective = ["objective.terms.supervised.factor=location.action"] if model == "supervised" else []
    run = train.main(
        composed("train", [f"data={data}", f"out={tmp_path / 'run'}", f"model={model}", *TINY, *objective])
    )
    latents = jepa_worlds.load(run).encode(torch.zeros(2, 3, 3, 20, 20, dtype=torch.uint8))
    assert latents.shape == (2, 3, 16)
