"""World models that were trained elsewhere, in run folders like those that `jepa_worlds.train` writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.world_models.core import Batch, WorldModel
from envs.arguments import require_whole
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import require_room, split_windows
from jepa_worlds.models.cards import card, spec
from jepa_worlds.models.checkpoint import CARD, rebuilt, save, untrained
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import untouched
from jepa_worlds.shared.seeding import random_state_kept

TRIED = 8  # windows on which a model shows what it does, at most
NAMED = 3  # differences that an error names, at most
TOLERANCE = 1e-3  # of the largest number, between what a model and its rebuilt twin compute


def adopt(
    model: WorldModel,
    config: Plain,
    data: str | Path,
    out: str | Path,
    *,
    window: int = 17,
    batch_size: int = 64,
    seed: int = 0,
    trust: tuple[str, ...] = (),
) -> Path:
    """Write a run folder of a model that was trained elsewhere: `load`, and whatever command takes a run, take it.

    The folder holds weights and configuration, nothing pickled; the model stays as it is.

    Args:
        model: the model, on any device. Policies and plans feed it frame by frame, through its ``update``.
        config: what rebuilds it, as ``model`` in a ``model.json``: its class as ``_target_``, and its arguments.
        data: the dataset whose train episodes it has learned from. It must not have seen the others.
        out: the folder; it must not be there, or be empty.
        window: frames a sequence, where a protocol does not say.
        batch_size: windows over which terms of its loss are averaged.
        seed: of its training, by which results name it.
        trust: packages beside `agents` whose classes may be built; commands take them as ``trust=[…]``.

    Raises:
        FileNotFoundError: there is no dataset.
        ValueError: a folder that holds something, a configuration that rebuilds another model, or a model that does
            not do on the dataset what a `WorldModel` does.
    """
    run = Path(out)
    if not untouched(run):
        raise ValueError(f"out={str(run)!r} exists: choose another folder, or remove it")
    config, dataset = _as_read(config), Dataset(data)
    twin = _twin(model, config, trust)
    require_whole(2, batch_size=batch_size)
    require_whole(0, seed=seed)
    require_whole(**{f"the model's {name}": getattr(twin, name, None) for name in ("latent_dim", "context")})
    require_room(twin.context, window)
    windows, device = split_windows(dataset, window)["validation"], next(twin.parameters()).device
    batch = {name: x.to(device) for name, x in windows.take(np.arange(min(TRIED, len(windows)))).items()}
    _require_same(_computed(model, batch), _computed(twin, batch))
    objective: Plain = {"terms": {}, "weights": {}}  # what it was, and how many steps it took, is not known
    told = {"model": config, "objective": objective, "spec": spec(dataset, twin.context), "steps": None}
    settings = {"data": str(data), "window": window, "batch_size": batch_size, "seed": seed}
    save(twin, card(dataset, {**told, **settings}), run)
    return run


def _as_read(config: Any) -> Any:
    """A configuration as it comes back from a file.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"config must hold dicts, lists, strings, finite numbers, True, False and None, as {CARD} does: {error}"
        ) from error


def _twin(model: WorldModel, config: Plain, trust: tuple[str, ...]) -> WorldModel:
    """What a configuration rebuilds, with a model's weights and on its device.

    Raises:
        ValueError: no world model, or one whose weights have other names or shapes.
    """
    if not isinstance(model, WorldModel):
        raise ValueError(f"model must be a WorldModel of agents.world_models.core, got {type(model).__name__}")
    if (parameter := next(model.parameters(), None)) is None:
        raise ValueError("model has no parameters, and its device is theirs: give it one")
    if "__main__" in trust:
        raise ValueError("commands cannot import __main__: put the class into a module of its own, and trust that")
    twin = untrained(lambda: rebuilt(config, trust, "config"), seed=0)
    given, here = ({name: list(x.shape) for name, x in one.state_dict().items()} for one in (model, twin))
    if other := [name for name in {**given, **here} if given.get(name) != here.get(name)]:
        said = [f"{name} {given.get(name, 'none')} given, {here.get(name, 'none')} rebuilt" for name in other[:NAMED]]
        more = f"; and {len(other) - NAMED} more" if len(other) > NAMED else ""
        raise ValueError(f"config rebuilds another model than the one given: {'; '.join(said)}{more}")
    twin.load_state_dict(model.state_dict())
    return twin.to(parameter.device)


def _computed(model: WorldModel, batch: Batch) -> dict[str, Tensor]:
    """What a model makes of a batch, in evaluation mode, as probes ask for it; its mode and random state are kept.

    Raises:
        ValueError: not what a world model makes of it.
    """
    frames, actions, first = batch["frames"], batch["actions"], model.context - 1
    (count, length), size = frames.shape[:2], model.latent_dim
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with random_state_kept(frames.device), torch.no_grad():
            latents = _asked(model, "encode", "[B, T, latent_dim]", [count, length, size], frames, actions)
            start, rest = latents[:, first : first + 1], actions[:, first:]
            futures = _asked(model, "predict", "[B, H, latent_dim]", [count, length - 1 - first, size], start, rest)
            _require_terms(model, batch)
    finally:
        for module, training in modes.items():
            module.training = training
    return {"encode": latents, "predict": futures}


def _asked(model: WorldModel, name: str, axes: str, shape: list[int], *given: Tensor) -> Tensor:
    """What a method of a model gives.

    Raises:
        ValueError: it fails, or gives something else than finite floats of that shape.
    """
    asked = f"{name}() of {' and '.join(map(_said, given))}"
    try:
        found = getattr(model, name)(*given)
    except Exception as error:
        raise ValueError(f"{asked} fails: {type(error).__name__}: {error}") from error
    if not isinstance(found, Tensor) or not found.is_floating_point() or list(found.shape) != shape:
        raise ValueError(f"{asked} must give floats {axes} = {shape}, got {_said(found)}")
    if not found.isfinite().all():
        raise ValueError(f"{asked} gives numbers that are not finite: the model has diverged, or lacks its weights")
    return found.float()


def _said(x: Any) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def _require_terms(model: WorldModel, batch: Batch) -> None:
    """Refuse a model whose loss cannot be told beside its scores.

    Raises:
        ValueError: it fails, or gives something else than finite numbers by name.
    """
    wanted = "loss() must give finite numbers by name, {} for none"
    try:
        terms = {name: float(term) for name, term in model.loss(batch).items()}
    except Exception as error:
        raise ValueError(f"{wanted}; it fails: {type(error).__name__}: {error}") from error
    if not all(map(math.isfinite, terms.values())):
        raise ValueError(f"{wanted}, got {terms}")


def _require_same(given: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Refuse a model that depends on more than its configuration and its weights.

    Raises:
        ValueError: what the rebuilt model computes is different.
    """
    for name, wanted in given.items():
        difference, largest = float((wanted - found[name]).abs().max()), float(wanted.abs().max())
        if difference > TOLERANCE * largest:
            raise ValueError(
                f"config rebuilds a model whose {name}() differs by up to {difference:.3g} (of {largest:.3g}) with the "
                f"same weights: all that the model depends on must be in config, or a parameter or buffer"
            )
