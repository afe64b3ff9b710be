"""The cells of an experiment as work to do: what it is called, whether it is done, and doing it.

A name ends in the first digits of the hash of all settings behind it. Other settings are other folders, and whatever is
there under its name is what was asked for.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jepa_worlds import collect, train
from jepa_worlds.app import Plain, composed, explained, plain, require_all
from jepa_worlds.bars import no_bars
from jepa_worlds.checkpoint import CARD, read_card
from jepa_worlds.collecting import Collection
from jepa_worlds.dataset import MANIFEST, read_manifest
from jepa_worlds.explaining import EXPLAINED, explain
from jepa_worlds.files import read_json, write_json
from jepa_worlds.grid import Cell, Grid
from jepa_worlds.jobs import LISTEN, Report
from jepa_worlds.probe import probe_run
from jepa_worlds.runs import CONFIG, RESULTS, read_config, read_metrics
from jepa_worlds.training import Schedule

DIGITS = 8  # of a hash
SECONDS = "seconds.json"
PROBE = "probe"
NOT_DATA = ("out", "num_envs")  # settings of `collect` that its data do not depend on
NOT_PROBE = ("device", "out", "run", "verify")

Made = Callable[[str, tuple[str, ...]], Plain]
"""What makes the configuration of a command under overrides."""


@dataclass(frozen=True)
class Job:
    """A cell as three commands.

    Attributes:
        cell: which.
        data, run: the folders of the dataset and of the training run.
        collect, train, probe: the configurations of the commands, not resolved.
        commands: what to type for the same.
    """

    cell: Cell
    data: Path
    run: Path
    collect: Plain
    train: Plain
    probe: Plain
    commands: tuple[str, str, str]

    @property
    def steps(self) -> int:
        """Of training."""
        return int(self.train["steps"])

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.trained and self.probed

    @property
    def trained(self) -> bool:
        """Whether the model is there."""
        return (self.run / CARD).is_file()

    @property
    def probed(self) -> bool:
        """Whether it was probed as asked for."""
        folder, wanted = self.run / PROBE, _but(_resolved(self.probe), NOT_PROBE)
        return (folder / RESULTS).is_file() and _but(read_config(folder), NOT_PROBE) == wanted


def make_jobs(grid: Grid, cells: Sequence[Cell], out: Path) -> list[Job]:
    """The jobs of cells in a folder; cells of the same settings share what they are made into.

    Raises:
        ValueError: overrides that do not fit together.
    """
    made = cache(_configured)  # most cells differ in nothing but what `_job` sets
    data, runs = _there(out / "data"), _there(out / "runs")
    found = []
    for cell in cells:
        try:
            found.append(_job(grid, cell, out, made, data, runs))
        except ValueError as error:
            raise ValueError(f"{cell} cannot be run: {error}") from error
    return found


def _job(grid: Grid, cell: Cell, out: Path, made: Made, data: dict[str, str], runs: dict[str, str]) -> Job:
    """The job of a cell; adds the names of its folders to those that there are, by their hashes."""
    overrides, levels = grid.overrides(cell), grid.level(cell)
    collecting, training, probing = (made(name, tuple(given)) for name, given in overrides.items())
    for place, level in levels.items():
        collecting = _set(collecting, place, level)
    collecting, training = collecting | {"seed": cell.seed}, training | {"seed": cell.seed}
    key = _hash(collecting, NOT_DATA)
    folder = out / "data" / data.setdefault(key, f"{cell.data}-{key}")
    key = _hash(training, train.FREE, key)
    run = out / "runs" / runs.setdefault(key, f"{cell.run}-{key}")
    drawn = [f"seed={cell.seed}"]
    commands = (
        _said("collect", [*overrides["collect"], *(f"{place}={x}" for place, x in levels.items()), *drawn], out=folder),
        _said("train", [*overrides["train"], *drawn], data=folder, out=run),
        _said("probe", [*overrides["probe"], *drawn], run=run),
    )
    collecting |= {"out": _path(folder)}
    training |= {"data": _path(folder), "out": _path(run)}
    return Job(cell, folder, run, collecting, training, probing | {"run": _path(run), "seed": cell.seed}, commands)


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
                probe_run(_resolved(job.probe))
    report(job.steps - told)


@dataclass(frozen=True)
class Explanation:
    """What `jepa_worlds.explaining.explain` is to explain, and by what supervised run."""

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


def row(job: Job) -> Plain:
    """What is known of a cell that is done, as ``results.json`` of the experiment has it."""
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
        "seconds": {
            "collect": _read(job.data / SECONDS).get("collect"),
            "train": _read(job.run / SECONDS).get("train"),
            "probe": probed["seconds"],
        },
    }


def _settled(job: Job) -> list[str]:
    """The commands of a cell, with the precision that training chose: another machine may choose otherwise."""
    collecting, training, probing = job.commands
    chosen = read_config(job.run).get("precision")
    said = job.train["precision"] != "auto" or chosen is None
    return [collecting, training if said else f"{training} precision={chosen}", probing]


def validation_error(job: Job, factor: str) -> float | None:
    """The error on validation episodes that training logged last; None if it has not come to its end."""
    name = f"held_out/{factor}/rollouts_rmse"
    logged = [numbers[name] for numbers in read_metrics(job.run) if name in numbers] if job.trained else []
    return logged[-1] if logged else None


def _configured(command: str, overrides: tuple[str, ...]) -> Plain:
    """The configuration of a command, not resolved, checked as far as that goes without data.

    Raises:
        ValueError: overrides that do not fit together, or values that are out of range.
    """
    needed = {"collect": ["out=-"], "train": ["out=-", "data=-"], "probe": ["run=-"]}[command]
    try:
        config = composed(command, [*needed, *overrides])
        require_all(config)
        if command == "collect":
            settings = plain(config)
            Collection(**{name: settings[name] for name in Collection.__dataclass_fields__})
        elif command == "train":
            Schedule(**{name: config[name] for name in Schedule.__dataclass_fields__})
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        said = explained(error, command, overrides)
        raise ValueError(f"{command} {shlex.join(overrides)}: {said}") from error
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def _resolved(config: Plain) -> Plain:
    return plain(OmegaConf.create(config))


def _set(config: Plain, place: str, value: Any) -> Plain:
    """A configuration with another value at a place such as ``distractor.level``.

    Raises:
        ValueError: there is no such place.
    """
    *parents, key = place.split(".")
    config = copy.deepcopy(config)
    inner: Any = config
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or key not in inner:
        raise ValueError(f"there is no {place} to set to {value!r}; a panel's level may name other keys to set")
    inner[key] = value
    return config


def _path(path: Path) -> str:
    """A path as a configuration takes it, whatever signs are in it."""
    return str(path).replace("${", r"\${")


def _hash(config: Plain, without: Sequence[str], *more: str) -> str:
    text = json.dumps([_but(config, without), *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _but(settings: Plain, without: Sequence[str]) -> Plain:
    return {name: value for name, value in settings.items() if name not in without}


def _there(folder: Path) -> dict[str, str]:
    """Names of the folders that are there, by the hash that they end in."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return {name[-DIGITS:]: name for name in names if re.fullmatch(rf".*-[0-9a-f]{{{DIGITS}}}", name)}


def _said(command: str, overrides: Sequence[str], **paths: Path) -> str:
    """A command line. Of several overrides of a key the last alone."""
    last = {override.partition("=")[0]: override for override in overrides}
    where = [
        f"{key}={path}" if re.fullmatch(r"[\w./-]+", str(path)) else f"{key}='{path}'" for key, path in paths.items()
    ]
    return shlex.join(["python", "-m", f"jepa_worlds.{command}", *_config_dir(), *last.values(), *where])


def _config_dir() -> list[str]:
    """The folder of configurations that the command line adds, which the commands need too."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]


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
