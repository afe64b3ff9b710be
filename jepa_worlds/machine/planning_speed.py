"""How fast plans are made, beside a loop as it is usual elsewhere, and what planners themselves take of the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from agents.costs.core import Aims, Costs, plan_cost
from agents.costs.int8 import has_int8, int8
from agents.costs.latent_distance import LatentDistance
from agents.planners.cem import CEM
from agents.planners.core import Cost, Planner
from agents.world_models.core import WorldModel
from jepa_worlds.data.windows import Windows
from jepa_worlds.machine.benchmarking import Row, collected, prepared
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import Plain

EPISODES = 100  # of the dataset whose frames plans begin and end at
MODEL_ROWS = {precision: f"CEM on the model, {precision}" for precision in ("fp32", "bf16", "int8")}
LOOP = "CEM on the model, fp32, one by one, step by step"
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} s{postfix}"


@dataclass
class Timing:
    """A decision for so many environments, and the seconds that the fastest one took so far."""

    row: str
    count: int
    decide: Callable[[], object]
    best: float = math.inf


def planning(settings: Plain) -> Iterator[Row]:
    """CEM on an untrained model in every precision, CEM as a plain loop, and planners on a cost that is free.

    The gain is that of the most environments at once over the fewest, the ratio that of a row's fastest rate to the
    loop's.

    Raises:
        ValueError: a bad setting of CEM, of a planner or of the model.
    """
    timings, left_out = _timings(settings["planning"], settings["train"], chosen_device(settings["device"]))
    measure(timings, settings["planning"]["seconds"])
    rates: dict[str, dict[int, float]] = {}
    for timing in timings:
        rates.setdefault(timing.row, {})
        if timing.best < math.inf:  # otherwise there was no time for it
            rates[timing.row][timing.count] = timing.count / timing.best
    for name, found in rates.items():
        numbers = {str(count): rate for count, rate in found.items()}
        if 1 in found:
            numbers |= {"ms of 1": 1000 / found[1]}
        if len(found) > 1:
            numbers |= {"gain": found[max(found)] / found[min(found)]}
        if name in MODEL_ROWS.values():
            numbers |= {"ratio": max(found.values()) / max(rates[LOOP].values())}
        yield name, numbers
    yield from ((f"{MODEL_ROWS[precision]}: left out, {reason}", {}) for precision, reason in left_out.items())


def measure(timings: Sequence[Timing], seconds: float) -> None:
    """Take decisions in turns, so that a machine which is slower for a while is so for all, until the time is up.

    The first of each row is taken in any case, any other one only if there is time for it.
    """
    started = time.perf_counter()
    with bar(total=math.ceil(seconds), desc="benchmark planning", bar_format=BAR, leave=False) as progress:
        some = True
        while some:
            some = False
            for timing in timings:
                begun = time.perf_counter()
                expected = _expected(timing, timings)
                if started + seconds < begun + expected < math.inf:
                    continue
                progress.set_postfix_str(f"{timing.row}, {timing.count}")
                timing.decide()
                now, some = time.perf_counter(), True
                timing.best = min(timing.best, now - begun)
                progress.update(min(int(now - started), math.ceil(seconds)) - progress.n)


def one_by_one(model: WorldModel, starts: Tensor, goals: Tensor, cem: CEM, horizon: int, size: int) -> Tensor:
    """CEM as a plain loop over environments: starts [B, D], goals [B, G] -> [B, H, A], actions from 0 to 1."""
    plans, generator = [], _generator(starts.device)
    for start, goal in zip(starts, goals, strict=True):
        mean = torch.full((horizon, size), 0.5, device=start.device)
        std = mean / 2
        for _ in range(cem.iterations):
            noise = torch.randn(cem.candidates, horizon, size, generator=generator, device=start.device)
            candidates = (mean + std * noise).clamp(0, 1)
            costs = step_by_step(model, start, goal, candidates)
            elites = candidates[costs.topk(cem.elites, largest=False).indices]
            mean, std = elites.mean(dim=0), elites.std(dim=0, correction=0)
        plans.append(mean)
    return torch.stack(plans).cpu()


@torch.no_grad()
def step_by_step(model: WorldModel, start: Tensor, goal: Tensor, candidates: Tensor) -> Tensor:
    """`LatentDistance` of candidates, by a call of the model a step: [D], [G], [N, H, A] -> [N]."""
    latents, seen = start.expand(len(candidates), -1), []
    for actions in candidates.split(1, dim=1):
        latents = model.predict(latents[:, None], actions)[:, 0]
        seen.append(latents)
    achieved = model.achieved_goal(torch.stack(seen, dim=1))  # [N, H, G]
    return torch.linalg.vector_norm(achieved - goal, dim=-1).mean(dim=1) / goal.shape[-1] ** 0.5


def _timings(chosen: Plain, overrides: Sequence[str], device: torch.device) -> tuple[list[Timing], dict[str, str]]:
    """All decisions, those for few environments first; and the precisions that the device lacks, and why."""
    model, state, goal, size = _scene([*overrides, *chosen["model"]], max(chosen["environments"]), device)
    cem: CEM = build({"_target_": f"{CEM.__module__}.{CEM.__name__}", **chosen["cem"]})
    planners = {name: build(plain(composed("plan", wanted).planner)) for name, wanted in chosen["planners"].items()}
    costs, left_out = Costs({"distance": LatentDistance()}, {"distance": 1.0}), _left_out(device)
    models = {name: int8(model) if name == "int8" else model for name in MODEL_ROWS if name not in left_out}
    decide = partial(_decision, horizon=chosen["horizon"], size=size, device=device)
    latents, timings = state[:, : model.latent_dim], []
    for count in sorted(chosen["environments"]):
        for name, imagining in models.items():
            cost = plan_cost(costs, imagining, state[:count], Aims(goal=goal[:count]), bf16=name == "bf16")
            timings.append(Timing(MODEL_ROWS[name], count, partial(decide, cem, cost, count)))
        if count == min(chosen["environments"]):  # a loop's rate is the same for more
            loop = partial(one_by_one, model, latents[:count], goal[:count], cem, chosen["horizon"], size)
            timings.append(Timing(LOOP, count, loop))
        timings += [
            Timing(f"{name} on a cost that is free", count, partial(decide, planner, _free, count))
            for name, planner in planners.items()
        ]
    return timings, left_out


def _scene(overrides: Sequence[str], count: int, device: torch.device) -> tuple[WorldModel, Tensor, Tensor, int]:
    """An untrained model, states and latents of goals for so many environments, and the size of an action."""
    with collected(EPISODES) as (dataset, _):
        windows = Windows(dataset, "train", 17, device)
        _, model, _ = prepared(dataset, windows, overrides)
        batch = windows.batch(0, count, seed=0)
        with torch.no_grad():
            model.eval()
            state = model.update(None, None, batch["frames"][:, 0])
            goal = model.achieved_goal(model.encode(batch["frames"], batch["actions"])[:, -1])
    return model, state, goal, batch["actions"].shape[-1]


def _decision(planner: Planner, cost: Cost, count: int, horizon: int, size: int, device: torch.device) -> Tensor:
    """A plan over actions from 0 to 1, or over choices, where it can be carried out: [B, H, A]."""
    start = torch.full((count, horizon, size), 0.5, device=device)
    bounds = torch.zeros(size, device=device), torch.ones(size, device=device)
    return planner.plan(cost, start, *bounds, _generator(device)).actions.cpu()


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _free(actions: Tensor) -> Tensor:
    return actions[:, :, 0, 0]


def _left_out(device: torch.device) -> dict[str, str]:
    there = {
        "bf16": device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported()),
        "int8": device.type == "cpu" and has_int8(),
    }
    return {precision: f"this {device.type} does not have it" for precision, has in there.items() if not has}


def _expected(timing: Timing, timings: Sequence[Timing]) -> float:
    """Seconds that a decision will take, from those of its row; inf if none was taken yet."""
    if timing.best < math.inf:
        return timing.best
    return timing.count * min(other.best / other.count for other in timings if other.row == timing.row)
