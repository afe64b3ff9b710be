"""Speeds of environments, collection, sampling and training: the parts of the benchmark, each yielding rows."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import AddRenderObservation
from omegaconf import open_dict

from envs.registry import NAMESPACE
from jepa_worlds import collect
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.environments import distractors, native_ids
from jepa_worlds.data.windows import Batch, Windows
from jepa_worlds.machine.speed import frames_per_second, rate
from jepa_worlds.models.cards import spec
from jepa_worlds.models.devices import chosen_device, chosen_precision
from jepa_worlds.models.training import Schedule, Trainer
from jepa_worlds.shared.app import composed, override, plain
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import Plain

Row = tuple[str, dict[str, float]]  # what was measured, or why it cannot be; its numbers by column
FACES: dict[str, type[SyncVectorEnv] | type[AsyncVectorEnv]] = {"Sync": SyncVectorEnv, "Async": AsyncVectorEnv}


def environments(settings: Plain) -> Iterator[Row]:
    """Every native world beside Gymnasium's vector environments over it, then what others have of the same tasks.

    The ratio is that of the fastest of ours to the fastest of theirs.
    """
    seconds = settings["seconds"]
    best: dict[str, float] = {}  # frames/s of every world without a distractor
    for env_id in native_ids():
        name = env_id.removeprefix(f"{NAMESPACE}/")
        for noise, overrides in settings["distractors"].items():
            layers = distractors(plain(composed("collect", ["out=", *overrides]))["distractor"])
            numbers = {
                f"{n}": frames_per_second(gymnasium.make_vec(env_id, n, distractor=layers), seconds)
                for n in settings["worlds"]
            }
            fastest = max(numbers.values())
            best.setdefault(name, fastest)  # the first of the distractors is none
            numbers |= faces(env_id, settings, {"distractor": layers})
            theirs = max(number for column, number in numbers.items() if column.split()[0] in FACES)
            yield f"{name}, {noise}", {**numbers, "ratio": fastest / theirs}
    for name, peer in settings["peers"].items():
        try:
            numbers = faces(peer["id"], settings, peer.get("kwargs", {}))
        except (ImportError, OSError, ValueError, gymnasium.error.Error) as error:
            yield f"{name}: left out, {' '.join(str(error).split())}", {}
            continue
        if peer.get("of") in best:
            numbers["ratio"] = best[peer["of"]] / max(numbers.values())
        yield name, numbers


def faces(env_id: str, settings: Plain, kwargs: dict[str, Any]) -> dict[str, float]:
    """Frames a second of Gymnasium's vector environments over single ones."""
    numbers = {}
    for face, kind in FACES.items():
        for n in settings["faces"]:
            if env_id.startswith(f"{NAMESPACE}/") and env_id not in native_ids():  # they vectorise in their own way
                env = gymnasium.make_vec(env_id, n, processes=face == "Async", **kwargs)
            else:
                env = kind([partial(_pictured, env_id, kwargs)] * n)
            if isinstance(env, kind):
                numbers[f"{face} {n}"] = frames_per_second(env, settings["seconds"])
            else:  # one alone has no process of its own
                env.close()
    return numbers


def _pictured(env_id: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    """A single environment whose observations are pictures."""
    if env_id.startswith(f"{NAMESPACE}/"):
        return gymnasium.make(env_id, **kwargs)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or pygame complains where there is no display
    return AddRenderObservation(gymnasium.make(env_id, render_mode="rgb_array", **kwargs))


def collection(settings: Plain) -> Iterator[Row]:
    """The whole collect command in this process, checksums and all."""
    for name, overrides in settings["distractors"].items():
        with collected(settings["episodes"], overrides) as (_, seconds):
            yield f"collection to disk, {name}", {"frames/s": settings["episodes"] * 17 / seconds}


def sampling(settings: Plain) -> Iterator[Row]:
    """Batches of windows, from the memory map and from the device."""
    device, size = chosen_device(settings["device"]), 64
    with collected(settings["episodes"]) as (dataset, _):
        for resident in (False, True):
            windows, steps = Windows(dataset, "train", 17, device, resident), itertools.count()
            frames = rate(size * 17, settings["seconds"], lambda: windows.batch(next(steps), size, seed=0))  # noqa: B023
            yield f"window sampling, {'on the device' if resident else 'memory-mapped'}", {"frames/s": frames}


def training(settings: Plain) -> Iterator[Row]:
    """Training steps, data included."""
    device = chosen_device(settings["device"])
    with collected(settings["episodes"]) as (dataset, _):
        windows = Windows(dataset, "train", 17, device, resident=device.type == "cuda")
        for name, overrides in settings["models"].items():
            chosen, model, batch = prepared(dataset, windows, [*settings["train"], *overrides])
            precision = chosen_precision(chosen["precision"], model, batch)
            optimizer = build(chosen["optimizer"], ("agents", "torch.optim"), params=model.parameters())
            schedule = Schedule.of(chosen)
            weights = chosen["objective"]["weights"]
            trainer = Trainer(model, weights, optimizer, schedule, precision == "bf16", chosen["compile"])
            frames = rate(3 * schedule.batch_size * 17, settings["seconds"], _steps, trainer, windows, 3)
            yield f"training, {name}, {precision}", {"frames/s": frames}


def prepared(dataset: Dataset, windows: Windows, overrides: Sequence[str]) -> tuple[Plain, Any, Batch]:
    """The settings of the train command under overrides, its model on the device of the windows, and a batch."""
    config = composed("train", ["data=", "out=", *overrides])
    with open_dict(config):
        config.spec = spec(dataset)
    chosen = plain(config)
    model = build(chosen["model"]).to(windows.device)
    return chosen, model, windows.batch(0, chosen["batch_size"], 0)


@contextmanager
def collected(episodes: int, overrides: Sequence[str] = ()) -> Iterator[tuple[Dataset, float]]:
    """A dataset of MovingDot in a temporary folder, and the seconds that collecting it took."""
    with tempfile.TemporaryDirectory() as folder:
        config = composed("collect", [*overrides, f"episodes={episodes}", override("out", Path(folder) / "data")])
        started = time.perf_counter()
        path = collect.main(config)
        seconds = time.perf_counter() - started
        yield Dataset(path), seconds


def _steps(trainer: Trainer, windows: Windows, count: int) -> None:
    for _ in range(count):
        trainer.train_step(windows.batch(trainer.step, trainer.schedule.batch_size, 0))
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
