"""Rows of an evaluation of planning: episodes are played in batches, and each batch is kept as soon as it is over."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.planners.core import Plan
from envs import random
from jepa_worlds.planning.actors import Actor, Decided
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.shared.estimates import estimate, wilson
from jepa_worlds.shared.files import Plain, read_json, write_json
from jepa_worlds.shared.jobs import Report
from jepa_worlds.shared.runs import differing

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None  # type: ignore[assignment]

FOLDER = "rows"


@dataclass(frozen=True)
class Row:
    """One that acts in all episodes of a protocol.

    Attributes:
        name: of it, which is that of its file too.
        kind: ``planner``, ``baseline``, ``ceiling`` or ``floor``.
        settings: all that its episodes depend on, the protocol included.
        make: its actor, for a seed; what is told of every decision goes to the second argument.
        shown: how many episodes of the first seed are kept action by action, to be drawn.
    """

    name: str
    kind: str
    settings: Plain
    make: Callable[[int, Decided], Actor]
    shown: int = 0


@dataclass
class Effort:
    """What the decisions of one environment took, added up over episodes.

    Attributes:
        seconds: on the clock, of a whole batch shared out among its environments.
        decisions: how many.
        judged: candidates.
        memory: peak of the process so far, in MiB; of the accelerator where there is one. None where it is not known.
    """

    seconds: float = 0.0
    decisions: int = 0
    judged: int = 0
    memory: float | None = None


@dataclass
class Log:
    """What a planner decided in one batch: its plans for the environments that are shown, [k, H, A] each."""

    shown: int
    plans: list[list[Any]] = field(default_factory=list)
    judged: int = 0
    decisions: int = 0

    def __call__(self, plan: Plan, judged: int) -> None:
        self.decisions += 1
        self.judged += judged
        if self.shown:
            self.plans.append(plan.actions[: self.shown].cpu().numpy().round(5).tolist())


def row_file(out: Path, name: str) -> Path:
    """Where the episodes of a row are kept."""
    return out / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.json"


def check_rows(rows: Sequence[Row], out: Path) -> None:
    """Refuse to go on with episodes that were played otherwise, or into the same file.

    Raises:
        ValueError: they were, or two rows have names that are too much alike.
    """
    names: dict[Path, str] = {}
    for row in rows:
        _begun(row, out)
        file = row_file(out, row.name)
        if file in names:
            raise ValueError(f"{names[file]!r} and {row.name!r} would share {str(file)!r}: give one run another name")
        names[file] = row.name


def play_row(
    row: Row, protocol: Protocol, distractor: Plain, out: Path, at_once: int, report: Report, trust: Sequence[str] = ()
) -> Plain:
    """Play the episodes of a row that are not played yet; returns what is kept of it.

    Episodes that are over are reported. ``trust`` is that of `jepa_worlds.planning.arenas.Arena`.

    Raises:
        ValueError: bad input, or episodes that were played otherwise.
    """
    content = _begun(row, out)
    for seed in protocol.seeds:
        done = {episode["number"] for episode in content["episodes"] if episode["seed"] == seed}
        left = [number for number in range(protocol.episodes) if number not in done]
        report(len(done))
        for numbers in (left[start : start + at_once] for start in range(0, len(left), at_once)):
            shown = sum(number < row.shown for number in numbers) if seed == protocol.seeds[0] else 0
            log = Log(shown)
            arena = Arena(protocol, distractor, seed, numbers, trust)
            episodes, seconds = _play(arena, row.make(seed, log), shown)
            for i, (number, episode) in enumerate(zip(numbers, episodes, strict=True)):
                plans = {"plans": [plan[i] for plan in log.plans]} if i < shown else {}
                content["episodes"].append({"seed": seed, "number": number, **episode, **plans})
            content["effort"] = _added(content["effort"], seconds, log, len(numbers), protocol.budget)
            write_json(row_file(out, row.name), content)
            report(len(numbers))
    return content


def _begun(row: Row, out: Path) -> Plain:
    file, start = row_file(out, row.name), {"name": row.name, "settings": row.settings, "episodes": [], "effort": {}}
    if not file.is_file():
        return start
    content = read_json(file)
    before = content.get("settings", {}) if isinstance(content, dict) else {}
    found = [
        text
        for name in {**before, **row.settings}
        for text in differing(name, before.get(name), row.settings.get(name))
    ]
    if found:
        raise ValueError(
            f"{str(file)!r} holds episodes that were played otherwise, with {', '.join(found[:4])}: choose another out"
        )
    return dict(content)


def _play(arena: Arena, actor: Actor, shown: int) -> tuple[list[Plain], float]:
    """What became of the episodes of an arena, and the seconds in which the actor decided."""
    protocol = arena.protocol
    now, goal = arena.begin()
    actor.begin(now, goal, arena.space, random.fold_in(arena.key, 1))
    factor, seconds = protocol.success.factor, 0.0
    distances, places = [protocol.distance(now.factors, goal.factors)], [now.factors[factor]]
    returns, taken = np.zeros(len(arena.key)), []
    for _ in range(protocol.budget):
        started = time.perf_counter()
        actions = actor.act(now)
        seconds += time.perf_counter() - started
        now, rewards = arena.step(actions)
        returns += rewards
        distances.append(protocol.distance(now.factors, goal.factors))
        places.append(now.factors[factor])
        taken.append(actions[:shown])
    arena.close()
    apart = np.stack(distances, axis=1)  # [n, T+1]
    steps = np.diff(np.stack(places, axis=1).reshape(len(apart), len(places), -1).astype(np.float64), axis=1)
    lengths, there = np.linalg.norm(steps, axis=-1).sum(axis=1), apart <= protocol.success.within
    return [
        {
            "start": float(apart[i, 0]),
            "final": float(apart[i, -1]),
            "least": float(apart[i].min()),
            "arrived": int(there[i].argmax()) if there[i].any() else None,
            "path_length": float(lengths[i]),
            "return": float(returns[i]),
            **({"actions": [np.asarray(a[i]).tolist() for a in taken]} if i < shown else {}),
        }
        for i in range(len(apart))
    ], seconds


def _added(effort: Plain, seconds: float, log: Log, count: int, budget: int) -> Plain:
    before = Effort(**effort)
    known = [x for x in (before.memory, _memory()) if x is not None]
    return {
        "seconds": before.seconds + seconds,
        "decisions": before.decisions + (log.decisions or budget) * count,
        "judged": before.judged + log.judged * count,
        "memory": round(max(known), 1) if known else None,
    }


def _memory() -> float | None:
    """Peak memory in MiB: of the accelerator, if one is used, otherwise of this process; None where nothing tells."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def summary(episodes: Sequence[Plain], within: float) -> Plain:
    """What episodes come to, ready for JSON; ``…_ci95`` are Wilson's intervals of shares, Student's of means."""
    found: Plain = {"episodes": len(episodes)}
    for name, there in {
        "success_end": [x["final"] <= within for x in episodes],
        "success_ever": [x["arrived"] is not None for x in episodes],
    }.items():
        found |= {name: sum(there) / len(there), f"{name}_ci95": list(wilson(sum(there), len(there)))}
    for name, key in {"final_distance": "final", "path_length": "path_length", "return": "return"}.items():
        found |= _mean(name, [x[key] for x in episodes])
    arrived = [x["arrived"] for x in episodes if x["arrived"] is not None]
    return found | {"median_steps": float(np.median(arrived)) if arrived else None}


def _mean(name: str, values: Sequence[float]) -> Plain:
    found = estimate(values)
    assert found is not None
    ends = None if found.half is None else [found.mean - found.half, found.mean + found.half]
    return {name: found.mean, f"{name}_ci95": ends}
