"""Models in run folders: ``model.safetensors`` holds the weights, ``model.json`` all that is needed to rebuild them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from agents.world_models.core import WorldModel
from jepa_worlds.build import build
from jepa_worlds.files import atomic, read_json, write_json

WEIGHTS, CARD = "model.safetensors", "model.json"


def save(model: WorldModel, card: dict[str, Any], run: Path) -> None:
    """Write a model. ``card`` holds its configuration under ``model``, its ``spec``, and where it comes from."""
    save_tensors({name: x.detach() for name, x in model.state_dict().items()}, run / WEIGHTS)
    write_json(run / CARD, card)


def read_card(run: str | Path) -> dict[str, Any]:
    """What a run's ``model.json`` says.

    Raises:
        FileNotFoundError: the folder holds no model.
    """
    file = Path(run) / CARD
    if not file.is_file():
        hint = "its training has not finished" if (Path(run) / "config.yaml").is_file() else "it is not a training run"
        raise FileNotFoundError(f"no model in {str(run)!r}: {hint}; make one with jepa_worlds.train … out={run}")
    card = read_json(file)
    if not (isinstance(card, dict) and {"model", "spec"} <= card.keys()):
        raise ValueError(f"{file} does not describe a model")
    return card


def load(run: str | Path, device: str | torch.device = "cpu", trust: tuple[str, ...] = ()) -> WorldModel:
    """The world model of a run folder, in evaluation mode.

    Nothing is unpickled, and no class outside `agents` is built unless its package is named in ``trust``.

    Args:
        run: the folder that ``jepa_worlds.train`` wrote.
        device: where the model goes.
        trust: packages beside `agents` whose classes may be built.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: a class that is not trusted, or weights that are damaged or do not fit the configuration.
    """
    card = read_card(run)
    model = build(card["model"], ("agents", *trust))
    if not isinstance(model, WorldModel):
        raise ValueError(f"{Path(run) / CARD} describes a {type(model).__name__}, which is not a WorldModel")
    weights = load_tensors(Path(run) / WEIGHTS)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{Path(run) / WEIGHTS} does not fit {CARD}: {error}") from error
    return model.to(device).eval().requires_grad_(False)


def save_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Write tensors atomically."""
    with atomic(file) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)


def load_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing")
    try:
        return load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
