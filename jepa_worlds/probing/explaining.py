"""Why an objective is fooled, or is not: its loss for what it trained, and for what it might have.

The copy is the argument of Sobal et al. (2022): latents g(o_t) = s that know the static background s and nothing else,
with predictions f(s, a) = s, are a global optimum of VICReg and of contrastive losses. Here it is measured, beside
latents of the same make that know what actions move. An objective can be fooled where it has no reason to prefer these.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.diagnostics import covariance_spectrum, mean_terms
from agents.objectives.core import uses_targets, weighted_sum
from agents.probes.core import moments
from agents.solutions import FittedObjective, Imagine, LinearDynamics, fit, knowing, regardless
from agents.world_models.core import NoDecoder, WorldModel
from agents.world_models.encoder_predictor import EncoderPredictor
from agents.world_models.frame_model import imagined
from envs.arguments import require_whole
from jepa_worlds.data.dataset import Split
from jepa_worlds.data.windows import Batch, Windows, split_windows
from jepa_worlds.models.checkpoint import WEIGHTS, load, read_card, untrained
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.models.training import DIAGNOSED, DIAGNOSTICS, diagnose
from jepa_worlds.probing.opening import fitting_dataset
from jepa_worlds.probing.scoring import ENCODED
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import Plain, digest, read_json, write_json
from jepa_worlds.shared.seeding import random_state_kept

EXPLAINED = "explained.json"
FITTED = 1024  # training windows that objectives are fitted to
BACKGROUND = "envs.distractors.background.Background"  # whose dynamics are known
CONTROLLED = 0.5  # share of a factor's changes that its action explains, if it counts as one that actions move
SOLUTIONS = "solutions/2"  # how those of an explanation are made
LIMITS: dict[Split, int] = {"train": FITTED, "validation": DIAGNOSED, "test": DIAGNOSED}


class Unavailable(Exception):
    """A solution that cannot be made, or that the objective cannot judge; says why."""


@dataclass(frozen=True)
class Solution:
    """Windows of every split with a solution's ``latents`` and ``predictions`` [N, T−K+1, D] among their columns.

    Attributes:
        windows: {split: batch}.
        imagine: what it predicts under other actions.
        mean, std: [D], what standardises its latents.
    """

    windows: dict[Split, Batch]
    imagine: Imagine
    mean: Tensor
    std: Tensor


Make = Callable[[EncoderPredictor], Solution]


def explain(
    run: Path, supervised: Path | None, *, steps: int = 200, device: str = "auto", trust: Sequence[str] = ()
) -> dict[str, Any]:
    """The loss of a run's objective for four solutions, on the same test windows; written to ``explained.json``.

    ``trained`` is the model itself. ``copy`` knows the factor ``background`` and nothing else, and predicts it as well
    as it can be. ``controlled`` knows the factors that actions move and nothing else, and what actions lead to.
    ``supervised`` has the latents and predictions of another run. For the last three, an affine map and new heads of
    the objective are fitted to training windows; they count as they were at first if the fit is no better on validation
    windows. A solution that the objective cannot judge has no entry, and ``unavailable`` says why.

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
    with random_state_kept(place, seed=0):  # new weights are drawn wherever a model is built
        model = load(run, place, tuple(trust))
        truth = load(supervised, place, tuple(trust)) if supervised else None
        latents = model.encode(batches["test"]["frames"], batches["test"]["actions"]).float()[:, model.context - 1 :]
        losses: dict[str, Any] = {}
        unavailable: dict[str, str] = {}
        if card["objective"]["weights"]:
            with random_state_kept(place, seed=0):
                found = diagnose(model, windows["test"], card["batch_size"])
            losses["trained"] = _loss({name: x for name, x in found.items() if name not in DIAGNOSTICS}, card)
            for name, make in _solutions(batches, dataset.manifest["distractor"] or {}, truth).items():
                new = untrained(lambda: build(card["model"], ("agents", *trust)), seed=0).to(place)
                try:
                    losses[name] = _judged(new, make, card, steps)
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
    require_whole(0, steps=steps)
    card, other = read_card(run), read_card(supervised) if supervised else None
    if other and other["dataset"]["hash"] != card["dataset"]["hash"]:
        raise ValueError(
            f"{str(supervised)!r} was trained on another dataset than {str(run)!r}; they have to share one"
        )
    inputs = {
        "weights": digest(run / WEIGHTS),
        "supervised": digest(supervised / WEIGHTS) if supervised else None,
        "steps": steps,
        "solutions": SOLUTIONS,
    }
    return card, inputs


def _solutions(batches: dict[Split, Batch], distractor: Plain, truth: WorldModel | None) -> dict[str, Make]:
    """What makes each solution for a model's objective."""
    found: dict[str, Make] = {
        "copy": lambda model: _copy(model, batches, distractor),
        "controlled": lambda model: _controlled(model, batches),
    }
    return found if truth is None else {**found, "supervised": lambda model: _known(model, batches, truth)}


