"""Rows of an evaluation of planning: what is kept of episodes, what they come to, and how they go on."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_protocols import protocol

from agents.behaviours.uniform import Uniform
from agents.planners.cem import CEM
from envs.worlds.moving_dot_reach import MovingDotReach
from jepa_worlds.planning import actors
from jepa_worlds.planning import rows as plan_rows
from jepa_worlds.planning.actors import Behaving, Simulating, Still, controller
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.planning.rows import Row, check_rows, play_row, row_file, summary
from jepa_worlds.planning.tables import numbers
from jepa_worlds.shared.estimates import wilson

SHORT = protocol("episodes=5", "seeds=[3,4]", "budget=4", "horizon=3")
PLANNER = CEM(candidates=20, elites=4, iterations=2)


def simulating(protocol: Protocol):
    return lambda *drawn: Simulating(MovingDotReach(), protocol, controller(PLANNER, protocol, *drawn))


def simulated(shown: int = 0) -> Row:
    return Row(
        "sim",
        "ceiling",
        {"a": 1},
        simulating(SHORT),
        shown,
    )


def play(row, out, at_once=5, made=SHORT):
    return play_row(row, made, {}, out, at_once, lambda _: None)


def test_play_row__keeps_every_episode_whatever_is_played_at_once(tmp_path):
    found = [play(simulated(), tmp_path / str(n), n) for n in (5, 2, 1)]
    episodes = found[0]["episodes"]
    assert [(x["seed"], x["number"]) for x in episodes] == [(s, n) for s in (3, 4) for n in range(5)]
    assert found[1]["episodes"] == episodes == found[2]["episodes"]
    assert json.loads(row_file(tmp_path / "5", "sim").read_text()) == found[0]
    assert all(x["effort"]["decisions"] == 10 * 4 and x["effort"]["judged"] == 40 * 41 for x in found)
    assert found[0]["effort"]["seconds"] > 0 and found[0]["effort"]["memory"] > 50
    assert len({x["start"] for x in episodes}) == 10


def test_play_row__says_what_happened(tmp_path):
    made = replace(SHORT, budget=3)
    content = play(Row("no", "floor", {}, lambda *_: Still()), tmp_path, made=made)
    episodes, effort = content["episodes"], content["effort"]
    assert (effort["decisions"], effort["judged"]) == (10 * 3, 0)
    for x in episodes:
        assert x["start"] == x["final"] == x["least"] and x["path_length"] == 0 and x["arrived"] in (None, 0)
        assert x["return"] == pytest.approx(-3 * x["start"], rel=1e-5)  # dense: minus the distance
    episodes = play(Row("any", "floor", {}, lambda *_: Behaving(Uniform()), 2), tmp_path, made=made)["episodes"]
    assert all(x["least"] <= min(x["start"], x["final"]) and 0 < x["path_length"] <= 12.001 for x in episodes)
    assert ["actions" in x for x in episodes] == [True] * 2 + [False] * 8
    assert np.shape(episodes[0]["actions"]) == (3, 2)


def test_play_row__keeps_the_plans_of_what_is_shown(tmp_path):
    episodes = play(simulated(shown=3), tmp_path, at_once=2)["episodes"]
    assert [np.shape(x.get("plans", [])) for x in episodes] == [(4, 3, 2)] * 3 + [(0,)] * 7
    assert np.allclose(episodes[2]["actions"], [plan[0] for plan in episodes[2]["plans"]], atol=1e-4)


def test_play_row__goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    whole = play(simulated(), tmp_path / "whole", 2)
    actual, calls = plan_rows._play, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return actual(*arguments)

    monkeypatch.setattr(plan_rows, "_play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play(simulated(), tmp_path / "out", 2)
    kept = json.loads(row_file(tmp_path / "out", "sim").read_text())
    assert kept["episodes"] == whole["episodes"][:4]
    found = play(simulated(), tmp_path / "out", 2)
    assert found["episodes"] == whole["episodes"] and len(calls) == 3 + 1 + 3
    assert found["effort"]["decisions"] == whole["effort"]["decisions"]
    assert found["effort"]["seconds"] > kept["effort"]["seconds"]
    assert play(simulated(), tmp_path / "out", 2) == found and len(calls) == 7


def test_plan_rows__do_without_a_system_that_tells_of_memory(tmp_path, monkeypatch):
    """Windows has no module `resource`: nothing is known then, and a peak that was known before stays."""
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.spec_from_file_location("plan_rows_elsewhere", plan_rows.__file__)
    elsewhere = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, elsewhere)
    spec.loader.exec_module(elsewhere)
    monkeypatch.setattr(elsewhere.torch.cuda, "is_available", lambda: False)

    row = Row("no", "floor", {}, lambda *_: Still())
    content = elsewhere.play_row(row, SHORT, {}, tmp_path, 5, lambda _: None)
    assert len(content["episodes"]) == 10 and content["effort"]["memory"] is None
    assert numbers(content, SHORT)["peak_memory_mib"] is None
    assert elsewhere._added({**content["effort"], "memory": 70.0}, 0.0, elsewhere.Log(0), 1, 4)["memory"] == 70


def test_play_row__tells_of_every_episode_once(tmp_path):
    for _ in range(2):  # played, and kept
        told = []
        play_row(simulated(), SHORT, {}, tmp_path, 3, told.append)
        assert sum(told) == 10


@pytest.mark.parametrize("score", ["success", "return"])
def test_simulating__wants_what_the_protocol_scores(tmp_path, monkeypatch, score):
    made, wanted = replace(SHORT, score=score, seeds=(3,)), []
    actual = actors.simulated_cost
    monkeypatch.setattr(actors, "simulated_cost", lambda *given: wanted.append(given[3]) or actual(*given))
    play(
        Row("sim", "ceiling", {}, simulating(made)),
        tmp_path,
        made=made,
    )
    _, goal = Arena(made, {}, 3, range(5)).begin()
    assert len(wanted) == 4
    for x in wanted:
        assert x is None if score == "return" else x.factor == "location"
        assert score == "return" or np.array_equal(x.aim, goal.factors["location"])


def test_play_row__refuses_episodes_that_were_played_otherwise(tmp_path):
    play(simulated(), tmp_path)
    before = row_file(tmp_path, "sim").read_bytes()
    other = replace(simulated(), settings={"a": 2, "b": 3})
    for refuse in (lambda: check_rows([other], tmp_path), lambda: play(other, tmp_path)):
        with pytest.raises(ValueError, match=r"played otherwise, with a=1 \(now 2\), b=None \(now 3\): choose another"):
            refuse()
    with pytest.raises(ValueError, match=r"a=1 \(now None\)"):
        check_rows([replace(simulated(), settings={})], tmp_path)
    check_rows([simulated()], tmp_path)
    assert row_file(tmp_path, "sim").read_bytes() == before


def test_check_rows__refuses_names_that_become_the_same_file(tmp_path):
    with pytest.raises(ValueError, match=r"'sim a' and 'sim-a' would share '.*sim-a.json': give one run another name"):
        check_rows([replace(simulated(), name=name) for name in ("sim a", "b", "sim-a")], tmp_path)


def test_play_row__an_episode_that_has_ended_stays_as_it_was(tmp_path):
    ends = replace(SHORT, env={**SHORT.env, "terminate": True}, budget=16, horizon=5, episodes=4)
    row = Row("sim", "ceiling", {}, simulating(ends))
    episodes = play(row, tmp_path, made=ends)["episodes"]
    there = [x for x in episodes if x["arrived"]]
    assert len(there) >= 6
    assert all(x["final"] == x["least"] <= 2 and x["arrived"] < 16 for x in there)
    assert all(x["start"] - x["final"] - 1e-3 <= x["path_length"] <= 4.001 * x["arrived"] for x in there)
    assert all(x["return"] >= -x["arrived"] * x["start"] for x in there)  # dense, and ever nearer


def test_row_file__has_a_name_that_every_system_takes(tmp_path):
    assert row_file(tmp_path, "gcbc on a/b: c").name == "gcbc-on-a-b-c.json"


def test_summary__counts_the_end_and_ever_apart():
    one = {"start": 5.0, "path_length": 4.0, "return": -1.0}
    episodes = [
        {**one, "final": 1.0, "least": 0.5, "arrived": 3},
        {**one, "final": 3.0, "least": 1.0, "arrived": 7},
        {**one, "final": 8.0, "least": 4.0, "arrived": None},
        {**one, "final": 2.0, "least": 2.0, "arrived": 14},
    ]
    found = summary(episodes, within=2.0)
    assert (found["episodes"], found["success_end"], found["success_ever"]) == (4, 0.5, 0.75)
    assert found["success_end_ci95"] == pytest.approx(wilson(2, 4)) and found["median_steps"] == 7
    assert found["final_distance"] == 3.5 and found["return"] == -1
    assert found["return_ci95"] == [-1, -1] and found["final_distance_ci95"][0] < 3.5
    assert summary(episodes[2:3], 2.0)["final_distance_ci95"] is None
    assert summary(episodes[2:3], 2.0)["median_steps"] is None
