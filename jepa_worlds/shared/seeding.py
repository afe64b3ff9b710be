"""Random numbers that leave those drawn elsewhere as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_state_kept(device: torch.device | None = None, seed: int | None = None) -> Iterator[None]:
    """What is drawn in here leaves what is drawn outside as it was; with a seed it is the same every time.

    Args:
        device: where else than on the CPU it is drawn; None for nowhere.
        seed: of what is drawn in here; None to draw on from outside.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed is for every device
            for place in cuda:
                with torch.cuda.device(place):
                    torch.cuda.manual_seed(seed)
        yield
