"""What models have to know of their data, and what ``model.json`` says of them."""

from __future__ import annotations

from typing import Any

from envs.arguments import require_whole
from jepa_worlds.data.dataset import ORIGIN, Dataset
from jepa_worlds.models.checkpoint import FORMAT
from jepa_worlds.shared.files import versions


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
