"""What a report shows of episodes: frames and films with what probes read off the latents of several methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepa_worlds.data.dataset import MANIFEST
from jepa_worlds.models.checkpoint import CARD
from jepa_worlds.pictures.figures import new_figure, save_figure, show_frame
from jepa_worlds.pictures.video import Clip
from jepa_worlds.probing.clips import clips
from jepa_worlds.probing.opening import open_probe
from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.bars import no_bars
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import read_config
from jepa_worlds.studies.panels import WIDTH
from jepa_worlds.studies.study import Condition, Row, Study

SHOWN = 7  # frames of an episode


@dataclass(frozen=True)
class Scene:
    """One held-out episode as several methods see it.

    Attributes:
        title: of the condition.
        clips: the same steps of the same episode by method.
        missing: why there is nothing of a method.
    """

    title: str
    clips: dict[str, Clip]
    missing: list[str]


def scene(study: Study, methods: Sequence[str], condition: Condition, device: str, trust: Sequence[str]) -> Scene:
    """The first held-out episode of the first seed that all methods have under a condition.

    What is gone, or has changed since it was probed, is left out and named. Models that see several frames at a time
    begin later, and windows may differ: all clips show the steps that every one has.
    """
    rows = {name: study.cells(name, condition) for name in methods if study.cells(name, condition)}
    common = set.intersection(*({row["cell"]["seed"] for row in found} for found in rows.values())) if rows else set()
    shown: dict[str, Clip] = {}
    missing: list[str] = []
    for name, found in rows.items():
        row = next((row for row in found if row["cell"]["seed"] in common), found[0])
        try:
            with no_bars():
                shown[name] = _clip(study, row, study.methods[name], device, trust)
        except (FileNotFoundError, ValueError) as error:
            missing.append(str(error))
    start = max((clip.start for clip in shown.values()), default=0)
    end = min((clip.end for clip in shown.values()), default=0)
    aligned = {name: clip.between(start, end) for name, clip in shown.items()}
    return Scene(study.title(condition), aligned, list(dict.fromkeys(missing)))


def _clip(study: Study, row: Row, title: str, device: str, trust: Sequence[str]) -> Clip:
    """A held-out episode of a row, probed as its numbers were.

    Raises:
        FileNotFoundError: the dataset or the run is gone.
        ValueError: either has changed.
    """
    run, data = study.out / row["run"], study.out / row["data"]
    for folder, file in ((data, MANIFEST), (run, CARD)):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder} has been removed; the experiment, run again, makes it again")
    where = {"run": str(run), "data": str(data), "device": device, "verify": False, "trust": list(trust)}
    before: Plain = read_config(run / "probe") or plain(composed("probe", ["run="]))
    probe, _, dataset = open_probe({**before, **where})
    if dataset.content_hash != row["dataset"]["hash"]:
        raise ValueError(f"the dataset {str(data)!r} is not the one that was probed")
    [clip] = clips(probe, probe.score_shown(), 1, title)
    return clip


def strips(found: Scene, file: Path) -> None:
    """Frames of an episode over time, a row a method, with true and probed positions."""
    first = next(iter(found.clips.values()))
    length = len(first.frames)
    steps = [int(t) for t in np.unique(np.linspace(0, length - 1, SHOWN).astype(int))]
    ratios: dict[str, Any] = {"width_ratios": [1.5] + [1] * len(steps)}
    cell = WIDTH / (len(steps) + 1.5)
    figure, axes = new_figure(len(found.clips), len(steps) + 1, WIDTH, cell * len(found.clips) + 0.5, **ratios)
    for number, (line, clip) in enumerate(zip(axes, found.clips.values(), strict=True)):
        line[0].set_axis_off()
        line[0].text(0, 0.5, _label(clip), fontsize=10, va="center", transform=line[0].transAxes)
        for axis, t in zip(line[1:], steps, strict=True):
            _frame(axis, clip, t)
            if number == 0:
                axis.set_title(f"step {first.start + t}", fontsize=9)
    save_figure(figure, file)


def _frame(axis: Any, clip: Clip, t: int) -> None:
    show_frame(axis, clip.frames[t])
    for name in clip.truth:
        show_frame(axis, clip.frames[t], clip.truth[name][t], clip.readout[name][t])


def _label(clip: Clip) -> str:
    """The method, and its error in this episode."""
    errors = [
        f"{np.sqrt(np.mean(np.sum((clip.truth[name] - clip.readout[name]) ** 2, axis=-1))):.1f} px"
        for name in clip.truth
    ]
    return "\n".join([clip.title.removesuffix(", held-out episode 0").replace(" (", "\n("), ", ".join(errors)])
