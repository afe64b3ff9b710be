"""Probe a trained world model: which factors of the scene does its latent tell?

python -m jepa_worlds.probe run=runs/dot
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from jepa_worlds import evaluation
from jepa_worlds.app import command, plain, require_types
from jepa_worlds.build import build
from jepa_worlds.checkpoint import load, read_card
from jepa_worlds.dataset import ORIGIN, SPLITS, Dataset, read_manifest
from jepa_worlds.figures import per_step_errors, rollout_frames, traces
from jepa_worlds.probing import ModelProbe, Probed
from jepa_worlds.runs import RESULTS, claimed, results, write_config, write_results
from jepa_worlds.training import chosen_device

FLOORS = ("chance", "pixels", "untrained")
SHOWN = 3  # episodes in a picture


def main(config: DictConfig) -> dict[str, Any]:
    """Probe a run's model; returns what it writes to ``results.json``.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: bad input, or a dataset that does not fit the model.
    """
    settings = plain(config)
    content = probe_run(settings)[0]
    sys.stdout.write("\n".join(["", *table(content), "", f"{_folder(settings) / RESULTS}"]) + "\n")
    return content


def probe_run(settings: dict[str, Any]) -> tuple[dict[str, Any], ModelProbe, Probed]:
    """What `main` does; returns the results, and what they were read off."""
    started = time.perf_counter()
    require_types(settings, seed=int)
    run, out = Path(str(settings["run"])), _folder(settings)
    probe, card, dataset = open_probe(settings)
    trusted = ("agents", *settings["trust"])
    fresh = evaluation.untrained(lambda: build(card["model"], trusted), settings["seed"]).to(probe.device)
    found = probe.run(fresh, card["batch_size"])
    settled = {"window": probe.windows["test"].length, "context": probe.model.context, "readout": settings["readout"]}
    content = results(
        "probe",
        metrics=found.metrics,
        floors=found.floors,
        diagnostics=found.diagnostics,
        seeds=[card["seed"]],
        protocol=protocol_id(settings["protocol"] | settled),
        dataset={"path": str(dataset.path), "hash": dataset.content_hash},
        started=started,
        run=str(run),
    )
    write_config(out, settings)
    draw(probe, found, run.name, out)
    write_results(out, content)
    return content, probe, found


def _folder(settings: dict[str, Any]) -> Path:
    """Where results go.

    Raises:
        ValueError: something else is there already.
    """
    data = settings["data"]
    name = "probe" if data is None else f"probe-{Path(str(data)).name}"
    out = Path(str(settings["out"] or Path(str(settings["run"])) / name))
    return claimed(out, {"run", "readout", "protocol"}, "probe's results")


def open_probe(settings: dict[str, Any]) -> tuple[ModelProbe, dict[str, Any], Dataset]:
    """The probe of a run's model under a command's protocol and readout, the model's card, and the dataset.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: the dataset does not fit the model, or holds out episodes that the model was trained on.
    """
    require_types(settings, verify=bool, trust=list)
    card = read_card(str(settings["run"]))
    model = load(str(settings["run"]), chosen_device(settings["device"]), tuple(settings["trust"]))
    dataset = fitting_dataset(card, settings["data"], settings["verify"])
    _refuse_seen(card, dataset)
    protocol = settings["protocol"]
    limits = {split: protocol[f"{split}_windows"] for split in SPLITS}
    window = protocol["window"] or card["window"]
    return ModelProbe(model, dataset, window, limits, settings["readout"], settings["trust"]), card, dataset


def fitting_dataset(card: dict[str, Any], path: str | None, verify: bool) -> Dataset:
    """The dataset at a path, or the one that a model was trained on.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its frames or actions are not of the model's size, or it has changed since the training.
    """
    try:
        dataset = Dataset(str(path or card["dataset"]["path"]), verify)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}" if path else f"{error}. Say where it is now: data=…") from error
    if path is None and dataset.content_hash != card["dataset"]["hash"]:
        raise ValueError(
            f"dataset {str(dataset.path)!r} has changed since the model was trained on it; to probe on what is there "
            f"now, say data={dataset.path}"
        )
    height, width, channels = dataset.manifest["frame_shape"]
    if [channels, height, width] != card["spec"]["frame_shape"]:
        raise ValueError(
            f"the model takes frames [C, H, W] of {card['spec']['frame_shape']}, dataset {str(dataset.path)!r} has "
            f"{[channels, height, width]}: choose another with data=…, or train a model on this one"
        )
    actions = len(dataset.statistics("actions")[0])
    choices = dataset.manifest["action"].get("sizes", [])
    if choices != card["spec"].get("action_sizes", []):
        raise ValueError(
            f"the model takes actions that are choices among {card['spec'].get('action_sizes', [])}, dataset "
            f"{str(dataset.path)!r} has {choices} ([]: none): choose another with data=…, or train a model on this one"
        )
    if actions != card["spec"]["action_dim"]:
        raise ValueError(
            f"the model takes actions of {card['spec']['action_dim']} numbers, dataset {str(dataset.path)!r} has "
            f"{actions}: choose another with data=…, or train a model on this one"
        )
    return dataset


def _refuse_seen(card: dict[str, Any], dataset: Dataset) -> None:
    """Refuse a dataset that holds out episodes that a model was trained on, as far as it is known how its data came.

    Datasets of one origin share their episodes by number, and hold out those after the ones to train on.

    Raises:
        ValueError: there are such episodes.
    """
    there, before = dataset.manifest, card.get("collected") or _collected(card["dataset"])
    if dataset.content_hash == card["dataset"]["hash"] or any(there[name] != before.get(name) for name in ORIGIN):
        return
    first, end = there["splits"]["train"][1], before["splits"]["train"][1]
    if first < end:
        raise ValueError(
            f"dataset {str(dataset.path)!r} holds the episodes that the model was trained on, and holds out those from "
            f"number {first} on, though the model has learned from all below {end}: collect it with another seed"
        )


def _collected(dataset: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a dataset that a card tells, if it still is where it was; else nothing."""
    try:
        manifest = read_manifest(Path(dataset["path"]))
    except (OSError, ValueError):
        return {}
    return manifest if manifest.get("content_hash") == dataset["hash"] else {}


