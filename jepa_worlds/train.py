"""Train a world model on a dataset.

python -m jepa_worlds.train data=data/static model=jepa objective=vicreg_counterfactual steps=600 out=runs/dot
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
from envs.arguments import require_whole
from jepa_worlds import evaluation
from jepa_worlds.app import command, plain, require_all, require_types
from jepa_worlds.build import build
from jepa_worlds.checkpoint import CARD, FORMAT, save
from jepa_worlds.dataset import ORIGIN, Dataset
from jepa_worlds.figures import training_curves
from jepa_worlds.files import versions
from jepa_worlds.runs import read_config, results, untouched, write_config, write_results
from jepa_worlds.training import DIAGNOSTICS, Schedule, Trainer, chosen_device, chosen_precision, diagnose
from jepa_worlds.windows import Windows

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
    schedule = Schedule(**{name: settings[name] for name in Schedule.__dataclass_fields__})
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
    evaluation.require_room(model, settings["window"])
    train = Windows(dataset, "train", settings["window"], device, _resident(settings["resident"], dataset, device))
    held_out = Windows(dataset, "validation", settings["window"], device, stride=settings["window"])
    evaluation.require_two(dataset, {"train": train, "validation": held_out})
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
        trainer.fit(train, held_out, run, lambda: evaluation.quick_probe(model, train, held_out), report)
    write_config(run, settings)
    _finish(model, dataset, held_out, settings, run, started)
    return run


def spec(dataset: Dataset, frames: int = 1) -> dict[str, Any]:
    """What a model has to know of its data: shapes and moments; ``${spec.…}`` in configurations.

    Args:
        dataset: the data.
        frames: how many of them an encoder sees; ``input_shape`` is theirs together, ``frame_shape`` that of one.

    Raises:
        ValueError: a number of frames that is not positive.
    """
    require_whole(**{"model.frames": frames})
    height, width, channels = dataset.manifest["frame_shape"]
    frame_mean, frame_std = dataset.statistics("frames")
    action_mean, action_std = dataset.statistics("actions")
    factors = {name: dataset.statistics(f"factors.{name}") for name in dataset.factors}
    return {
        "frame_shape": [channels, height, width],
        "input_shape": [frames * channels, height, width],
        "frame_mean": frame_mean,
        "frame_std": frame_std,
        "action_dim": len(action_mean),
        "action_sizes": dataset.manifest["action"].get("sizes", []),  # of choices, which come as one-hot vectors
        "action_mean": action_mean,
        "action_std": action_std,
        "factors": {name: {"mean": mean, "std": std} for name, (mean, std) in factors.items()},
    }


def card(dataset: Dataset, settings: dict[str, Any]) -> dict[str, Any]:
    """What ``model.json`` says of a model: its settings, the dataset, how that was collected, and versions."""
    kept = {name: settings[name] for name in ("model", "objective", "spec", "window", "steps", "batch_size", "seed")}
    data = {"path": settings["data"], "hash": dataset.content_hash}
    collected = {name: dataset.manifest[name] for name in (*ORIGIN, "splits")}
    return {"format": FORMAT, **kept, "dataset": data, "collected": collected, "versions": versions()}


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
