"""What can be wrong with an installation: checks that find out by trying, and never fail themselves."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PIP, APT = "python -m pip install", "apt-get install"
GL_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}  # of Debian
SECONDS = 120  # until what runs in a process of its own is given up
MEASURE = """
import json, sys, gymnasium
from jepa_worlds.machine.speed import frames_per_second
env_id, kwargs, seconds = json.loads(sys.argv[1])
env = gymnasium.make_vec(env_id, 1, vectorization_mode="sync", **kwargs)
print(json.dumps(frames_per_second(env, seconds)))
"""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        mark: ``ok``; ``missing`` or ``broken``: it cannot be used; ``slow``: it can, but slower than it should.
        what: was looked at.
        told: what was found.
        install: commands that bring what is missing.
        required: whether nothing works without it.
        metrics: numbers measured.
    """

    mark: Literal["ok", "missing", "broken", "slow"]
    what: str
    told: str
    install: tuple[str, ...] = ()
    required: bool = False
    metrics: dict[str, float] = field(default_factory=dict)


def examine(settings: Settings, names: Iterable[str] | None = None) -> Iterator[Finding]:
    """The findings of the checks of these names, of all by default. A check that fails is a finding too."""
    for name in names or CHECKS:
        check, required = CHECKS[name]
        try:
            yield from check(settings)
        except Exception as error:  # whatever it is, to find it is what a check is for
            yield Finding("broken", name, reason(error), required=required)


def reason(error: BaseException | str) -> str:
    """What an error says, in one line."""
    said = " ".join(str(error).split()) or repr(error)
    return said if len(said) <= 240 else f"{said[:240]}…"


