"""Why an objective is fooled, or is not: its loss for what it trained, for a copy of the background, and for the truth.

The copy is the argument of Sobal et al. (2022): latents g(o_t) = s that know the static background s and nothing else,
with predictions f(s, a) = s, are a global optimum of VICReg and of contrastive losses. Here it is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.diagnostics import covariance_spectrum, mean_terms
from agents.objectives.core import uses_targets, weighted_sum
from agents.probes.core import moments
from agents.solutions import Predict, Readout, fit, fourier_features, stays
from agents.world_models.core import NoDecoder, WorldModel
from agents.world_models.encoder_predictor import EncoderPredictor
from jepa_worlds.build import build
from jepa_worlds.checkpoint import WEIGHTS, load, read_card
from jepa_worlds.dataset import Split
from jepa_worlds.evaluation import ENCODED, split_windows, untrained
from jepa_worlds.files import digest, read_json, write_json
from jepa_worlds.probe import fitting_dataset
from jepa_worlds.training import DIAGNOSED, DIAGNOSTICS, chosen_device, diagnose
from jepa_worlds.windows import Batch, Windows

EXPLAINED = "explained.json"
FITTED = 1024  # training windows that readouts are fitted to
LIMITS: dict[Split, int] = {"train": FITTED, "validation": DIAGNOSED, "test": DIAGNOSED}


class Unavailable(Exception):
    """A solution that cannot be made, or that the objective cannot judge; says why."""


@dataclass(frozen=True)
class Solution:
    """Windows of every split with a solution's ``latents`` and ``predictions`` [N, T−K+1, D] among their columns.

    Attributes:
        windows: {split: batch}.
        predict: its predictor, of normalised actions.
        mean, std: [D], what standardises its latents.
    """

    windows: dict[Split, Batch]
    predict: Predict
    mean: Tensor
    std: Tensor


def explain(
    run: Path, supervised: Path | None, *, steps: int = 200, device: str = "auto", trust: Sequence[str] = ()
) -> dict[str, Any]:
    """The loss of a run's objective for three solutions, on the same test windows; written to ``explained.json``.

    ``trained`` is the model itself. ``copy`` knows the factor ``background`` and nothing else, and predicts that it
    stays. ``supervised`` has the latents and predictions of another run. For both of these, an affine map and new heads
    of the objective are fitted to training windows; they count as they were at first if the fit is no better on
    validation windows. A solution that the objective cannot judge has no entry, and ``unavailable`` says why.

    Args:
        run: a training run. What is there is returned if it was made of the same weights in as many steps.
        supervised: a run on the same dataset that knows the truth; None for none.
        steps: of fitting.
        device: where to compute.
        trust: packages beside `agents` whose classes the models may use.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: a negative number of steps, a dataset that has changed or is not that of the supervised run, or a
            model that has diverged.
    """
    card, inputs = _checked(run, supervised, steps)
    if (run / EXPLAINED).is_file() and (there := read_json(run / EXPLAINED)).get("inputs") == inputs:
        return there
    dataset, place = fitting_dataset(card, None, verify=False), chosen_device(device)
    windows = split_windows(dataset, card["window"])
    batches = {split: _first(some, LIMITS[split], place) for split, some in windows.items()}
    with _seeded(place):  # new weights are drawn wherever a model is built
        model = load(run, place, tuple(trust))
        truth = load(supervised, place, tuple(trust)) if supervised else None
        latents = model.encode(batches["test"]["frames"], batches["test"]["actions"]).float()[:, model.context - 1 :]
        losses: dict[str, Any] = {}
        unavailable: dict[str, str] = {}
        if card["objective"]["weights"]:
            with _seeded(place):
                found = diagnose(model, windows["test"], card["batch_size"])
            losses["trained"] = _loss({name: x for name, x in found.items() if name not in DIAGNOSTICS}, card)
            for name, knows in {"copy": None, "supervised": truth}.items():
                if name == "copy" or knows:
                    new = untrained(lambda: build(card["model"], ("agents", *trust)), seed=0).to(place)
                    try:
                        losses[name] = _judged(new, batches, knows, card, steps)
                    except (Unavailable, NoDecoder) as error:
                        unavailable[name] = str(error)
    content = {
        "losses": losses,
        "unavailable": unavailable,
        "spectrum": covariance_spectrum(latents).tolist(),
        "steps": steps,
        "supervised": supervised.name if supervised else None,
        "inputs": inputs,
    }
    write_json(run / EXPLAINED, content)
    return content


def _checked(run: Path, supervised: Path | None, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The card of a run, and what decides whether its explanation still holds.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: a negative number of steps, or another dataset for the supervised run.
    """
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be an integer of at least 0, got {steps!r}")
    card, other = read_card(run), read_card(supervised) if supervised else None
    if other and other["dataset"]["hash"] != card["dataset"]["hash"]:
        raise ValueError(
            f"{str(supervised)!r} was trained on another dataset than {str(run)!r}; they have to share one"
        )
    inputs = {
        "weights": digest(run / WEIGHTS),
        "supervised": digest(supervised / WEIGHTS) if supervised else None,
        "steps": steps,
    }
    return card, inputs


