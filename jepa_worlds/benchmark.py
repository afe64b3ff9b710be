"""Measure how fast environments, collection, sampling and training are on this machine.

python -m jepa_worlds.benchmark
"""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from omegaconf import DictConfig, open_dict

from jepa_worlds import collect
from jepa_worlds.app import command, composed, plain
from jepa_worlds.build import build
from jepa_worlds.collecting import distractors
from jepa_worlds.dataset import Dataset
from jepa_worlds.runs import results, write_results
from jepa_worlds.train import spec
from jepa_worlds.training import Schedule, Trainer, chosen_device, chosen_precision
from jepa_worlds.windows import Windows

Row = tuple[str, float, str]  # what, how much, of what unit


def main(config: DictConfig) -> dict[str, Any]:
    """Measure, print a line a number, and write ``results.json``."""
    started = time.perf_counter()
    settings = plain(config)
    parts: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
        "environments": environments,
        "collection": collection,
        "sampling": sampling,
        "training": training,
    }
    unknown = set(settings["parts"]) - parts.keys()
    if unknown:
        raise ValueError(f"parts must be among {list(parts)}, got {sorted(unknown)}")
    device = chosen_device(settings["device"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    sys.stdout.write(f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads\n")
    metrics: dict[str, float] = {}
    for part in settings["parts"]:
        for what, rate, unit in parts[part](settings):
            metrics[what] = round(rate)
            sys.stdout.write(f"{what:58} {rate:12,.0f} {unit}\n")
            sys.stdout.flush()
    content = results("benchmark", metrics=metrics, started=started, machine=name)
    write_results(Path(settings["out"]), content)
    return content


def rate(count: int, seconds: float, function: Callable[..., object], *arguments: Any) -> float:
    """How many of ``count`` things a call are done a second: the median over calls, after one to warm up."""
    function(*arguments)
    took: list[float] = []
    while sum(took) < seconds or len(took) < 3:
        started = time.perf_counter()
        function(*arguments)
        took.append(time.perf_counter() - started)
    return count / float(np.median(took))


def environments(settings: dict[str, Any]) -> Iterator[Row]:
    """Steps through the full Gymnasium API, frames included, resets too."""
    worlds = settings["worlds"]
    for name, overrides in settings["distractors"].items():
        config = plain(composed("collect", ["out=", *overrides]))
        env_id, kwargs = config["env"].pop("id"), config["env"] | {"distractor": distractors(config["distractor"])}
        vector = gymnasium.make_vec(env_id, worlds, **kwargs)
        vector.reset(seed=0)
        actions = vector.action_space.sample()
        frames = rate(17 * worlds, settings["seconds"], _repeat, vector.step, actions)
        yield f"vector environment, {worlds} worlds, {name}", frames, "frames/s"
        single = gymnasium.make(env_id, **kwargs)
        yield f"single environment, {name}", rate(16, settings["seconds"], _episode, single), "steps/s"


def collection(settings: dict[str, Any]) -> Iterator[Row]:
    """The whole collect command in this process, checksums and all."""
    for name, overrides in settings["distractors"].items():
        with _dataset(settings, overrides) as (_, seconds):
            yield f"collection to disk, {name}", settings["episodes"] * 17 / seconds, "frames/s"


def sampling(settings: dict[str, Any]) -> Iterator[Row]:
    """Batches of windows, from the memory map and from the device."""
    device, size = chosen_device(settings["device"]), 64
    with _dataset(settings, []) as (path, _):
        for resident in (False, True):
            windows = Windows(Dataset(path), "train", 17, device, resident)
            frames = rate(size * 17, settings["seconds"], _next_batch, windows, size, itertools.count())
            yield f"window sampling, {'on the device' if resident else 'memory-mapped'}", frames, "frames/s"


def training(settings: dict[str, Any]) -> Iterator[Row]:
    """Training steps, data included."""
    device = chosen_device(settings["device"])
    with _dataset(settings, []) as (path, _):
        dataset = Dataset(path)
        windows = Windows(dataset, "train", 17, device, resident=device.type == "cuda")
        for name, overrides in settings["models"].items():
            config = composed("train", ["data=", "out=", *settings["train"], *overrides])
            with open_dict(config):
                config.spec = spec(dataset)
            chosen = plain(config)
            model = build(chosen["model"]).to(device)
            batch = windows.batch(0, chosen["batch_size"], 0)
            precision = chosen_precision(chosen["precision"], model, batch)
            optimizer = build(chosen["optimizer"], ("agents", "torch.optim"), params=model.parameters())
            schedule = Schedule(**{key: chosen[key] for key in Schedule.__dataclass_fields__})
            weights = chosen["objective"]["weights"]
            trainer = Trainer(model, weights, optimizer, schedule, precision == "bf16", chosen["compile"])
            frames = rate(3 * chosen["batch_size"] * 17, settings["seconds"], _steps, trainer, windows, 3)
            yield f"training, {name}, {precision}", frames, "frames/s"


def _repeat(step: Callable[[Any], object], actions: Any) -> None:
    for _ in range(17):
        step(actions)


def _next_batch(windows: Windows, size: int, numbers: Iterator[int]) -> None:
    windows.batch(next(numbers), size, seed=0)


def _episode(env: gymnasium.Env) -> None:
    env.reset()
    for _ in range(16):
        env.step(np.ones(2, np.float32))


def _steps(trainer: Trainer, windows: Windows, count: int) -> None:
    for _ in range(count):
        trainer.train_step(windows.batch(trainer.step, trainer.schedule.batch_size, 0))
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)


class _dataset:
    """A dataset in a temporary folder, and the seconds that collecting it took."""

    def __init__(self, settings: dict[str, Any], overrides: list[str]) -> None:
        self.settings, self.overrides = settings, overrides

    def __enter__(self) -> tuple[Path, float]:
        self.folder = Path(tempfile.mkdtemp())
        episodes = f"episodes={self.settings['episodes']}"
        config = composed("collect", [*self.overrides, episodes, f"out={self.folder / 'data'}"])
        started = time.perf_counter()
        collect.main(config)
        return self.folder / "data", time.perf_counter() - started

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)


if __name__ == "__main__":
    command("benchmark")(main)()
