"""Where to compute, and how precisely: what is there, and what is fast."""

from __future__ import annotations

import copy
import math
import time

import torch

from agents.world_models.core import Batch, WorldModel
from jepa_worlds.shared.seeding import random_state_kept


def chosen_device(wanted: str) -> torch.device:
    """The device for ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        ValueError: there is no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={wanted!r} is not available here: {reason}. Try device=auto or cpu") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)  # which is what is asked for its memory, and what it can
    return device


def chosen_precision(wanted: str, model: WorldModel, batch: Batch) -> str:
    """``fp32`` or ``bf16``; for ``auto``, bf16 where the hardware has it and saves a tenth of a training step's time.

    Raises:
        ValueError: another precision.
    """
    if wanted not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {wanted!r}")
    if wanted != "auto":
        return wanted
    device = next(model.parameters()).device
    amx = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    if not (amx or (device.type == "cuda" and torch.cuda.is_bf16_supported())):
        return "fp32"
    with random_state_kept(device):
        seconds = {}
        for bf16 in (False, True):
            copied = copy.deepcopy(model).to(device)  # which lays out a GRU's weights anew, as copies lose it
            seconds[bf16] = _seconds_a_step(copied, batch, bf16)
    return "bf16" if seconds[True] < 0.9 * seconds[False] else "fp32"


def _seconds_a_step(model: WorldModel, batch: Batch, bf16: bool) -> float:
    """The fastest of three passes forward and backward, after one to warm up."""
    device, best = next(model.parameters()).device, math.inf
    for attempt in range(4):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            terms = model.loss(batch)
        torch.stack(list(terms.values())).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if attempt:
            best = min(best, time.perf_counter() - started)
    return best
