"""Protocols of planning: those that ship, what tells them apart, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.shared.app import CONFIGS, composed, plain

FOLDER = CONFIGS / "protocol" / "plan"
NAMES = sorted(str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.rglob("*.yaml"))


def settings(name: str, *overrides: str) -> dict:
    from omegaconf import OmegaConf

    config = composed("plan", ["run=x", f"protocol=plan/{name}", *overrides])
    return plain(OmegaConf.masked_copy(config, ["protocol"]))["protocol"]


def protocol(*overrides: str, name: str = "moving_dot/v1") -> Protocol:
    return Protocol.of(settings(name, *(f"protocol.{x}" for x in overrides)))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_protocol__begins_away_from_goals_that_its_worlds_have(name):
    made = Protocol.of(settings(name))
    assert made.id == f"plan/{name}"
    arena = Arena(made, {}, 0, range(8))
    now, goal = arena.begin()
    distance = made.distance(now.factors, goal.factors)
    assert goal.frames.shape == now.frames.shape == (8, *arena.env.single_observation_space.shape)
    assert (distance > made.success.within).mean() >= 0.5
    assert arena.env.unwrapped.max_episode_steps == made.budget
    step, rewards = arena.step(np.stack([arena.space.sample() for _ in range(8)]))
    assert rewards.shape == made.distance(step.factors, goal.factors).shape == (8,)
    arena.close()


def test_protocols__ship_for_the_worlds_that_can_be_planned_in():
    worlds = {"moving_dot", "two_rooms", "point_maze", "reacher", "pendulum", "cart_pole_swing_up"}
    assert {f"{name}/v1" for name in worlds} | {"two_rooms/fixed_v1", "two_rooms/lewm"} <= set(NAMES)
    assert all(Path(FOLDER / f"{name}.yaml").read_text().startswith("# @package protocol\n") for name in NAMES)


def test_fixed_v1__is_v1_with_the_wall_and_the_door_in_the_middle():
    fixed, drawn = settings("two_rooms/fixed_v1"), settings("two_rooms/v1")
    assert fixed == {**drawn, "id": "plan/two_rooms/fixed_v1", "env": {**drawn["env"], "wall": 31.5, "door": 31.5}}
    arena = Arena(Protocol.of(fixed), {}, 0, range(5))
    now, _ = arena.begin()
    assert (now.factors["wall"] == 31.5).all() and (now.factors["door"] == 31.5).all()
    arena.close()


def test_settled__tells_apart_all_that_makes_numbers_differ():
    made = protocol()
    noise = {"_target_": "envs.distractors.background.Background", "level": 1.0}
    assert made.settled(noise) == protocol().settled({**noise}) and made.settled({})["id"] == "plan/moving_dot/v1"
    others = [
        protocol(x).settled({})
        for x in ("budget=17", "horizon=7", "success.within=1.5", "env.size=32", "seeds=[0,1]", "episodes=31")
    ]
    hashes = {x["hash"] for x in (made.settled({}), made.settled(noise), *others)}
    assert len(hashes) == 8


def test_distance__is_euclidean_over_all_components():
    made = protocol()
    here = {"location": np.array([[0, 0], [3, 4]], np.float32), "other": np.zeros((2, 1))}
    goal = {"location": np.array([[0, 2], [0, 0]], np.float32)}
    assert made.distance(here, goal).tolist() == [2, 5]
    with pytest.raises(ValueError, match=r"protocol.success.factor='location' is none of the factors.*\['angle'\]"):
        made.distance({"angle": np.zeros(2)}, goal)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("horizon=0", "protocol.horizon must be an integer of at least 1, got 0"),
        ("budget=1.5", "protocol.budget must be an integer of at least 1, got 1.5"),
        ("episodes=0", "protocol.episodes must be an integer of at least 1, got 0"),
        ("executed=9", "protocol.executed=9 actions are more than a plan of protocol.horizon=8 has"),
        ("score=distance", "protocol.score must be one of success, return, got 'distance'"),
        ("distractor=uniform", "protocol.distractor must be one of none, data, got 'uniform'"),
        ("success.within=0", "protocol.success.within must be a positive number, got 0"),
        ("success.within=far", "protocol.success.within must be a positive number, got 'far'"),
        ("seeds=[]", "protocol.seeds must be different integers"),
        ("seeds=[1,1]", "protocol.seeds must be different integers"),
        ("seeds=[-1]", "protocol.seeds must be different integers"),
        ("seeds=3", "protocol.seeds must be a list of integers, got 3"),
        ("goals.ahead=4", "goals.ahead says how many steps goals.behaviour acts, so both are given or neither"),
        ("goals.state={}", "goals.state must be variables of a state"),
        ("env.id=3", "protocol.env must have an id"),
    ],
)
def test_protocol__refuses_bad_values(override, message):
    with pytest.raises(ValueError, match=message):
        protocol(override)


def test_protocol__refuses_other_keys():
    found = settings("moving_dot/v1")
    with pytest.raises(ValueError, match=r"unknown keys \['steps'\] in protocol; known are"):
        Protocol.of({**found, "steps": 3})
    with pytest.raises(ValueError, match=r"protocol.success must have keys and values, got 2"):
        Protocol.of({**found, "success": 2})
    with pytest.raises(ValueError, match=r"protocol: .*budget"):
        Protocol.of({name: x for name, x in found.items() if name != "budget"})
    with pytest.raises(ValueError, match="goals are a state, or what is so many steps ahead; got both"):
        replace(protocol().goals, state={"angle": 0}, ahead=3, behaviour={})
