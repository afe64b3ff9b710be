"""Film held-out episodes: what the agent saw, what the probe reads off the latents, and what the model imagines.

python -m jepa_worlds.record run=runs/dot out=video.mp4
python -m jepa_worlds.record run=runs/dot/evaluate/MovingDotReach-v0-PPO out=policy.mp4
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from envs.arguments import require_whole, require_whole_or_none
from jepa_worlds.pictures.video import check_writable, write_video
from jepa_worlds.policies.acting import policy_clips
from jepa_worlds.policies.saved import CARD, find_policy
from jepa_worlds.probing.clips import clips
from jepa_worlds.probing.opening import open_probe
from jepa_worlds.shared.app import command, plain, require_types


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


if __name__ == "__main__":
    command("record")(main)()
