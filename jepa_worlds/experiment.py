"""Compare methods on a grid of datasets: collect, train, probe, explain and plan, and gather what was found.

python -m jepa_worlds.experiment experiment=slow_features preset=quick
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs.arguments import require_whole_or_none
from jepa_worlds import plan
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.shared.app import command, plain, require_types
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.jobs import cores, run_jobs
from jepa_worlds.shared.runs import RESULTS, read_config, results, untouched, write_config, write_results
from jepa_worlds.studies import search
from jepa_worlds.studies.cells import Job, chosen_experiment, make_jobs
from jepa_worlds.studies.grid import Cell, Grid
from jepa_worlds.studies.reading import read_grid
from jepa_worlds.studies.running import (
    REFERENCE,
    Explanation,
    explain_cell,
    plan_cell,
    row,
    run_cell,
    validation_error,
    with_given,
)
from jepa_worlds.studies.study import Study
from jepa_worlds.studies.tabulating import ROLLOUT, markdown

Failures = dict[str, str]
"""What went wrong, by the cell's name."""


def main(config: DictConfig) -> Plain:
    """Run an experiment, or a single cell of it; returns what it writes to ``results.json``, nothing for a cell.

    Raises:
        ValueError: bad input, or cells that failed; the others are kept.
    """
    started = time.perf_counter()
    settings = plain(config)
    grid = _checked(settings)
    out = _folder(settings, grid)
    cells = grid.cells
    if settings["job"] is not None:
        one = with_given(make_jobs(grid, [_numbered(cells, settings["job"])], out), settings["given"], explained=False)
        _raise(_run(one, settings) or _plan(one, settings), 1)
        return {}
    jobs = with_given(make_jobs(grid, cells, out), settings["given"], settings["explain"])
    if settings["list"]:
        _tell([f"{number:4} {'done' if job.done else '-':4} {job.cell}" for number, job in enumerate(jobs)])
        return {}
    if settings["given"]:
        _tell([_taken(jobs, settings)])
    write_config(out, settings)
    failures: Failures = {}
    try:
        failures |= _run(jobs, settings)
        failures |= _explain(jobs, settings)
        failures |= _plan(jobs, settings)
    finally:  # whatever is done, even if the command is stopped
        content = _results(grid, jobs, failures, started)
        write_results(out, content)
    _tell(_told(grid, content, out))
    _raise(failures, len(jobs))
    return content


def _checked(settings: Plain) -> Grid:
    """The grid of the settings, which are checked.

    Raises:
        ValueError: bad input.
    """
    lists = dict.fromkeys(("collect", "train", "probe", "plan", "trust", "given"), list)
    require_types(settings, list=bool, explain=bool, **lists)
    jobs, job = settings["jobs"], settings["job"]
    require_whole_or_none(jobs=jobs)
    if job is not None and (type(job) is not int or job < 0):
        raise ValueError(f"job must be the number of a cell, or null for all, got {job!r}; list=true numbers them")
    chosen_device(settings["device"])
    return read_grid(settings)


def _taken(jobs: Sequence[Job], settings: Plain) -> str:
    """How many cells other studies have."""
    count = sum(job.given is not None for job in jobs)
    hint = "; those that are not explained are left, unless explain=false" if settings["explain"] else ""
    return f"given: {count} of {len(jobs)} cells{hint}"


def _folder(settings: Plain, grid: Grid) -> Path:
    """Where everything goes.

    Raises:
        ValueError: something else is there already.
    """
    out = Path(str(settings["out"] or f"runs/{grid.name}-{grid.preset}"))
    begun = not untouched(out, "data", "runs")
    name = (read_config(out).get("experiment") or {}).get("name") if begun else grid.name
    if name != grid.name:
        what = f"the experiment {name!r}" if name else "something else"
        raise ValueError(f"out={str(out)!r} exists and holds {what}: choose another folder")
    return out


def _numbered(cells: Sequence[Cell], number: int) -> Cell:
    if number >= len(cells):
        raise ValueError(f"job must be below {len(cells)}, the number of cells; got {number}; list=true numbers them")
    return cells[number]


def _run(jobs: Sequence[Job], settings: Plain) -> Failures:
    """Run what is not done, and say what failed.

    Raises:
        ValueError: plans that cannot be made on this device.
    """
    for job in jobs:
        if job.plan is not None and not job.planned:
            plan.check_device(plan.read_settings(OmegaConf.create(job.plan)))
    once = {job.run: job for job in reversed(jobs) if job.given is None}  # cells of the same settings have the same run
    left = [job for job in reversed(once.values()) if not job.known]
    total, to_do = (sum(job.steps for job in some) for some in (once.values(), left))
    name = f"{len(left)} of {len(once)} cells"
    found = _side_by_side(run_cell, left, settings, name, "step", total, total - to_do)
    failed = {job.run: why for job, why in zip(left, found, strict=True) if why}
    return {str(job.cell): failed[job.run] for job in jobs if job.run in failed}


