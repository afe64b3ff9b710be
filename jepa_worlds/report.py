"""Tell what an experiment found, in one page.

python -m jepa_worlds.report runs/slow_features-quick
"""

from __future__ import annotations

import base64
import mimetypes
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from omegaconf import DictConfig

from jepa_worlds import PACKAGE
from jepa_worlds.pictures.video import write_video
from jepa_worlds.shared.app import command, override, plain, require_types
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.files import Plain, atomic
from jepa_worlds.studies import leaderboard, panels, reasons, telling
from jepa_worlds.studies.leaderboard import Leaderboard
from jepa_worlds.studies.plans import PLAN_SCORE, plan_measures
from jepa_worlds.studies.scenes import scene, strips
from jepa_worlds.studies.study import Condition, Study, protocols
from jepa_worlds.studies.tabulating import (
    OTHERS,
    REASONS,
    ROLLOUT,
    Measure,
    Table,
    column,
    head_label,
    markdown,
    tables,
)

FOLDER, PAGE, TABLE = "report", "report.html", "table.md"
TEMPLATES = PACKAGE / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    file: Path
    about: str


@dataclass
class Part:
    """Methods that can be compared with each other, and all that is said of them.

    Attributes:
        methods: their names, the best first where there is a ranking.
        board: their ranking over all columns, if there is one.
        score, others, plans, reasons: tables.
        pictures: by what they show.
        losses: of each method's own objective, a line a method and condition.
        unjudged: the solutions that an objective cannot judge, and why.
    """

    methods: list[str]
    board: Leaderboard | None
    score: list[Table]
    others: list[tuple[Measure, list[Table]]]
    plans: list[tuple[Measure, list[Table]]]
    reasons: list[tuple[Measure, list[Table]]]
    losses: list[dict[str, str]]
    unjudged: list[str]
    pictures: dict[str, Picture] = field(default_factory=dict)


def main(config: DictConfig) -> Path:
    """Draw and write the report of an experiment; returns the page.

    Raises:
        FileNotFoundError: there is no experiment.
        ValueError: bad input, or results that cannot be compared.
        OSError: the report cannot be written.
    """
    settings = plain(config)
    _check(settings)
    study = Study(Path(str(settings["run"])))
    folder = study.out / FOLDER
    shown = _shown(study, settings)
    near = study.near(settings["level"], settings["panels"])
    parts = [
        _part(study, methods, near, settings["level"], folder, "" if number == 0 else f"-{number + 1}")
        for number, methods in enumerate(study.parts)
    ]
    scenes = _scenes(study, shown, near, settings, folder) if shown else []
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = embedded
    context = {
        "study": study,
        "parts": parts,
        "scenes": scenes,
        "near": near,
        "level": settings["level"],
        "rollout": ROLLOUT,
        "plan_score": PLAN_SCORE,
        "planned": sorted({found["planned in"] for row in study.rows if "planned in" in (found := protocols(row))}),
    }
    looks = panels.looks(study)
    helpers = {"telling": telling, "looks": looks, "head_label": head_label, "column": column, "folder": folder}
    page = environment.get_template(PAGE).render(**context, **helpers)
    _write(folder / PAGE, page)
    _write(folder / TABLE, "\n".join(_markdown(study, parts)))
    sys.stdout.write(f"{folder / PAGE}  {folder / TABLE}\n")
    return folder / PAGE


def words_as_run(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments whose bare word, the experiment's folder, has become ``run='…'``."""
    found = []
    for option, argument in zip(["", *arguments], arguments, strict=False):  # `--info config` is one option
        bare = "=" not in argument and not argument.startswith("-") and not option.startswith("-")
        found.append(override("run", argument) if bare else argument)
    return found


def embedded(file: Path) -> str:
    """A file as a URI that holds it."""
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _check(settings: Plain) -> None:
    require_types(settings, shown=int, films=bool, trust=list)
    if settings["shown"] < 0:
        raise ValueError(f"shown must be 0 or more methods, got {settings['shown']!r}")
    if type(settings["level"]) not in (int, float):
        raise ValueError(f"level must be a number, got {settings['level']!r}")


def _shown(study: Study, settings: Plain) -> list[str]:
    """The methods in frames and films.

    Raises:
        ValueError: one, or a panel, that the experiment does not have.
    """
    for key, known in (("methods", study.methods), ("panels", study.experiment["panels"])):
        unknown = [name for name in settings[key] or [] if name not in known]
        if unknown or settings[key] == []:
            raise ValueError(f"{key} must be among {list(known)}, got {unknown}")
    if settings["methods"] is not None:
        return list(settings["methods"])
    ranked = study.ranked(list(study.methods))
    return [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, settings["shown"]).round().astype(int))]


