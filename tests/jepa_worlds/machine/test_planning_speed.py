"""The speed of planning: what is compared does the same work, decisions are taken in turns, and a budget is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from agents.costs.core import Aims, Costs, plan_cost
from agents.costs.latent_distance import LatentDistance
from agents.planners.cem import CEM
from agents.predictors.gru import GRUPredictor
from agents.world_models.encoder_predictor import EncoderPredictor
from jepa_worlds import benchmark
from jepa_worlds.machine import planning_speed
from jepa_worlds.machine.planning_speed import LOOP, MODEL_ROWS, Timing, measure, one_by_one, planning, step_by_step
from jepa_worlds.shared.app import composed, plain

SMALL = [
    "planning.seconds=0",
    "planning.horizon=3",
    "planning.environments=[1,2]",
    'planning.model=["model.latent_dim=64","encoder.width=8"]',
    "planning.cem={candidates:8,elites:2,iterations:2}",
]
PLANNERS = {"shooting": ["planner=random_shooting", "planner.candidates=8"]}


def settings(*overrides: str, planners: dict[str, list[str]] = PLANNERS) -> dict[str, Any]:
    config = plain(composed("benchmark", ["parts=[planning]", "device=cpu", *SMALL, *overrides]))
    return {**config, "planning": {**config["planning"], "planners": planners}}


@pytest.fixture
def model() -> EncoderPredictor:
    torch.manual_seed(0)
    predictor = GRUPredictor(16, 2)
    return EncoderPredictor(torch.nn.Identity(), predictor, {}, 16, [0.0], [1.0], [0.5, 0.5], [0.3, 0.3]).eval()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in ``clock[0]``; decisions of `taking` move it on, and nothing else."""
    now = [100.0]
    monkeypatch.setattr(planning_speed.time, "perf_counter", lambda: now[0])
    return now


def taking(clock: list[float], log: list[str], row: str, count: int, *seconds: float) -> Timing:
    """A decision that takes so many seconds, one number after the other, and the last one from then on."""
    left = list(seconds)

    def decide() -> None:
        log.append(f"{row} {count}")
        clock[0] += left.pop(0) if len(left) > 1 else left[0]

    return Timing(row, count, decide)


def test_step_by_step__judges_as_plan_cost_does(model):
    start, goal, candidates = torch.randn(16), torch.randn(16), torch.rand(5, 4, 2)
    costs = Costs({"distance": LatentDistance()}, {"distance": 1.0})
    ours = plan_cost(costs, model, start[None], Aims(goal=goal[None]))(candidates[None])[0]
    torch.testing.assert_close(step_by_step(model, start, goal, candidates), ours, rtol=1e-5, atol=1e-6)


def test_one_by_one__finds_what_the_planner_finds(model):
    starts, candidates = torch.randn(3, 16), torch.rand(3, 500, 4, 2)
    goals = model.predict(starts[:, None], candidates[:, 0])[:, -1].detach()
    costs, cem = Costs({"distance": LatentDistance()}, {"distance": 1.0}), CEM(100, 10, 10)
    cost = plan_cost(costs, model, starts, Aims(goal=goals))
    bounds = torch.zeros(2), torch.ones(2)
    planned = cem.plan(cost, torch.full((3, 4, 2), 0.5), *bounds, torch.Generator().manual_seed(0))
    looped = one_by_one(model, starts, goals, cem, 4, 2)
    assert looped.shape == (3, 4, 2)
    torch.testing.assert_close(cost(looped[:, None])[:, 0], planned.costs, rtol=0.01, atol=0)
    assert (planned.costs < cost(candidates).amin(dim=1)).all()  # there was something to find


def test_one_by_one__asks_for_every_step_of_every_environment(model, monkeypatch):
    asked, predict = [], model.predict

    def counted(latents, actions):
        asked.append(tuple(actions.shape))
        return predict(latents, actions)

    monkeypatch.setattr(model, "predict", counted)
    one_by_one(model, torch.randn(3, 16), torch.randn(3, 16), CEM(8, 2, 5), 4, 2)
    assert asked == [(8, 1, 2)] * (3 * 5 * 4)


def test_measure__takes_turns_and_remembers_the_fastest(clock):
    log: list[str] = []
    timings = [taking(clock, log, "a", 1, 3.0, 1.0, 2.0), taking(clock, log, "b", 1, 2.0)]
    measure(timings, seconds=12)
    assert log == ["a 1", "b 1"] * 3
    assert [timing.best for timing in timings] == [1, 2]


def test_measure__keeps_to_its_budget(clock):
    log: list[str] = []
    timings = [
        taking(clock, log, "a", 1, 1.0),
        taking(clock, log, "b", 1, 3.0),
        taking(clock, log, "a", 4, 2.0),  # expected to take 4
        taking(clock, log, "b", 4, 2.0),  # expected to take 12
    ]
    measure(timings, seconds=11)
    assert log == ["a 1", "b 1", "a 4", "a 1", "b 1", "a 1"]
    assert clock[0] == 111
    assert [timing.best for timing in timings] == [1, 3, 2, math.inf]


