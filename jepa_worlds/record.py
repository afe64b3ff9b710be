"""Film held-out episodes: what the agent saw, what the probe reads off the latents, and what the model imagines.

python -m jepa_worlds.record run=runs/dot out=video.mp4
python -m jepa_worlds.record run=runs/dot/evaluate/MovingDotReach-v0-PPO out=policy.mp4
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from agents.world_models.core import NoDecoder
from envs.arguments import require_whole, require_whole_or_none
from jepa_worlds.acting import policy_clips
from jepa_worlds.app import command, plain, require_types
from jepa_worlds.evaluation import Score
from jepa_worlds.figures import component
from jepa_worlds.policies import CARD, find_policy
from jepa_worlds.probe import open_probe
from jepa_worlds.probing import ModelProbe
from jepa_worlds.video import Clip, Gauge, check_writable, write_video


def main(config: DictConfig) -> Path:
    """Film a run's model on test episodes, or a policy at its task; returns the file.

    Raises:
        FileNotFoundError: there is no such run, policy or dataset.
        OSError: the file cannot be written, or there is no encoder.
        ValueError: bad input, or a dataset that does not fit the model.
    """
    settings = plain(config)
    require_types(settings, trust=list)
    out, run = Path(str(settings["out"])), Path(str(settings["run"]))
    check_writable(out, settings["fps"])
    require_whole(**{name: settings[name] for name in ("episodes", "at_once")})
    require_whole_or_none(steps=settings["steps"])
    policy = find_policy(run)
    if policy != run or (policy / CARD).is_file():
        shown = policy_clips(policy, settings)
    else:
        if settings["steps"] is not None:
            raise ValueError("steps is for films of policies; those of world models are as long as protocol.window")
        probe, _, _ = open_probe(settings)
        shown = clips(probe, probe.score_shown(), settings["episodes"], run.name)
    at_once = settings["at_once"]
    scenes = [shown[start : start + at_once] for start in range(0, len(shown), at_once)]
    write_video(scenes, columns=2, fps=settings["fps"], file=out)
    return out


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


if __name__ == "__main__":
    command("record")(main)()