def _part(
    study: Study, methods: list[str], conditions: list[Condition], level: float, folder: Path, suffix: str
) -> Part:
    near = [c for c in conditions if any(study.cells(m, c) for m in methods)]
    board = leaderboard.leaderboard(study, methods)
    methods = methods if board is None else board.ordered(methods)

    def tabulated(measures: Sequence[Measure]) -> list[tuple[Measure, list[Table]]]:
        return [(measure, found) for measure in measures if (found := tables(study, methods, measure))]

    part = Part(
        methods,
        board,
        tables(study, methods, ROLLOUT),
        tabulated(OTHERS),
        tabulated(plan_measures(study)),
        tabulated(REASONS),
        list(_losses(study, methods, near)),
        list(dict.fromkeys(_unjudged(study, methods, near))),
    )
    for name, about in _draw(study, methods, level, near, folder, suffix) if near else []:
        part.pictures[name] = Picture(folder / f"{name}{suffix}.png", about)
    return part


def _draw(
    study: Study, methods: list[str], level: float, near: list[Condition], folder: Path, suffix: str
) -> Iterator[tuple[str, str]]:
    """Draw what there is to draw of methods that can be compared; yields what each figure is called and shows."""

    def file(name: str) -> Path:
        return folder / f"{name}{suffix}.png"

    charts = [c for c in study.charts(level) if all(any(study.cells(m, x) for m in methods) for _, x in c.points)]
    if charts:
        panels.over_axes(study, methods, charts, file("levels"))
        yield "levels", "Error over the level of the distractor and other axes, for every method and panel"
    drawn = {condition for chart in charts for _, condition in chart.points}
    rest = [c for c in near if c not in drawn]
    if rest:
        panels.side_by_side(study, methods, rest, file("panels"))
        yield "panels", "Error of every method in panels without an axis"
    panels.step_by_step(study, methods, near, file("steps"))
    yield "steps", "Error at every step of the rollout, for every method and panel"
    pairs = study.controls(near)
    if pairs:
        panels.control(study, methods, pairs, file("control"))
        yield "control", "Error where the distractor stays the same, beside that where it changes"
    if reasons.backgrounds(study, methods, near, file("background")):
        yield "background", "How much of the background latents hold, against how much of what is scored"
    reasons.diagnostics(study, methods, near, file("diagnostics"))
    yield "diagnostics", "r_within, RankMe and action sensitivity of every method and panel"
    if reasons.spectra(study, methods, near, file("spectra")):
        yield "spectra", "Eigenvalues of the covariance of the latents"
    if reasons.losses(study, methods, near, file("losses")):
        yield "losses", "The objective of each method for the trained model and for other solutions"


def _losses(study: Study, methods: list[str], conditions: list[Condition]) -> Iterator[dict[str, str]]:
    """Lines of the table of losses, the least marked by an asterisk on either side, as Markdown has it."""
    for method in methods:
        for condition in conditions:
            found = {s: x.mean for s in reasons.SOLUTIONS if (x := reasons.loss(study, method, condition, s))}
            if not found:
                continue
            least = min(found, key=found.__getitem__)
            numbers = {s: f"{found[s]:.3g}" if s in found else "–" for s in reasons.SOLUTIONS}
            yield {"method": method, "condition": study.title(condition), "least": least, **numbers}


def _unjudged(study: Study, methods: list[str], conditions: list[Condition]) -> Iterator[str]:
    for row in (row for method in methods for condition in conditions for row in study.cells(method, condition)):
        for solution, why in ((row["explained"] or {}).get("unavailable") or {}).items():
            yield f"{study.methods[row['cell']['method']]}, {reasons.SOLUTIONS[solution]}: {why}."


def _scenes(
    study: Study, shown: list[str], near: list[Condition], settings: Plain, folder: Path
) -> list[dict[str, Any]]:
    """Frames and films of the panels at one level."""
    found = []
    for condition in bar(near, desc="episodes", unit="panel"):
        one = scene(study, shown, condition, settings["device"], settings["trust"])
        name = re.sub(r"[^a-z0-9]+", "-", one.title.lower()).strip("-")
        picture, film = folder / f"frames-{name}.png", folder / f"film-{name}.mp4"
        entry: dict[str, Any] = {"title": one.title, "missing": one.missing, "picture": None, "film": None}
        if one.clips:
            strips(one, picture)
            entry["picture"] = Picture(picture, f"Frames of a held-out episode: {one.title}")
            if settings["films"]:
                write_video([list(one.clips.values())], columns=2, fps=settings["fps"], file=film)
                entry["film"] = film
        found.append(entry)
    return found


def _markdown(study: Study, parts: Sequence[Part]) -> Iterator[str]:
    seeds = f"mean over seeds {study.seeds} ± half the 95 % Student interval"
    yield f"{study.experiment['title']}: {ROLLOUT.title}, {seeds}."
    yield ""
    for part in parts:
        if part.board is not None:
            yield from leaderboard.markdown(study, part.board)
        yield from markdown(study, part.methods, ROLLOUT)
        for measure, _ in part.plans:
            yield f"{measure.title}: {PLAN_SCORE}."
            yield ""
            yield from markdown(study, part.methods, measure)
    yield f"Made by `{telling.command_of(study)}` and `python -m jepa_worlds.report {study.out}`."
    yield ""


def _write(file: Path, text: str) -> None:
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.argv[1:] = words_as_run(sys.argv[1:])
    command("report")(main)()