def test_measure__takes_the_first_of_each_row_in_any_case(clock):
    log: list[str] = []
    timings = [taking(clock, log, row, count, 5.0) for count in (1, 4) for row in "ab"]
    measure(timings, seconds=0)
    assert log == ["a 1", "b 1"]


def test_planning__has_every_row(monkeypatch):
    decided: dict[str, int] = {}

    def fixed(timings: list[Timing], seconds: float) -> None:
        for timing in timings:
            decided[f"{timing.row}, {timing.count}"] = len(timing.decide())
            timing.best = {LOOP: 0.5, MODEL_ROWS["int8"]: 0.125}.get(timing.row, 0.25)

    monkeypatch.setattr(planning_speed, "measure", fixed)
    monkeypatch.setattr(planning_speed, "has_int8", lambda: True)
    rows = dict(planning(settings()))
    names, free = list(MODEL_ROWS.values()), "shooting on a cost that is free"
    assert list(rows) == [*names, LOOP, free]
    for name in names[:2]:
        assert rows[name] == {"ms of 1": 250, "1": 4, "2": 8, "gain": 2, "ratio": 4}
    assert rows[MODEL_ROWS["int8"]] == {"ms of 1": 125, "1": 8, "2": 16, "gain": 2, "ratio": 8}
    assert rows[LOOP] == {"ms of 1": 500, "1": 2}
    assert rows[free] == {"ms of 1": 250, "1": 4, "2": 8, "gain": 2}
    assert decided == {f"{row}, {count}": count for row in (*names, free) for count in (1, 2)} | {f"{LOOP}, 1": 1}


def test_planning__imagines_in_every_precision(monkeypatch):
    seen: list[tuple[str, int, bool]] = []

    def spied(costs, model, state, aims, bf16):
        kinds = {type(module).__name__ for module in model.modules()}
        seen.append(("int8" if "Int8GRU" in kinds else "fp32", len(state), bf16))
        return plan_cost(costs, model, state, aims, bf16)

    monkeypatch.setattr(planning_speed, "plan_cost", spied)
    monkeypatch.setattr(planning_speed, "has_int8", lambda: True)
    list(planning(settings(planners={})))
    assert seen == [
        (x, count, bf16) for count in (1, 2) for x, bf16 in (("fp32", False), ("fp32", True), ("int8", False))
    ]


def test_planning__leaves_out_what_the_device_lacks(monkeypatch):
    monkeypatch.setattr(planning_speed, "_left_out", lambda device: {"int8": "a gpu does not have it"})
    rows = dict(planning(settings("planning.environments=[1]", planners={})))
    assert list(rows) == [
        MODEL_ROWS["fp32"],
        MODEL_ROWS["bf16"],
        LOOP,
        "CEM on the model, int8: left out, a gpu does not have it",
    ]
    assert not rows["CEM on the model, int8: left out, a gpu does not have it"]


@pytest.mark.parametrize(
    ("device", "bf16", "quick", "lacks"),
    [
        ("cpu", False, True, []),
        ("cpu", False, False, ["int8"]),
        ("cuda", True, True, ["int8"]),
        ("cuda", False, True, ["bf16", "int8"]),
        ("mps", True, True, ["bf16", "int8"]),
    ],
)
def test_devices__have_precisions(device, bf16, quick, lacks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    monkeypatch.setattr(planning_speed, "has_int8", lambda: quick)
    assert list(planning_speed._left_out(torch.device(device))) == lacks


def test_planners__of_the_configuration_search_on_a_free_cost():
    """Those that choose and those that descend a gradient, too."""
    planners = plain(composed("benchmark", []))["planning"]["planners"]
    rows = dict(planning(settings("planning.environments=[2]", planners=planners)))
    assert len(planners) >= 6
    assert all(rows[f"{name} on a cost that is free"]["2"] > 0 for name in planners)


def test_benchmark__prints_a_table_of_planning_and_writes_results(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(planning_speed, "has_int8", lambda: True)
    benchmark.main(OmegaConf.create({**settings(), "out": str(tmp_path / "out")}))
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]["planning"]
    assert list(metrics) == [*MODEL_ROWS.values(), LOOP, "shooting on a cost that is free"]
    assert {"ms of 1", "1", "ratio"} <= metrics[MODEL_ROWS["int8"]].keys()
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].split() == ["planning,", "environments/s", "ms", "of", "1", "1", "2", "gain", "ratio"]
    assert len({len(row) for row in printed[2:]}) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("planning.environments=[0]", r"planning.environments must be a list of numbers .*, got \[0\]"),
        ("planning.horizon=0", "planning.horizon must be an integer of at least 1, got 0"),
        ("planning.seconds=-1", "planning.seconds must be a finite number of at least 0, got -1"),
        ("planning.seconds=inf", "planning.seconds must be .*, got inf"),
        ("planning.cem={candidates:2,elites:3}", "candidates must be at least 3, got 2"),
        ("+planning.cem.samples=2", "samples"),
    ],
)
def test_planning__refuses(override, message, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        benchmark.main(OmegaConf.create({**settings(override), "out": str(tmp_path / "out")}))
    assert not (tmp_path / "out").exists()