def table(content: dict[str, Any]) -> list[str]:
    """Scores and floors, a line a factor, as a Markdown table whose columns are aligned."""
    if not content["metrics"]:
        found = ", ".join(f"{name} {number:.3g}" for name, number in content["diagnostics"].items())
        return [f"The dataset tells no factors that change, so there is nothing to read off: {found}"]
    heads = ("factor", "rollout RMSE [95 %]", "encoder RMSE", "R² rollout", "R² encoder", *FLOORS)
    rows = [[*heads]]
    for name, found in sorted(content["metrics"].items(), key=lambda item: item[0].split(".")[0] == "background"):
        low, high = found["rollout_rmse_ci95"]
        interval = f"{found['rollout_rmse']:.3g} [{low:.3g}, {high:.3g}]"
        r2 = [f"{found[key]:.2f}" for key in ("r2", "encoder_r2")]
        floors = [f"{content['floors'][name][floor]:.3g}" for floor in FLOORS]
        rows.append([name, interval, f"{found['encoder_rmse']:.3g}", *r2, *floors])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def protocol_id(protocol: dict[str, Any]) -> dict[str, str]:
    """Name and hash of a protocol, with all that it leaves open settled: numbers may be compared where both agree."""
    text = json.dumps(protocol, sort_keys=True)
    return {"id": protocol["id"], "hash": hashlib.sha256(text.encode()).hexdigest()[:12]}


def draw(probe: ModelProbe, found: Probed, title: str, out: Path) -> None:
    """``per_step_<factor>.png`` for every factor; ``rollouts_…`` for positions, ``trace_…`` for other quantities."""
    test = probe.features["test"]
    for name, score in found.rollouts.items():
        errors = {"open-loop rollout": score.per_step}
        floors = {floor: found.floors[name][floor] for floor in FLOORS}
        per_step_errors(errors, floors, name, out / f"per_step_{name}.png")
        truth, readout = test.factors[name][:SHOWN].numpy(), score.predictions[:SHOWN].numpy()
        if name in probe.quantities:
            traces(truth, readout, name, f"{title}: {name}, read off an open-loop rollout", out / f"trace_{name}.png")
        if name in probe.positions:
            frames = probe.frames("test", SHOWN)
            rollout_frames(frames, truth, readout, f"{title}: {name}", out / f"rollouts_{name}.png")


if __name__ == "__main__":
    command("probe")(main)()