def machine(settings: Settings) -> Iterator[Finding]:
    """Python, the system, and how much there is of it."""
    yield Finding("ok", "Python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("ok", "system", platform.platform())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    free = shutil.disk_usage(Path.cwd()).free
    told = (
        f"{cores} cores, {memory / 2**30 or float('nan'):.1f} GiB of memory, {free / 2**30:.1f} GiB of disk free here"
    )
    yield Finding("ok" if free > 2**30 else "slow", "hardware", told)


def packages(settings: Settings) -> Iterator[Finding]:
    """Every dependency, and every extra as a whole."""
    from packaging.requirements import Requirement

    extras: dict[str, list[Requirement]] = {}
    for text in importlib.metadata.requires("jepa_worlds") or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            version, fits = _installed(wanted)
            mark: Literal["ok", "broken", "missing"] = "ok" if fits else "broken" if version else "missing"
            told = version or "not installed" if fits else f"{version or 'not installed'}, needs {wanted.specifier}"
            yield Finding(mark, wanted.name, told, () if fits else (_pip(wanted),), required=True)
        elif wanted.name.replace("-", "_") != "jepa_worlds":  # an extra may name others
            extra = next((name for name in _extras() if wanted.marker.evaluate({"extra": name})), None)
            if extra:
                extras.setdefault(extra, []).append(wanted)
    for extra, members in extras.items():
        lacking = [wanted for wanted in members if not _installed(wanted)[1]]
        told = ", ".join(f"{wanted.name} {_installed(wanted)[0] or '(not installed)'}" for wanted in members)
        install = (_pip(*lacking),) if lacking else ()
        yield Finding("missing" if lacking else "ok", f"extra {extra}", told, install)


def learning(settings: Settings) -> Iterator[Finding]:
    """torch, where it computes and how precisely: as the trainer would choose, after collecting a little dataset."""
    import torch

    from jepa_worlds.data.windows import Windows
    from jepa_worlds.machine.benchmarking import collected, prepared
    from jepa_worlds.models.devices import chosen_device, chosen_precision

    yield Finding("ok", "torch", f"{torch.get_num_threads()} threads", required=True)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("ok" if gpus else "missing", "CUDA", ", ".join(gpus) or "no GPU that torch can use")
    if platform.system() == "Darwin":
        there = torch.backends.mps.is_available()
        yield Finding("ok" if there else "missing", "MPS", "device=mps" if there else "not available")
    device = chosen_device("auto")
    with contextlib.redirect_stderr(io.StringIO()), collected(20) as (dataset, _):  # without its progress bar
        _, model, batch = prepared(dataset, Windows(dataset, "train", 17, device), [])
        precision = chosen_precision("auto", model, batch)
        model.loss(batch)
    yield Finding("ok", "training", f"device=auto is {device}, precision=auto is {precision}", required=True)


def rendering(settings: Settings) -> Iterator[Finding]:
    """The GL backends that really render."""
    if importlib.util.find_spec("mujoco") is None:
        yield Finding("missing", "GL", "mujoco is not installed, and nothing else needs GL")
        return
    from envs.external.gl import backends

    found = backends()
    working = [name for name, told in found.items() if told == "ok"]
    for name, told in found.items():
        if told == "ok":
            yield Finding("ok", f"GL {name}", "renders")
        else:
            needed = not working and name in GL_PACKAGES
            install = (f"{APT} {GL_PACKAGES[name]}",) if needed else ()
            rest = f" (not needed: {working[0]} renders)" if working else ""
            yield Finding("missing", f"GL {name}", reason(told) + rest, install)


def video(settings: Settings) -> Iterator[Finding]:
    """Films that can be written, by writing two frames of each kind."""
    import numpy as np

    from jepa_worlds.pictures.video import write_images

    images = [np.full((16, 16, 3), shade, np.uint8) for shade in (0, 255)]
    with tempfile.TemporaryDirectory() as folder:
        write_images(images, 10, Path(folder) / "film.gif")
        yield Finding("ok", "GIF", "two frames written", required=True)
        try:
            write_images(images, 10, Path(folder) / "film.mp4")
        except Exception as error:  # moviepy raises what it likes
            yield Finding("missing", "MP4", reason(error), (f"{PIP} --upgrade imageio-ffmpeg moviepy",))
            return
    from moviepy.config import FFMPEG_BINARY

    said = subprocess.run([FFMPEG_BINARY, "-version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    yield Finding("ok", "MP4", f"two frames written with libx264, {' '.join(said.stdout.split()[:3])}, {FFMPEG_BINARY}")


def native_speed(settings: Settings) -> Iterator[Finding]:
    """Frames a second of a world that is drawn here."""
    import gymnasium

    from jepa_worlds.machine.speed import frames_per_second

    chosen = settings["native"]
    speed = frames_per_second(gymnasium.make_vec(chosen["id"], chosen["worlds"]), settings["seconds"])
    yield _speed(f"{_short(chosen['id'])} x {chosen['worlds']}", "native", speed, chosen["slow_below"], required=True)


def mujoco_speed(settings: Settings) -> Iterator[Finding]:
    """Frames a second of a MuJoCo world, in a process of its own: a bad GL driver takes its process along."""
    chosen = settings["mujoco"]
    what = f"{_short(chosen['id'])} {'-'.join(map(str, chosen['kwargs'].values()))}"
    if importlib.util.find_spec("dm_control") is None or importlib.util.find_spec("mujoco") is None:
        yield Finding("missing", what, "dm_control or mujoco is not installed")
        return
    arguments = [sys.executable, "-c", MEASURE, json.dumps([chosen["id"], chosen["kwargs"], settings["seconds"]])]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS, check=False)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"its process ended with status {ended.returncode}"]
        yield Finding("broken", what, reason(lines[-1]))
    else:
        yield _speed(what, "mujoco", json.loads(ended.stdout.splitlines()[-1]), chosen["slow_below"])


def _speed(what: str, name: str, speed: float, slow_below: float, required: bool = False) -> Finding:
    slow = speed < slow_below
    told = f"{speed:,.0f} frames/s" + (f", less than the usual {slow_below:,}" if slow else "")
    return Finding("slow" if slow else "ok", what, told, required=required, metrics={name: round(speed)})


def _short(env_id: str) -> str:
    return env_id.rpartition("/")[2]


def _installed(wanted: Any) -> tuple[str, bool]:
    """The version of what a requirement asks for, empty if there is none, and whether it is one that was asked for."""
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return "", False
    return version, wanted.specifier.contains(version, prereleases=True)


def _extras() -> list[str]:
    return importlib.metadata.metadata("jepa_worlds").get_all("Provides-Extra") or []


def _pip(*wanted: Any) -> str:
    return f"{PIP} {' '.join(f'{chr(34)}{one.name}{one.specifier}{chr(34)}' for one in wanted)}"


CHECKS: dict[str, tuple[Callable[[Settings], Iterator[Finding]], bool]] = {  # and whether nothing works without it
    "machine": (machine, True),
    "packages": (packages, True),
    "torch": (learning, True),
    "GL": (rendering, False),
    "video": (video, True),
    "native world": (native_speed, True),
    "MuJoCo world": (mujoco_speed, False),
}
