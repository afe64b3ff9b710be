"""Held-out episodes as clips: what was seen, what a probe reads off the latents, and what the model imagines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.world_models.core import NoDecoder
from jepa_worlds.pictures.figures import component
from jepa_worlds.pictures.video import Clip, Gauge
from jepa_worlds.probing.model_probe import ModelProbe
from jepa_worlds.probing.scoring import Score


def clips(probe: ModelProbe, scores: Mapping[str, Score], count: int, title: str) -> list[Clip]:
    """The first test episodes as clips, with the readouts of the positions and quantities among ``scores``."""
    test = probe.features["test"]
    names = [name for name in probe.positions if name in scores]
    quantities = {name: probe.bounds(name) for name in probe.quantities if name in scores}
    frames = probe.frames("test", count)
    imagined = _imagined(probe, count)
    return [
        Clip(
            title=f"{title}, held-out episode {episode}",
            frames=frames[episode],
            truth={name: test.factors[name][episode].numpy() for name in names},
            readout={name: scores[name].predictions[episode].numpy() for name in names},
            imagined=None if imagined is None else imagined[episode],
            gauges=[
                Gauge(component(name, i, len(low)), low[i], high[i], x[episode, :, i], read[episode, :, i])
                for name, (low, high) in quantities.items()
                for x, read in [(test.factors[name].numpy(), scores[name].predictions.numpy())]
                for i in range(len(low))
            ],
        )
        for episode in range(len(frames))
    ]


@torch.inference_mode()
def _imagined(probe: ModelProbe, count: int) -> Any:
    """What the model draws of its rollouts, [N, T, H, W, C]; None if it does not draw."""
    try:
        frames = probe.model.decode(probe.features["test"].rollouts[:count].to(probe.device))
    except NoDecoder:
        return None
    return np.ascontiguousarray(frames.permute(0, 1, 3, 4, 2).round().byte().cpu().numpy())