def _judged(new: WorldModel, make: Make, card: dict[str, Any], steps: int) -> dict[str, Any]:
    """The loss of a solution under a fitted objective, on test windows.

    Raises:
        Unavailable, NoDecoder: there is no such loss.
    """
    if not isinstance(new, EncoderPredictor):
        raise Unavailable(f"the loss of {type(new).__name__} is of more than latents and predictions")
    if uses_targets(new.objectives):
        raise Unavailable("its loss is of targets, which a solution has none of")
    solution = make(new)
    fitted = FittedObjective(new, solution.imagine, solution.mean, solution.std)

    def loss(split: Split) -> dict[str, Any]:
        with random_state_kept(solution.mean.device, seed=0):
            return _loss(mean_terms(fitted, solution.windows[split], card["batch_size"]), card)

    first, before = copy.deepcopy(fitted.state_dict()), loss("validation")
    with random_state_kept(solution.mean.device, seed=0):
        fit(fitted, solution.windows["train"], card["objective"]["weights"], card["batch_size"], steps)
    if not loss("validation")["total"] < before["total"]:
        fitted.load_state_dict(first)
    return loss("test")


def _copy(model: EncoderPredictor, batches: dict[Split, Batch], distractor: Plain) -> Solution:
    """Latents that know the background, and predictions of them as good as can be.

    One that rolls by so many pixels a step is known in advance. Of any other a share ρ_t of the first is predicted that
    is fitted to training windows: all of one that stays, nothing of one that is drawn anew.
    """
    column, first = "factors.background", model.context - 1
    if column not in batches["train"] or bool((batches["train"][column] == batches["train"][column][0, 0]).all()):
        raise Unavailable("the background is the same in all frames: there is nothing to copy")
    mean, std = moments(batches["train"][column].flatten(0, 1))
    latents = {
        split: knowing((batch[column][:, first:] - mean) / std, model.latent_dim) for split, batch in batches.items()
    }
    z = latents["train"]
    share = (z[:, :1] * z).mean(dim=(0, 2)) / z[:, :1].square().mean()  # [T], the first is 1
    rolls = distractor.get("_target_") == BACKGROUND and distractor.get("dynamics") == "drifting"
    windows = {
        split: {**batch, "latents": z, "predictions": z if rolls else share[:, None] * z[:, :1]}
        for (split, batch), z in zip(batches.items(), latents.values(), strict=True)
    }
    return Solution(windows, regardless, *_standard(model.latent_dim, mean))


def _controlled(model: EncoderPredictor, batches: dict[Split, Batch]) -> Solution:
    """Latents that know the factors that actions move, and predictions that are right."""
    first = model.context - 1
    moved: dict[str, LinearDynamics] = {}
    for name, values in batches["train"].items():
        if name.startswith("factors.") and name != "factors.background":
            actions = (batches["train"]["actions"] - model.action_mean) / model.action_std
            dynamics = LinearDynamics.fit(values.float(), actions)
            moved |= {name: dynamics} if dynamics.share > CONTROLLED else {}
    if not moved:
        raise Unavailable("no factor is one that an action moves at once: nothing is known to be controlled")
    mean, std = moments(torch.cat([batches["train"][name].flatten(0, 1).float() for name in moved], dim=-1))

    def features(factors: Sequence[Tensor]) -> Tensor:
        return knowing((torch.cat([x.float() for x in factors], dim=-1) - mean) / std, model.latent_dim)

    def imagine(batch: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        return features([known.rollout(batch[name][:, first].float(), actions) for name, known in moved.items()])

    windows: dict[Split, Batch] = {}
    for split, batch in batches.items():
        latents = features([batch[name][:, first:] for name in moved])
        windows[split] = {**batch, "latents": latents, "predictions": latents}
    return Solution(windows, imagine, *_standard(model.latent_dim, mean))


def _standard(dim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents that are `knowing`."""
    return like.new_zeros(dim), like.new_ones(dim)


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

    def imagine(batch: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        return imagined(predict, batch["latents"][:, :1], actions)

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
    return Solution(windows, imagine, mean, std)


def _first(windows: Windows, limit: int, device: torch.device) -> Batch:
    """Some windows, the same in every call."""
    return {name: x.to(device) for name, x in windows.batch(0, min(limit, len(windows)), seed=0).items()}


def _loss(terms: dict[str, float], card: dict[str, Any]) -> dict[str, Any]:
    """The terms of an objective, and their weighted sum."""
    total = weighted_sum(
        {name: torch.tensor(x, dtype=torch.double) for name, x in terms.items()}, card["objective"]["weights"]
    )
    return {"total": float(total), "terms": terms}
