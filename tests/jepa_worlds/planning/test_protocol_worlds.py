"""Which worlds a model may be planned with in, and what is said of their settings."""

from __future__ import annotations

import sys
from types import ModuleType

import gymnasium
import pytest

from envs.registry import register
from envs.worlds.moving_dot import MovingDot
from jepa_worlds.planning.protocol_worlds import other_settings

DOT = {"id": "jepa_worlds/MovingDot-v0", "size": 28, "frame_stack": 1, "sigma": 1.3, "max_step": 4.0}
REACH = {"id": "jepa_worlds/MovingDotReach-v0", "size": 28}
ROOMS = {"id": "jepa_worlds/TwoRooms-v0", "size": 64}
MAZE = {"id": "jepa_worlds/PointMaze-v0"}
CONTROL = {"id": "jepa_worlds/DMControl-v0", "domain": "reacher", "task": "easy"}
OTHERS = {"via": "jepa_worlds/Gymnasium-v0", "id": "CartPole-v1", "size": 64}
BALANCE, SWING_UP = ({"id": f"jepa_worlds/CartPole{task}-v0"} for task in ("Balance", "SwingUp"))


class Still(MovingDot):
    """Looks like the moving dot, and does not move."""

    def transition(self, state, action):
        return {"location": state["location"]}


class Rewarded(MovingDot):
    """Nothing but a reward is new."""

    def reward(self, state, action, next_state):
        return next_state["location"][:, 0]


@pytest.fixture
def registered(monkeypatch):
    module = ModuleType("worlds_of_the_tests")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registry = dict(gymnasium.registry)
    for place in (gymnasium, gymnasium.envs.registration):
        monkeypatch.setattr(place, "registry", registry)
    for world in (Still, Rewarded):
        setattr(module, world.__name__, world)
        monkeypatch.setattr(world, "__module__", module.__name__)
        register(f"Test{world.__name__}-v0", world, max_episode_steps=6)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (DOT, DOT),
        (DOT, REACH),
        (REACH, DOT),
        ({**DOT, "id": "jepa_worlds/TestRewarded-v0"}, REACH | {"id": DOT["id"]}),
        (ROOMS | {"wall": None, "max_step": None, "terminate": False}, ROOMS),
        (CONTROL, CONTROL | {"size": 64, "keep": []}),
        (OTHERS | {"kwargs": {}}, OTHERS),
        ({"id": "unknown/World-v0"}, {"id": "unknown/World-v0"}),
    ],
)
def test_other_settings__are_none_in_the_same_worlds_with_or_without_a_goal(there, here, registered):
    assert other_settings("run", there, here) == []


@pytest.mark.parametrize(
    ("there", "here", "names"),
    [
        (DOT, ROOMS, "jepa_worlds/MovingDot-v0, and the protocol is of another world, jepa_worlds/TwoRooms-v0: choose"),
        (ROOMS, REACH, "jepa_worlds/TwoRooms-v0, and .* jepa_worlds/MovingDotReach-v0: "),
        (DOT | {"id": "jepa_worlds/TestStill-v0"}, REACH, "jepa_worlds/TestStill-v0, "),
        (DOT | {"id": "jepa_worlds/TestStill-v0"}, DOT, "jepa_worlds/TestStill-v0, "),
        ({"id": "jepa_worlds/ThreeDots-v0"}, DOT, "jepa_worlds/ThreeDots-v0, "),
        ({"id": "unknown/World-v0"}, DOT, "unknown/World-v0, "),
        (CONTROL | {"task": "hard"}, CONTROL, "jepa_worlds/DMControl-v0 reacher hard, .* jepa_worlds/DMControl-v0 rea"),
        (OTHERS, BALANCE, "jepa_worlds/Gymnasium-v0 CartPole-v1, "),
        (BALANCE, SWING_UP, "jepa_worlds/CartPoleBalance-v0, .* jepa_worlds/CartPoleSwingUp-v0: "),
    ],
)
def test_other_settings__refuse_another_world(there, here, names, registered):
    with pytest.raises(ValueError, match=f"the data of run are from {names}"):
        other_settings("run", there, here)


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        (DOT | {"max_step": 2.0}, REACH, ["env.max_step=2.0 (now 4.0)"]),
        (DOT | {"sigma": 2.0}, DOT | {"size": 40}, ["env.sigma=2.0 (now 1.3)", "env.size=28 (now 40)"]),
        (REACH | {"terminate": True}, DOT, []),
        (MAZE | {"frame_skip": 1}, MAZE, ["env.frame_skip=1 (now 4)"]),
        (OTHERS | {"kwargs": {"x": 1}}, OTHERS | {"kwargs": {"x": 2}}, ["env.kwargs.x=1 (now 2)"]),
    ],
)
def test_other_settings__say_what_differs_from_what_the_protocol_has(there, here, found):
    assert sorted(other_settings("run", there, here)) == found