def _judged(
    new: WorldModel, batches: dict[Split, Batch], truth: WorldModel | None, card: dict[str, Any], steps: int
) -> dict[str, Any]:
    """The loss of what another model knows, or of a copy of the background, under a fitted readout, on test windows.

    Raises:
        Unavailable, NoDecoder: there is no such loss.
    """
    if not isinstance(new, EncoderPredictor):
        raise Unavailable(f"the loss of {type(new).__name__} is of more than latents and predictions")
    if uses_targets(new.objectives):
        raise Unavailable("its loss is of targets, which a solution has none of")
    solution = _known(new, batches, truth) if truth else _copy(new, batches)
    readout = Readout(new, solution.predict, solution.mean, solution.std)

    def loss(split: Split) -> dict[str, Any]:
        with _seeded(solution.mean.device):
            return _loss(mean_terms(readout, solution.windows[split], card["batch_size"]), card)

    first, before = copy.deepcopy(readout.state_dict()), loss("validation")
    with _seeded(solution.mean.device):
        fit(readout, solution.windows["train"], card["objective"]["weights"], card["batch_size"], steps)
    if not loss("validation")["total"] < before["total"]:
        readout.load_state_dict(first)
    return loss("test")


def _copy(model: EncoderPredictor, batches: dict[Split, Batch]) -> Solution:
    """Random features of the background, and predictions that it stays."""
    column, first = "factors.background", model.context - 1
    if column not in batches["train"] or bool((batches["train"][column] == batches["train"][column][0, 0]).all()):
        raise Unavailable("the background is the same in all frames: there is nothing to copy")
    mean, std = moments(batches["train"][column].flatten(0, 1))
    windows: dict[Split, Batch] = {}
    for split, batch in batches.items():
        latents = fourier_features((batch[column][:, first:] - mean) / std, model.latent_dim)
        windows[split] = {**batch, "latents": latents, "predictions": latents[:, :1].expand_as(latents)}
    return Solution(windows, stays, torch.zeros_like(latents[0, 0]), torch.ones_like(latents[0, 0]))


@torch.no_grad()
def _known(model: EncoderPredictor, batches: dict[Split, Batch], truth: WorldModel) -> Solution:
    """The latents and open-loop predictions of another model."""
    if truth.latent_dim != model.latent_dim:
        raise Unavailable(f"its latents have {truth.latent_dim} dimensions, those of the run {model.latent_dim}")
    if truth.context > model.context:
        raise Unavailable(f"its latents are made of {truth.context} frames, those of the run of {model.context}")
    first = model.context - 1

    def predict(context: Tensor, actions: Tensor) -> Tensor:
        return truth.predict(context, actions * model.action_std + model.action_mean).float()

    windows: dict[Split, Batch] = {}
    for split, batch in batches.items():
        latents, predictions = [], []
        for frames, actions in zip(batch["frames"].split(ENCODED), batch["actions"].split(ENCODED), strict=True):
            latent = truth.encode(frames, actions).float()[:, first:]
            future = truth.predict(latent[:, :1], actions[:, first:]).float()
            latents.append(latent)
            predictions.append(torch.cat([latent[:, :1], future], dim=1))
        windows[split] = {**batch, "latents": torch.cat(latents), "predictions": torch.cat(predictions)}
    mean, std = moments(windows["train"]["latents"].flatten(0, 1))
    return Solution(windows, predict, mean, std)


def _first(windows: Windows, limit: int, device: torch.device) -> Batch:
    """Some windows, the same in every call."""
    return {name: x.to(device) for name, x in windows.batch(0, min(limit, len(windows)), seed=0).items()}


def _loss(terms: dict[str, float], card: dict[str, Any]) -> dict[str, Any]:
    """The terms of an objective, and their weighted sum."""
    total = weighted_sum(
        {name: torch.tensor(x, dtype=torch.double) for name, x in terms.items()}, card["objective"]["weights"]
    )
    return {"total": float(total), "terms": terms}


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """What draws random numbers in this context draws the same ones every time, and none outside it notices."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(0)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield
