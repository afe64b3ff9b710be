"""The expert of TwoRooms: through the door to the other room, again and again."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour, longest_step
from envs import random
from envs.arguments import within
from envs.core import Factors, State
from envs.random import Key


@dataclass(frozen=True)
class TwoRoomsExpert(Behaviour):
    """Goes to a target in the other room, and when it is there, to one in the room where it came from.

    The first target is the goal, where there is a factor ``goal``; the others are uniform over the other room. The way
    leads to a point before the door, through it, and on to the target. Needs the factors ``location``, ``wall`` and
    ``door`` of `envs.worlds.two_rooms.TwoRooms`, in px.

    Attributes:
        noise: share of each step, from 0 to 1, that is a random one: its angle uniform, its length ~ U[0, max_step].
        clearance: distance in px that targets keep to the centre of the wall and to the edges of the frame, and the
            points before the door to the wall; None: 3·size/32, enough for walls and dots of the usual size.
    """

    noise: float = 0.0
    clearance: float | None = None

    def __post_init__(self) -> None:
        within(0, 1, noise=self.noise)
        if self.clearance is not None and not 0 < self.clearance < np.inf:
            raise ValueError(f"clearance must be positive and finite, or null, got {self.clearance!r}")

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        max_step = longest_step("two_rooms_expert", action_space)
        return {
            "key": random.fold_in(key, 0),
            "target": np.zeros((len(key), 2)),
            "fresh": np.ones(len(key), bool),
            "max_step": np.full((len(key), 1), max_step),
        }

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        if not {"location", "wall", "door"} <= factors.keys():
            raise ValueError(f"two_rooms_expert needs the factors location, wall and door, got {sorted(factors)}")
        size = frames.shape[1]
        clearance = 3 * size / 32 if self.clearance is None else self.clearance
        location, wall, door = (factors[name].astype(np.float64) for name in ("location", "wall", "door"))
        side = np.where(location[:, :1] < wall, -1.0, 1.0)  # [n, 1], of the wall
        key, fresh = random.fold_in(state["key"], 0), state["fresh"][:, None]
        new = _place(random.fold_in(key, 1), wall, side, clearance, size)
        if "goal" in factors:
            new = np.where(fresh, _off_the_wall(factors["goal"].astype(np.float64), wall, clearance), new)
        arrived = _length(state["target"] - location) <= size / 32
        target = np.where(arrived | fresh, new, state["target"])
        step = _aim(location, target, wall, door, side, clearance, size / 32) - location
        step *= state["max_step"] / np.maximum(_length(step), state["max_step"])
        angle = random.uniform(random.fold_in(key, 2), (1,), high=2 * np.pi)
        length = random.uniform(random.fold_in(key, 3), (1,)) * state["max_step"]
        wander = length * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        action = (1 - self.noise) * step + self.noise * wander
        return action.astype(np.float32), {**state, "key": key, "target": target, "fresh": np.zeros(len(target), bool)}


def _place(
    key: Key, wall: NDArray[np.float64], side: NDArray[np.float64], clearance: float, size: int
) -> NDArray[np.float64]:
    """Uniform places in the other room: [n, 2]."""
    near, far = wall - side * clearance, (size - 1) / 2 - side * ((size - 1) / 2 - clearance)
    unit = random.uniform(key, (2,))
    x, y = near + unit[:, :1] * (far - near), clearance + unit[:, 1:] * (size - 1 - 2 * clearance)
    return np.concatenate([x, y], axis=1)


def _off_the_wall(goal: NDArray[np.float64], wall: NDArray[np.float64], clearance: float) -> NDArray[np.float64]:
    """The places nearest to goals that keep their distance to the wall: [n, 2]."""
    apart = goal[:, :1] - wall
    x = wall + np.where(apart < 0, -1, 1) * np.maximum(np.abs(apart), clearance)
    return np.concatenate([x, goal[:, 1:]], axis=1)


def _aim(
    location: NDArray[np.float64],
    target: NDArray[np.float64],
    wall: NDArray[np.float64],
    door: NDArray[np.float64],
    side: NDArray[np.float64],
    clearance: float,
    tolerance: float,
) -> NDArray[np.float64]:
    """The next point on the way: [n, 2]."""
    before, behind = (np.concatenate([wall + s * clearance, door], axis=1) for s in (side, -side))
    through = np.where(np.abs(location[:, 1:] - door) <= tolerance, behind, before)
    return np.where((target[:, :1] - wall) * side < 0, through, target)


def _length(step: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(step[:, :1] ** 2 + step[:, 1:] ** 2)
