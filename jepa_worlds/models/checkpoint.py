"""Models in run folders: ``model.safetensors`` holds the weights, ``model.json`` all that is needed to rebuild them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialised

from agents.world_models.core import WorldModel
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import atomic, read_json, write_json
from jepa_worlds.shared.seeding import random_state_kept

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = "jepa_worlds/model/1"


def save(model: WorldModel, card: dict[str, Any], run: Path) -> None:
    """Write a model. ``card`` holds its configuration under ``model``, its ``spec``, and where it comes from."""
    save_tensors(model.state_dict(), run / WEIGHTS)
    write_json(run / CARD, card)


def read_card(run: str | Path) -> dict[str, Any]:
    """What a run's ``model.json`` says.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: the file does not describe one, or in another format.
    """
    file = Path(run) / CARD
    if not file.is_file():
        hint = "its training has not finished" if (Path(run) / "config.yaml").is_file() else "it is not a training run"
        raise FileNotFoundError(f"no model in {str(run)!r}: {hint}; make one with jepa_worlds.train … out={run}")
    card = read_json(file)
    if not (isinstance(card, dict) and {"model", "spec"} <= card.keys()):
        raise ValueError(f"{file} does not describe a model: it should hold 'model' and 'spec'")
    if card.get("format") != FORMAT:
        raise ValueError(
            f"{file} is not a model of format {FORMAT!r}: its format is {card.get('format')!r}; load it with the "
            f"version of jepa_worlds that wrote it, or train again"
        )
    return card


def load(run: str | Path, device: str | torch.device = "cpu", trust: tuple[str, ...] = ()) -> WorldModel:
    """The world model of a run folder, in evaluation mode; no parameter asks for gradients.

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
    model = rebuilt(card["model"], trust, str(Path(run) / CARD))
    weights = load_tensors(Path(run) / WEIGHTS)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        *_, first = str(error).splitlines()[:2]  # a heading, then a line for every tensor
        raise ValueError(
            f"{Path(run) / WEIGHTS} does not fit {CARD}: {first.strip()} Copy both from the same run, or train again"
        ) from error
    return model.to(device).eval().requires_grad_(False)


def rebuilt(config: Any, trust: tuple[str, ...], source: str) -> WorldModel:
    """The world model of a configuration, with fresh weights; ``source`` is where errors say that it comes from.

    Raises:
        ValueError: a class that is not trusted, or a configuration of something else.
    """
    try:
        model = build(config, ("agents", *trust))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{source} describes no model that can be built: {error}") from error
    if not isinstance(model, WorldModel):
        raise ValueError(f"{source} describes a {type(model).__name__}, which is not a WorldModel")
    return model


def save_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Write tensors atomically. Those that share memory, such as tied weights, are written one by one."""
    apart = {name: x.detach().clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
    with atomic(file) as temporary:
        temporary.write_bytes(serialised(apart))


def load_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; copy it from where the run is whole, or train again")
    try:
        return load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}; copy it again from where it is whole, or train again") from error


def untrained(build: Callable[[], WorldModel], seed: int) -> WorldModel:
    """A model with fresh weights, drawn from a seed; the global random state stays as it was."""
    with random_state_kept(seed=seed):
        return build().eval().requires_grad_(False)
