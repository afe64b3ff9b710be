"""Held-out episodes as clips: what was seen, what a probe reads off the latents, and what the model imagines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.world_models.core import NoDecoder, WorldModel
from jepa_worlds.pictures.video import Clip, gauges
from jepa_worlds.probing.model_probe import ModelProbe
from jepa_worlds.probing.scoring import Score


def clips(probe: ModelProbe, scores: Mapping[str, Score], count: int, title: str) -> list[Clip]:
    """The first test episodes as clips, with the readouts of the positions and quantities among ``scores``."""
    test = probe.features["test"]
    names = [name for name in probe.positions if name in scores]
    quantities = {name: probe.bounds(name) for name in probe.quantities if name in scores}
    frames = probe.frames("test", count)
    imagined = drawn(probe.model, test.rollouts[:count].to(probe.device))
    return [
        Clip(
            title=f"{title}, held-out episode {episode}",
            frames=frames[episode],
            start=probe.model.context - 1,
            truth={name: test.factors[name][episode].numpy() for name in names},
            readout={name: scores[name].predictions[episode].numpy() for name in names},
            imagined=None if imagined is None else imagined[episode],
            gauges=[
                gauge
                for name, bounds in quantities.items()
                for gauge in gauges(
                    name, bounds, test.factors[name][episode].numpy(), scores[name].predictions[episode].numpy()
                )
            ],
        )
        for episode in range(len(frames))
    ]


@torch.inference_mode()
def drawn(model: WorldModel, latents: Tensor) -> NDArray[np.uint8] | None:
    """What a model draws of latents, [B, T, D] -> [B, T, H, W, C]; None if it does not draw."""
    try:
        frames = model.decode(latents)  # [B, T, C, H, W]
    except NoDecoder:
        return None
    return np.ascontiguousarray(frames.permute(0, 1, 3, 4, 2).round().byte().cpu().numpy())
