"""The cells of an experiment as work to do: what it is called, and whether it is done.

A name ends in the first digits of the hash of all settings behind it. Other settings are other folders, and whatever is
there under its name is what was asked for.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jepa_worlds import plan, train
from jepa_worlds.data.collecting import Collection
from jepa_worlds.models.checkpoint import CARD
from jepa_worlds.models.training import Schedule
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.shared.app import composed, explained, override, plain, require_all
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import RESULTS, read_config
from jepa_worlds.studies.grid import Cell, Grid

DIGITS = 8  # of a hash
PROBE, PLAN = "probe", "plan"
NOT_DATA = ("out", "num_envs")  # settings of `collect` that its data do not depend on
NOT_PROBE = ("device", "out", "run", "verify")
NOT_PLAN = (*NOT_PROBE, "film", "fps", "num_envs", "shown")
SILENT = ("film=false", "shown=0")  # a film of every cell would be many

Made = Callable[[str, tuple[str, ...]], Plain]
"""What makes the configuration of a command under overrides."""


@dataclass(frozen=True)
class Job:
    """A cell as commands.

    Attributes:
        cell: which.
        data, run: the folders of the dataset and of the training run.
        collect, train, probe, plan: the configurations of the commands, not resolved; ``plan`` is None without one.
        commands: what to type for the same.
        given: its row of ``results.json``, where another study has it; nothing is left to do then.
    """

    cell: Cell
    data: Path
    run: Path
    collect: Plain
    train: Plain
    probe: Plain
    plan: Plain | None
    commands: tuple[str, ...]
    given: Plain | None = None

    @property
    def steps(self) -> int:
        """Of training."""
        return int(self.train["steps"])

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.known and self.planned

    @property
    def known(self) -> bool:
        """Whether the model is there, and probed; or its row is given."""
        return self.given is not None or (self.trained and self.probed)

    @property
    def trained(self) -> bool:
        """Whether the model is there."""
        return (self.run / CARD).is_file()

    @property
    def probed(self) -> bool:
        """Whether it was probed as asked for."""
        folder, free = self.run / PROBE, (*NOT_PROBE, "trust")
        wanted = _but(resolved(self.probe), free)
        return (folder / RESULTS).is_file() and _but(read_config(folder), free) == wanted

    @property
    def planned(self) -> bool:
        """Whether nothing is to be planned, or was."""
        return self.plan is None or self.given is not None or (self.plans / RESULTS).is_file()

    @property
    def plans(self) -> Path:
        """The folder of what is planned; plans made otherwise have others."""
        return self.run / PLAN / _hash(self.plan or {}, NOT_PLAN)


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
    collecting, training, probing = (made(name, tuple(overrides[name])) for name in ("collect", "train", "probe"))
    planning = made("plan", tuple(overrides["plan"])) if "plan" in overrides else None
    for place, level in levels.items():
        collecting = _set(collecting, place, level)
    collecting, training = collecting | {"seed": cell.seed}, training | {"seed": cell.seed}
    key = _hash(collecting, NOT_DATA)
    folder = out / "data" / data.setdefault(key, f"{cell.data}-{key}")
    key = _hash(training, train.FREE, key)
    run = out / "runs" / runs.setdefault(key, f"{cell.run}-{key}")
    drawn = [f"seed={cell.seed}"]
    commands = [
        _said("collect", [*overrides["collect"], *(f"{place}={x}" for place, x in levels.items()), *drawn], out=folder),
        _said("train", [*overrides["train"], *drawn], data=folder, out=run),
        _said("probe", [*overrides["probe"], *drawn], run=run),
    ]
    if planning is not None:
        plans = run / PLAN / _hash(planning, NOT_PLAN)
        commands.append(_said("plan", overrides["plan"], run=run, out=plans))
        planning = planning | {"run": _path(run), "out": _path(plans)}
    collecting = collecting | {"out": _path(folder)}
    training = training | {"data": _path(folder), "out": _path(run)}
    probing = probing | {"run": _path(run), "seed": cell.seed}
    return Job(cell, folder, run, collecting, training, probing, planning, tuple(commands))


def _configured(command: str, overrides: tuple[str, ...]) -> Plain:
    """The configuration of a command, not resolved, checked as far as that goes without data.

    Raises:
        ValueError: overrides that do not fit together, or values that are out of range.
    """
    needed = {"collect": ["out=-"], "train": ["out=-", "data=-"], "probe": ["run=-"], "plan": ["run=-", *SILENT]}
    words = plan.words_with_group(overrides) if command == "plan" else overrides
    own = [word for word in words if command == "plan" and word.partition("=")[0] in ("run", "runs", "out")]
    try:
        if own:
            raise ValueError(f"an experiment plans in its own models, in their folders: leave out {', '.join(own)}")
        config = composed(command, [*needed[command], *words])
        require_all(config)
        if command == "collect":
            Collection.of(plain(config))
        elif command == "train":
            Schedule.of(config)
        elif command == "plan":
            settings = plan.read_settings(config)
            plan.check(settings)
            Protocol.of(settings["protocol"])
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        said = explained(error, command, overrides)
        raise ValueError(f"{command} {shlex.join(overrides)}: {said}") from error
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def resolved(config: Plain) -> Plain:
    """A configuration with every interpolation resolved."""
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
    trusting: Plain = {"trust": []} if "trust" in config else {}  # whom one trusts makes no difference to what is made
    text = json.dumps([_but(config | trusting, without), *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _but(settings: Plain, without: Sequence[str]) -> Plain:
    return {name: value for name, value in settings.items() if name not in without}


def _there(folder: Path) -> dict[str, str]:
    """Names of the folders that are there, by the hash that they end in."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return {name[-DIGITS:]: name for name in names if re.fullmatch(rf".*-[0-9a-f]{{{DIGITS}}}", name)}


def _said(command: str, overrides: Sequence[str], **paths: Path) -> str:
    """A command line. Of several overrides of a key the last alone."""
    last = {one.partition("=")[0]: one for one in overrides}
    where = [override(key, path) for key, path in paths.items()]
    return shlex.join(["python", "-m", f"jepa_worlds.{command}", *_config_dir(), *last.values(), *where])


def chosen_experiment(name: str) -> list[str]:
    """How the command line chose the experiment of a name, and where that lies if it is one's own."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return [*_config_dir(), f"experiment={choices.get('experiment', name)}"]


def _config_dir() -> list[str]:
    """The folder of configurations that the command line adds, which the commands need too."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