def _explain(jobs: Sequence[Job], settings: Plain) -> Failures:
    """Explain what is done, and say what failed. Trials of a search are not explained."""
    if not settings["explain"]:
        return {}
    done = [job for job in jobs if job.known and job.given is None and not job.cell.trial]
    references = {job.cell.data: job.run for job in done if job.cell.method == REFERENCE}
    device, trust = settings["device"], tuple(settings["trust"])
    wanted = {job.run: (job, Explanation(job.run, references.get(job.cell.data), device, trust)) for job in done}
    explanations = [explanation for _, explanation in wanted.values()]
    found = _side_by_side(explain_cell, explanations, settings, "explain", "cell", len(explanations), 0)
    return {f"{job.cell}": f"explain: {why}" for (job, _), why in zip(wanted.values(), found, strict=True) if why}


def _plan(jobs: Sequence[Job], settings: Plain) -> Failures:
    """Plan with the models that are done, where the experiment says how, and say what failed. Trials are left out."""
    wanted = {job.plans: job for job in jobs if job.known and job.plan is not None and not job.cell.trial}
    left = [job for job in wanted.values() if not job.planned]
    found = _side_by_side(plan_cell, left, settings, "plan", "cell", len(wanted), len(wanted) - len(left))
    return {f"{job.cell}": f"plan: {why}" for job, why in zip(left, found, strict=True) if why}


def _side_by_side(
    function: Any, jobs: Sequence[Any], settings: Plain, desc: str, unit: str, total: float, done: float
) -> list[str | None]:
    """Run jobs in as many processes as asked for, under one progress bar; what went wrong with each."""
    if not jobs:
        return []
    on_gpu = chosen_device(settings["device"]).type != "cpu"
    workers = settings["jobs"] or (1 if on_gpu else cores())
    with bar(total=total, initial=done, desc=desc, unit=unit, unit_scale=unit == "step", smoothing=0.05) as progress:
        return run_jobs(function, jobs, min(workers, len(jobs)), progress)


def _results(grid: Grid, jobs: Sequence[Job], failures: Failures, started: float) -> Plain:
    """What goes into ``results.json``."""
    rows = [row(job) for job in jobs if job.known]
    scores = {name: panel.score or [] for name, panel in grid.panels.items()}
    shared = list(dict.fromkeys(factor for score in scores.values() for factor in score))
    found: Plain = {"search": [asdict(trial) for trial in _trials(grid, jobs)]} if grid.trials else {}
    metrics = {
        one["name"]: {
            factor: one["metrics"][factor]["rollout_rmse"]
            for factor in scores.get(one["cell"]["panel"], shared)
            if factor in one["metrics"]
        }
        for one in rows
    }
    return results(
        "experiment",
        metrics=metrics,  # all else is in the rows
        seeds=grid.seeds,
        protocol=rows[0]["protocol"] if rows else None,
        started=started,
        experiment={
            "name": grid.name,
            "chosen": chosen_experiment(grid.name),
            "title": grid.title,
            "preset": grid.preset,
            "score": grid.score,
            "methods": {name: method.title for name, method in grid.methods.items()},
            "panels": {
                name: {key: getattr(panel, key) for key in ("title", "levels", "score", "axis")}
                for name, panel in grid.panels.items()
            },
            "seeds": grid.seeds,
        },
        rows=rows,
        failed=[
            {"cell": asdict(job.cell), "error": failures[str(job.cell)]} for job in jobs if str(job.cell) in failures
        ],
        **found,
    )


def _trials(grid: Grid, jobs: Sequence[Job]) -> list[search.Trial]:
    scores: dict[str, list[float | None]] = {}
    for job in jobs:
        panel = grid.panels[job.cell.panel] if job.cell.panel else None
        factor = ((panel.score if panel else None) or grid.score)[0]
        scores.setdefault(job.cell.method, []).append(validation_error(job, factor))
    return search.ranked(grid.trials, scores)


def _told(grid: Grid, content: Mapping[str, Any], out: Path) -> list[str]:
    """What the command prints at its end."""
    lines = [""]
    if grid.trials:
        found = [search.Trial(**trial) for trial in content["search"]]
        lines += [*search.table(found), ""]
        for trial in search.best(found):
            lines.append(f"best of {trial.method}: {' '.join(trial.overrides) or 'as it is'}")
        lines.append("")
    elif content["rows"]:
        study = Study(out)
        lines += [f"{content['experiment']['title']}: rollout RMSE, mean ± 95 % interval over seeds", ""]
        lines += [line for part in study.parts for line in markdown(study, part, ROLLOUT)]
    return [*lines, str(out / RESULTS), f"see it all: python -m jepa_worlds.report {out}"]


def _tell(lines: Sequence[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _raise(failures: Failures, count: int) -> None:
    """End with what went wrong, if anything has.

    Raises:
        ValueError: something has.
    """
    if failures:
        said = [f"{cell}: {why}" for cell, why in failures.items()]
        kept = f"{len(failures)} of {count} cells failed, the others are kept; the same command tries them again"
        raise ValueError("\n".join([f"{kept}:", *said]))


if __name__ == "__main__":
    command("experiment")(main)()
