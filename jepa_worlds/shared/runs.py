"""Run folders: what every command leaves behind."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from jepa_worlds.shared.files import atomic, temporary_name, versions, write_json

CONFIG, RESULTS, METRICS = "config.yaml", "results.json", "metrics.jsonl"


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write a command's resolved configuration."""
    with atomic(run / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run; empty if there is none.

    Raises:
        ValueError: the file is not the configuration of a run.
    """
    file = run / CONFIG
    if not file.is_file():
        return {}
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} should map the keys of a configuration to values, got {config!r}")
    return config


def untouched(out: Path, *but: str) -> bool:
    """Whether a folder is not there or holds nothing, names in ``but`` and what a killed first write left apart."""
    nothing = {*but, temporary_name(out / CONFIG).name}
    return not out.exists() or (out.is_dir() and {path.name for path in out.iterdir()} <= nothing)


def claimed(out: Path, keys: set[str], what: str) -> Path:
    """A folder that is not there, empty, or begun by the command whose configuration has these keys.

    Raises:
        ValueError: something else is there, and not ``what``.
    """
    if not untouched(out) and not keys <= read_config(out).keys():
        raise ValueError(f"out={str(out)!r} exists and holds no {what}: choose another folder")
    return out


def differing(key: str, there: Any, now: Any) -> Iterator[str]:
    """Where two configurations differ: ``env.size=28 (now 32)``."""
    if isinstance(there, dict) and isinstance(now, dict):
        for name in {**there, **now}:
            yield from differing(f"{key}.{name}", there.get(name), now.get(name))
    elif there != now:
        yield f"{key}={there!r} (now {now!r})"


def protocol_id(protocol: dict[str, Any]) -> dict[str, str]:
    """Name and hash of a protocol, with all that it leaves open settled: numbers may be compared where both agree."""
    text = json.dumps(protocol, sort_keys=True)
    return {"id": protocol["id"], "hash": hashlib.sha256(text.encode()).hexdigest()[:12]}


def results(
    command: str,
    *,
    metrics: dict[str, Any],
    started: float,
    floors: dict[str, Any] | None = None,
    diagnostics: dict[str, Any] | None = None,
    seeds: list[int] | None = None,
    protocol: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Results in the one shape that every command has. ``started`` is `time.perf_counter` when it began."""
    return {
        "command": command,
        "metrics": metrics,
        "floors": floors or {},
        "diagnostics": diagnostics or {},
        "seeds": seeds or [],
        "protocol": protocol,
        "dataset": dataset,
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 2),
        **more,
    }


def write_results(run: Path, content: dict[str, Any]) -> None:
    """Write ``results.json``."""
    write_json(run / RESULTS, content)


class MetricsLog:
    """Numbers over steps, in ``metrics.jsonl`` and as TensorBoard events.

    Args:
        run: the folder.
        step: the step from which a run goes on; what was logged after it is dropped.
    """

    def __init__(self, run: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and `collect` does without

        self.file = run / METRICS
        kept = [row for row in read_metrics(run) if row["step"] <= step]
        with atomic(self.file) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self._stream = self.file.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **numbers: float) -> None:
        """Log numbers at a step."""
        self._stream.write(json.dumps({"step": step, **numbers}) + "\n")
        self._stream.flush()
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._board.close()


def run_name(run: str | Path) -> str:
    """The name of a run's folder, by which its row in a comparison is called."""
    return Path(str(run)).resolve().name


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a last line that was cut off is left out."""
    rows = []
    file = run / METRICS
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
