"""Speeds: what is counted, over which time, and of which environments."""

from __future__ import annotations

import gymnasium
import pytest

from jepa_worlds.data.environments import native_ids
from jepa_worlds.machine import speed
from jepa_worlds.machine.speed import frames_per_second, rate


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_rate__is_a_mean_without_the_first_call(monkeypatch):
    clock = Clock(monkeypatch)
    took = iter([100.0, 0.5, 1.5, 0.5, 1.5, 7.0])
    assert rate(10, 4.0, lambda: clock.spend(next(took))) == 10  # 4 calls in 4 s


def test_rate__asks_for_three_calls_at_least(monkeypatch):
    clock = Clock(monkeypatch)
    called = []
    assert rate(10, 0.0, lambda x: (called.append(x), clock.spend(2.0)), "x") == 5
    assert called == ["x"] * 4


class Steps(gymnasium.vector.VectorEnv):
    """Counts its steps; each takes a second."""

    num_envs = 6
    action_space = gymnasium.spaces.MultiDiscrete([5] * 6)

    def __init__(self, clock: Clock) -> None:
        self.clock, self.actions, self.was_closed = clock, [], False

    def reset(self, *, seed=None, options=None):
        return None, {}

    def step(self, actions):
        self.clock.spend(1.0)
        self.actions.append(tuple(actions))

    def close(self, **kwargs):
        self.was_closed = True


def test_frames_per_second__counts_every_world_under_changing_actions(monkeypatch):
    env = Steps(Clock(monkeypatch))
    assert frames_per_second(env, 40.0) == 6
    assert len(env.actions) == 41
    assert len(set(env.actions)) == 32
    assert env.was_closed


def test_frames_per_second__closes_an_environment_that_fails(monkeypatch):
    env = Steps(Clock(monkeypatch))
    monkeypatch.setattr(env, "step", lambda actions: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        frames_per_second(env, 1.0)
    assert env.was_closed


def test_native_ids__are_those_of_worlds(monkeypatch, race):
    gymnasium.register("jepa_worlds/TestOther-v0", entry_point="nowhere:Other")
    found = native_ids()
    assert {"jepa_worlds/MovingDot-v0", "jepa_worlds/Pendulum-v0", "jepa_worlds/TestRace-v0"} <= set(found)
    assert "jepa_worlds/TestOther-v0" not in found
    assert "Pendulum-v1" not in found
