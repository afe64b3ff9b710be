"""World models from pixels without rewards: datasets, training, probes, planning and reports under one protocol."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from agents.world_models.core import WorldModel

__version__ = "0.1.0"
PACKAGE = Path(__file__).resolve().parent


def _check_siblings() -> None:
    """`envs` and `agents` are common names: make sure that the ones on the path are this project's."""
    for name in ("envs", "agents"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != PACKAGE.parent / name:
            raise ImportError(
                f"jepa_worlds needs its own package {name!r} from {PACKAGE.parent / name}, but Python finds "
                f"{found or 'none'} first: rename it, or run from another folder"
            )


_check_siblings()


def load(run: str | Path, device: str | torch.device = "cpu", trust: tuple[str, ...] = ()) -> WorldModel:
    """The world model of a run folder, in evaluation mode. See `jepa_worlds.models.checkpoint.load`."""
    from jepa_worlds.models.checkpoint import load

    return load(run, device, trust)
