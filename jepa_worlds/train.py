"""Train a world model on a dataset.

python -m jepa_worlds.train data=data/static objective=vicreg_counterfactual_idm optimizer.lr=0.0065 out=runs/dot
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict

from agents.objectives.core import weighted_sum
from agents.world_models.core import WorldModel
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows, require_room, require_two
from jepa_worlds.models.cards import card, spec
from jepa_worlds.models.checkpoint import CARD, save
from jepa_worlds.models.devices import chosen_device, chosen_precision
from jepa_worlds.models.training import DIAGNOSTICS, Schedule, Trainer, diagnose
from jepa_worlds.pictures.figures import training_curves
from jepa_worlds.probing import scoring
from jepa_worlds.shared.app import command, plain, require_all, require_types
from jepa_worlds.shared.build import build
from jepa_worlds.shared.runs import read_config, results, untouched, write_config, write_results

FREE = ("data", "device", "out", "resident", "verify")  # not in the hashes that an experiment names its runs by
MAY_DIFFER = (*FREE, "diagnose_every", "log_every", "save_every", "trust")  # when a run is taken up again


def main(config: DictConfig, report: Callable[[float], object] = lambda steps: None) -> Path:
    """Train, or go on with a run that was begun; returns the run folder.

    Args:
        config: of the command.
        report: called with the number of steps that are done since the last call.

    Raises:
        ValueError: bad input, or a loss that is no longer finite.
    """
    started = time.perf_counter()
    require_all(config)
    require_types(dict(config), verify=bool, compile=bool)
    run = Path(str(config.out))
    dataset = Dataset(str(config.data), verify=config.verify)
    with open_dict(config):
        config.spec = spec(dataset, config.model.get("frames", 1))
    settings = plain(config) | {"dataset_hash": dataset.content_hash}
    require_types(settings, trust=list)
    schedule = Schedule.of(settings)
    settings |= _begun(run, settings)
    if (run / CARD).is_file():
        return run

    device = chosen_device(settings["device"])
    torch.manual_seed(settings["seed"])
    trusted = ("agents", *settings["trust"])
    model = build(settings["model"], trusted)
    if not isinstance(model, WorldModel):
        raise ValueError(f"model must be a WorldModel, got {type(model).__name__}")
    model = model.to(device)
    require_room(model.context, settings["window"])
    train = Windows(dataset, "train", settings["window"], device, _resident(settings["resident"], dataset, device))
    held_out = Windows(dataset, "validation", settings["window"], device, stride=settings["window"])
    require_two(dataset, {"train": train, "validation": held_out})
    weights = _weights(settings["objective"]["weights"])
    if weights:  # without an objective a model stays as it was initialised
        sample = train.batch(0, schedule.batch_size, schedule.seed)
        with torch.no_grad():  # what does not fit together is refused before anything is written
            weighted_sum(model.eval().loss(sample), weights)
        model.train()
        settings["precision"] = chosen_precision(settings["precision"], model, sample)
        optimizer = build(settings["optimizer"], (*trusted, "torch.optim"), params=model.parameters())
        write_config(run, settings)
        bf16 = settings["precision"] == "bf16"
        trainer = Trainer(model, weights, optimizer, schedule, bf16, settings["compile"])
        trainer.fit(train, held_out, run, lambda: scoring.quick_probe(model, train, held_out), report)
    write_config(run, settings)
    _finish(model, dataset, held_out, settings, run, started)
    return run


def _weights(weights: Any) -> dict[str, float]:
    """The weights of the loss terms.

    Raises:
        ValueError: they are no mapping, or one is not a number.
    """
    if not isinstance(weights, dict):
        raise ValueError(f"objective.weights must map the names of terms to numbers, got {weights!r}")
    for name, weight in weights.items():
        if not isinstance(weight, (int, float)):
            raise ValueError(f"objective.weights.{name} must be a number, got {weight!r}")
    return weights


def _begun(run: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a run that was begun has already settled.

    Raises:
        ValueError: the folder holds something else, or a run of another configuration.
    """
    if untouched(run):
        return {}
    before = read_config(run)
    if "dataset_hash" not in before:
        raise ValueError(f"out={str(run)!r} exists and is not a training run: choose another folder, or remove it")
    settled = {"precision": before.get("precision")} if settings["precision"] == "auto" else {}
    now = settings | settled
    other = sorted(key for key in {*before, *now} if key not in MAY_DIFFER and before.get(key) != now.get(key))
    if other:
        number = next((key for key in other if isinstance(now.get(key), (int, float))), None)
        sweep = f". In a sweep (-m), each takes its own: out='{run}-${{{number}}}'" if number else ""
        raise ValueError(
            f"out={str(run)!r} holds a run with other {', '.join(other)}: choose another folder, or remove it{sweep}"
        )
    return settled


def _resident(wanted: bool | None, dataset: Dataset, device: torch.device) -> bool:
    """Whether to keep all frames on the device: if asked to, or on a GPU whose free memory is twice what they take."""
    if wanted is not None or device.type != "cuda":
        return bool(wanted)
    size = sum(shard.columns["frames"].nbytes for shard in dataset.shards("train"))
    return size < torch.cuda.mem_get_info(device)[0] / 2


def _finish(
    model: WorldModel, dataset: Dataset, held_out: Windows, settings: dict[str, Any], run: Path, started: float
) -> None:
    """Write the model, the results and the curves."""
    told = card(dataset, settings)
    found = diagnose(model, held_out, settings["batch_size"])
    content = results(
        "train",
        metrics={name: number for name, number in found.items() if name not in DIAGNOSTICS},
        diagnostics={name: found[name] for name in DIAGNOSTICS},
        seeds=[settings["seed"]],
        dataset=told["dataset"],
        started=started,
    )
    write_results(run, content)
    training_curves(run)
    save(model, told, run)


if __name__ == "__main__":
    command("train")(main)()
