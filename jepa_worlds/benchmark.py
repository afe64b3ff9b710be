"""Measure how fast environments, collection, sampling, training and planning are on this machine.

python -m jepa_worlds.benchmark envs
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from envs.arguments import require_whole
from jepa_worlds.machine.benchmarking import FACES, Row, collection, environments, sampling, training
from jepa_worlds.machine.planning_speed import planning
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.shared.app import command, plain
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import results, write_results

NAME_WIDTH = 52
PARTS: dict[str, Callable[[Plain], Iterator[Row]]] = {
    "envs": environments,
    "collection": collection,
    "sampling": sampling,
    "training": training,
    "planning": planning,
}


def main(config: DictConfig) -> dict[str, Any]:
    """Measure, print a table a part, and write ``results.json``.

    Raises:
        ValueError: a part that there is not, or another bad setting.
    """
    started = time.perf_counter()
    settings = plain(config)
    _check(settings)
    device = chosen_device(settings["device"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    sys.stdout.write(f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads\n")
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for part in settings["parts"]:
        columns = _columns(part, settings)
        title = f"{part}, {'environments' if part == 'planning' else 'frames'}/s"
        sys.stdout.write(f"\n{title:{NAME_WIDTH}}{''.join(f'{column:>10}' for column in columns)}\n")
        metrics[part] = {}
        for row in PARTS[part](settings):
            sys.stdout.write(line(row, columns) + "\n")
            sys.stdout.flush()
            metrics[part][row[0]] = {column: _rounded(number) for column, number in row[1].items()}
    content = results("benchmark", metrics=metrics, started=started, machine=name)
    write_results(Path(settings["out"]), content)
    return content


def line(row: Row, columns: Sequence[str]) -> str:
    """A row of the table, with dashes where there is no number; no numbers at all, and it is a note."""
    name, numbers = row
    cells = [f"{_rounded(numbers[column]):,}" if column in numbers else "–" for column in columns]
    return f"{name:{NAME_WIDTH}}{''.join(f'{cell:>10}' for cell in cells)}" if numbers else name


def words_as_parts(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments whose bare words (``envs training``) have become ``parts=[envs,training]``."""
    words: list[str] = []
    others: list[str] = []
    for option, argument in zip(["", *arguments], arguments, strict=False):  # `--info config` is one option
        (words if argument.isidentifier() and option[:1] != "-" else others).append(argument)
    return [*others, f"parts=[{','.join(words)}]"] if words else others


def _check(settings: Plain) -> None:
    unknown = [part for part in settings["parts"] if part not in PARTS]
    if unknown:
        raise ValueError(f"parts must be among {list(PARTS)}, got {unknown}")
    chosen = settings["planning"]
    lists = {key: settings[key] for key in ("worlds", "faces")} | {"planning.environments": chosen["environments"]}
    for key, counts in lists.items():
        if not (isinstance(counts, list) and counts and all(type(n) is int and n >= 1 for n in counts)):
            raise ValueError(f"{key} must be a list of numbers of worlds, each at least 1, got {counts!r}")
    require_whole(**{"planning.horizon": chosen["horizon"]})
    if type(chosen["seconds"]) not in (int, float) or not 0 <= chosen["seconds"] < float("inf"):
        raise ValueError(f"planning.seconds must be a finite number of at least 0, got {chosen['seconds']!r}")


def _columns(part: str, settings: Plain) -> list[str]:
    if part == "planning":
        return ["ms of 1", *map(str, sorted(settings[part]["environments"])), "gain", "ratio"]
    if part != "envs":
        return ["frames/s"]
    return [*map(str, settings["worlds"]), *(f"{face} {n}" for face in FACES for n in settings["faces"]), "ratio"]


def _rounded(number: float) -> float:
    return round(number) if number >= 10 else round(number, 1 if number >= 1 else 2)


if __name__ == "__main__":
    sys.argv[1:] = words_as_parts(sys.argv[1:])
    command("benchmark")(main)()
