"""Doing the cells of an experiment: collect, train, probe, plan and explain, as far as that is not done yet."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from jepa_worlds import collect, train
from jepa_worlds.data.dataset import MANIFEST, read_manifest
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.plan import plan_run, read_settings
from jepa_worlds.probe import probe_run
from jepa_worlds.probing.explaining import EXPLAINED, SOLUTIONS, explain
from jepa_worlds.shared.bars import no_bars
from jepa_worlds.shared.files import Plain, read_json, write_json
from jepa_worlds.shared.jobs import LISTEN, Report
from jepa_worlds.shared.runs import CONFIG, RESULTS, read_config
from jepa_worlds.studies.cells import DIGITS, PROBE, Job, resolved
from jepa_worlds.studies.study import read_study

REFERENCE = "supervised"  # the method whose run the others are explained by
SECONDS = "seconds.json"
PLANNED = ("episodes", "success_end", "success_ever", "final_distance", "return", "seconds_per_decision")


def run_cell(job: Job, report: Report) -> None:
    """Collect, train and probe, as far as that is not done yet, by this process or another.

    Raises:
        ValueError: bad input, or a loss that is no longer finite.
    """
    told = 0.0

    def steps(count: float) -> None:
        nonlocal told
        told += count
        report(count)

    with no_bars():
        with _locked(job.data, report):
            if not _collected(job.data):
                with _timed(job.data, MANIFEST, "collect"):
                    collect.main(OmegaConf.create(job.collect))
        with _locked(job.run, report):
            if not job.trained:
                with _timed(job.run, CONFIG, "train"):
                    train.main(OmegaConf.create(job.train), steps)
            report(0)
            if not job.probed:
                (job.run / PROBE / RESULTS).unlink(missing_ok=True)
                probe_run(resolved(job.probe))
    report(job.steps - told)


def plan_cell(job: Job, report: Report) -> None:
    """Plan with a model that is trained, as far as that is not done yet.

    Raises:
        ValueError: bad input, such as a protocol of other worlds than the model's.
    """
    if job.plan is not None:
        with no_bars(), _locked(job.run, report):
            if not job.planned:
                plan_run(read_settings(OmegaConf.create(job.plan)), lambda _: report(0))
    report(1)


@dataclass(frozen=True)
class Explanation:
    """What `jepa_worlds.probing.explaining.explain` is to explain, and by what supervised run."""

    run: Path
    supervised: Path | None
    device: str
    trust: tuple[str, ...]


def explain_cell(job: Explanation, report: Report) -> None:
    """Explain a run, as far as that is not done yet.

    Raises:
        ValueError: a run that cannot be explained.
    """
    with no_bars(), _locked(job.run, report):
        explain(job.run, job.supervised, device=job.device, trust=job.trust)
    report(1)


def with_given(jobs: Sequence[Job], studies: Sequence[str], explained: bool) -> list[Job]:
    """Jobs with the rows that other studies have of them, where there is no model yet.

    A row is a job's if all settings behind it are the same: of data and training by the hash in which the run's name
    ends, of probing and planning by their commands. It has to say as much as is wanted, and what the others are
    explained by is not taken over where there is something to explain.

    Args:
        jobs: of this study.
        studies: folders of others, or their ``results.json``.
        explained: whether cells are to be explained.

    Raises:
        FileNotFoundError: there is no such study.
        ValueError: it is none.
    """
    rows: dict[str, list[Plain]] = {}
    for study in map(Path, studies):
        for one in read_study(study)["rows"]:
            rows.setdefault(one["run"][-DIGITS:], []).append(one)

    def given(job: Job) -> Plain | None:
        there = [] if job.trained else rows.get(job.run.name[-DIGITS:], [])
        return next((one for one in there if _says_enough(one, job, explained)), None)

    found = [replace(job, given=given(job)) for job in jobs]
    left = {job.cell.data for job in found if job.given is None and explained}
    return [
        replace(job, given=None) if job.cell.method == REFERENCE and job.cell.data in left else job for job in found
    ]


def _says_enough(there: Plain, job: Job, explained: bool) -> bool:
    """Whether a row's model was probed, planned in and explained as a job's is to be; paths apart."""
    paths = ("run=", "out=", "--config-dir=")
    own, other = (
        [[word for word in shlex.split(command) if not word.startswith(paths)] for command in commands]
        for commands in (job.commands[2:], there["commands"][2 : len(job.commands)])
    )
    whole = ((there["planned"], job.plan is not None), (_current(there["explained"]), explained))
    return own == other and (job.cell.trial or all(part is not None for part, wanted in whole if wanted))


def _current(explained: Plain | None) -> Plain | None:
    """An explanation, if it is of the solutions of now."""
    return explained if explained and explained["inputs"].get("solutions") == SOLUTIONS else None


def row(job: Job) -> Plain:
    """What is known of a cell that is done, as ``results.json`` of the experiment has it."""
    if job.given is not None:
        own = {"name": str(job.cell), "cell": asdict(job.cell), "explained": _current(job.given["explained"])}
        return {**job.given, **own}
    probed, card, out = read_json(job.run / PROBE / RESULTS), read_card(job.run), job.run.parent.parent
    return {
        "name": str(job.cell),
        "cell": asdict(job.cell),
        "run": str(job.run.relative_to(out)),
        "data": str(job.data.relative_to(out)),
        "commands": _settled(job),
        "config": {name: value for name, value in card.items() if name != "spec"},
        **{name: probed[name] for name in ("metrics", "floors", "diagnostics", "protocol", "dataset")},
        "explained": _read(job.run / EXPLAINED) or None,
        "planned": _planned(job) if job.plan is not None and job.planned else None,
        "seconds": {
            "collect": _read(job.data / SECONDS).get("collect"),
            "train": _read(job.run / SECONDS).get("train"),
            "probe": probed["seconds"],
        },
    }


def _planned(job: Job) -> Plain:
    """What planning in a model came to, under which protocol: who acts on its latents, and floors and ceiling."""
    found, score = read_json(job.plans / RESULTS), read_config(job.plans)["protocol"]["score"]
    own: dict[str, Plain] = {"acting": {}, "floors": {}}
    for one in found["rows"]:
        name = {"planner": "planner", "baseline": one["name"].partition(" on ")[0]}.get(one["kind"])
        numbers = {key: one["metrics"][key] for key in PLANNED}
        own["acting" if name else "floors"][name or one["name"]] = numbers
    return {"protocol": found["protocol"], "score": score, **own}


def _settled(job: Job) -> list[str]:
    """The commands of a cell, with the precision that training chose: another machine may choose otherwise."""
    collecting, training, *rest = job.commands
    chosen = read_config(job.run).get("precision")
    said = job.train["precision"] != "auto" or chosen is None
    return [collecting, training if said else f"{training} precision={chosen}", *rest]


def validation_error(job: Job, factor: str) -> float | None:
    """The error of the probe on validation episodes; None where it is not known."""
    metrics = row(job)["metrics"] if job.known else {}
    return metrics.get(factor, {}).get("rollout_validation_rmse")


def _collected(data: Path) -> bool:
    return (data / MANIFEST).is_file() and bool(read_manifest(data).get("complete"))


@contextmanager
def _locked(folder: Path, report: Report) -> Iterator[None]:
    """Nobody else who asks is in here for the same folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    while not lock.is_locked:
        try:
            lock.acquire(timeout=LISTEN)
        except Timeout:
            report(0)  # which hears whether to stop
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _timed(folder: Path, mark: str, what: str) -> Iterator[None]:
    """Add the seconds in here to those kept in a folder, once the file is there by which it is known."""
    started = time.perf_counter()
    try:
        yield
    finally:
        if (folder / mark).is_file():
            before = _read(folder / SECONDS)
            seconds = before.get(what, 0.0) + time.perf_counter() - started
            write_json(folder / SECONDS, {**before, what: round(seconds, 2)})


def _read(file: Path) -> Plain:
    return read_json(file) if file.is_file() else {}
