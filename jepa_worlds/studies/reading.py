"""What an experiment, a preset, a subset and the command line say together: a grid.

An experiment says what is compared (``configs/experiment``), a preset how much of it is run (``configs/preset``). What
both leave open is said by a subset; the command line has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from envs.arguments import require_whole, require_whole_or_none
from jepa_worlds.shared.files import Plain
from jepa_worlds.studies.choices import check_keys, check_levels, chosen, first_given, require_known
from jepa_worlds.studies.grid import OVERRIDES, PLANS, Grid, Method, Panel
from jepa_worlds.studies.search import trials
from jepa_worlds.studies.tuned import Tuned, check_rows

BUDGET = {
    "collect": ("episodes", "episode_length"),
    "train": ("steps", "batch_size", "window"),
    "probe": (),
    "plan": (),
}
COUNTS = ("seeds", *BUDGET["collect"], *BUDGET["train"])  # integers of at least 1
CHOICES = ("methods", "panels", "levels", "trials", *COUNTS)
NAME = re.compile(r"[A-Za-z0-9_.+-]+")  # of a folder, and in an override


def read_grid(settings: Plain) -> Grid:
    """The grid that the settings of the command describe.

    Raises:
        ValueError: something that is not known, has no place there, or is there twice; or nothing to run.
    """
    experiment = _checked_experiment(settings["experiment"])
    preset = settings["preset"]
    check_keys("preset", preset, ("name", "subset", *CHOICES, *OVERRIDES))
    layers = [settings, _subset(settings["subset"], preset.get("subset"), experiment), preset]
    known = {"methods": experiment["methods"], "panels": experiment["panels"]}
    # What an experiment says of methods and panels defines them, and chooses none.
    made = {key: first_given(key, layers if key in known else [*layers, experiment]) for key in CHOICES}
    require_whole_or_none(**{key: made[key] for key in COUNTS})
    methods = {n: _made(Method, f"method {n!r}", x) for n, x in chosen("methods", made["methods"], known["methods"])}
    panels = {n: _made(Panel, f"panel {n!r}", x) for n, x in chosen("panels", made["panels"], known["panels"])}
    levels = check_levels(made["levels"] if made["levels"] is not None else [None])
    panels = {
        name: replace(panel, levels=panel.levels or levels, score=panel.score or experiment["score"])
        for name, panel in panels.items()
    }
    _check_plans([*(experiment.get("plan") or []), *settings["plan"]], panels)  # a preset's are for what plans
    drawn = _add_trials(methods, made["trials"] or 0, settings["search_seed"])
    first = settings["first_seed"]
    require_whole(0, first_seed=first)
    return Grid(
        name=experiment["name"],
        title=experiment["title"],
        score=experiment["score"],
        preset=preset["name"],
        methods=methods,
        panels=panels,
        seeds=list(range(first, first + (made["seeds"] or 1))),
        first={
            name: [
                *(f"{key}={made[key]}" for key in BUDGET[name] if made[key] is not None),
                *(preset.get(name) or []),
                *(experiment.get(name) or []),
            ]
            for name in OVERRIDES
        },
        last=_last(settings),
        trials=drawn,
        tuned=Tuned(
            check_rows(experiment.get("tuned") or {}, known["methods"], known["panels"]),
            made["steps"] * made["batch_size"] if made["steps"] and made["batch_size"] else None,
            frozenset(key for key in ("steps", "batch_size") if settings[key] is not None),
        ),
    )


def _check_plans(overrides: list[str], panels: Mapping[str, Panel]) -> None:
    """Raises ValueError for overrides of ``plan`` where there is no protocol to plan under."""
    words = [*overrides, *(word for panel in panels.values() for word in panel.plan or [])]
    if words and not any(word.startswith(PLANS) for word in words):
        raise ValueError(f'plan={words} names no protocol, as in plan=["protocol=moving_dot/v1"]')


def _add_trials(methods: dict[str, Method], count: int, seed: int) -> dict[str, list[str]]:
    """Add to methods the trials of those that have a search; returns what each trial overrides."""
    drawn = {
        name: overrides for method in methods for name, overrides in trials(method, methods[method].search, count, seed)
    }
    for name, overrides in drawn.items():
        method, _, number = name.partition("#")
        methods[name] = Method(f"{methods[method].title} #{number}", [*methods[method].train, *overrides])
    return drawn


def _checked_experiment(experiment: Any) -> Plain:
    """An experiment whose keys are known and named.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(experiment, dict):
        raise ValueError(f"experiment must be chosen, as in experiment=slow_features; got {experiment!r}")
    check_keys("experiment", experiment, ("name", "title", "score", "subsets", "tuned", *CHOICES, *OVERRIDES))
    for key in ("name", "title", "score", "methods", "panels"):
        if not experiment.get(key):
            raise ValueError(f"an experiment needs {key}; this one has {sorted(experiment)}")
    for kind in ("methods", "panels"):
        for name in (*experiment[kind], experiment["name"]):
            if not NAME.fullmatch(str(name)):
                raise ValueError(f"{name!r} becomes the name of a folder: use letters, digits, _, ., + and - alone")
    return experiment


def _last(settings: Plain) -> dict[str, list[str]]:
    """The overrides of commands that the command line gives."""
    device = [] if settings["device"] == "auto" else [f"device={settings['device']}"]
    trust = [f"trust=[{','.join(settings['trust'])}]"] if settings["trust"] else []
    return {name: [*([] if name == "collect" else device), *trust, *settings[name]] for name in OVERRIDES}


def _subset(name: str | None, otherwise: str | None, experiment: Plain) -> Plain:
    """A subset of an experiment: the one that is asked for, or else the one that the preset names, if there is one.

    Raises:
        ValueError: there is no such subset.
    """
    known = experiment.get("subsets") or {}
    if name is None:
        name = otherwise if otherwise in known else None
    if name is None:
        return {}
    require_known("subset", [name], known)
    check_keys(f"subset {name!r}", known[name], CHOICES)
    return known[name]


def _made(kind: type, what: str, given: Any) -> Any:
    """A method or a panel of its description.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, dict) or "title" not in given:
        raise ValueError(f"{what} must be described by a title and overrides, as in {{title: …}}, got {given!r}")
    check_keys(what, given, [one.name for one in fields(kind)])
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
