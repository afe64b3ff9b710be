"""A run's model and the dataset that it is probed on, after checks that they fit together."""

from __future__ import annotations

from typing import Any

from jepa_worlds.data.dataset import ORIGIN, SPLITS, Dataset
from jepa_worlds.models.checkpoint import load, read_card
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.probing.model_probe import ModelProbe
from jepa_worlds.shared.app import require_types


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
    if choices != card["spec"]["action_sizes"]:
        raise ValueError(
            f"the model takes actions that are choices among {card['spec']['action_sizes']}, dataset "
            f"{str(dataset.path)!r} has {choices} ([]: none): choose another with data=…, or train a model on this one"
        )
    if actions != card["spec"]["action_dim"]:
        raise ValueError(
            f"the model takes actions of {card['spec']['action_dim']} numbers, dataset {str(dataset.path)!r} has "
            f"{actions}: choose another with data=…, or train a model on this one"
        )
    return dataset


def _refuse_seen(card: dict[str, Any], dataset: Dataset) -> None:
    """Refuse a dataset that holds out episodes that a model was trained on.

    Datasets of one origin share their episodes by number, and hold out those after the ones to train on.

    Raises:
        ValueError: there are such episodes.
    """
    there, before = dataset.manifest, card["collected"]
    if dataset.content_hash == card["dataset"]["hash"] or any(there[name] != before[name] for name in ORIGIN):
        return
    first, end = there["splits"]["train"][1], before["splits"]["train"][1]
    if first < end:
        raise ValueError(
            f"dataset {str(dataset.path)!r} holds the episodes that the model was trained on, and holds out those from "
            f"number {first} on, though the model has learned from all below {end}: collect it with another seed"
        )
