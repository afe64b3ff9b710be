"""The expert of PointMaze: from place to place on the shortest way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour
from envs import random
from envs.arguments import within
from envs.core import Factors, State
from envs.random import Key
from envs.worlds.point_maze import SCATTER, Grid, read_maze, shortest_ways

STIFFNESS, DAMPING = 1.5, 0.5  # of the force, per cell and per cell/s: close to critical for the mass of PointMaze
ARRIVED = 0.3  # cells


@dataclass(frozen=True)
class MazeExpert(Behaviour):
    """Goes to a target on the shortest way through the cells of a maze, and when it is there, to another.

    The first target is the goal, where there is a factor ``goal``; the others are near the centres of random free
    cells. The force is that of a damped spring to the target, or to the centre of the next cell on the way (like the
    controller that D4RL's PointMaze data come from). Needs the factors ``location`` and ``velocity`` of
    `envs.worlds.point_maze.PointMaze`.

    Attributes:
        maze: the one of the environment, as `envs.worlds.point_maze.read_maze` takes it.
        noise: share of each force, from 0 to 1, that is uniform in the action space.

    Raises:
        ValueError: a maze that cannot be read.
    """

    maze: str | Sequence[str] = "U"
    noise: float = 0.0

    def __post_init__(self) -> None:
        within(0, 1, noise=self.noise)
        read_maze(self.maze)

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        if action_space != gymnasium.spaces.Box(-1, 1, (2,), np.float32):
            raise ValueError(f"maze_expert needs the actions of PointMaze, Box(-1, 1, (2,)), got {action_space}")
        return {
            "key": random.fold_in(key, 0),
            "target": np.zeros((len(key), 2)),
            "fresh": np.ones(len(key), bool),
        }

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        if not {"location", "velocity"} <= factors.keys():
            raise ValueError(f"maze_expert needs the factors location and velocity, got {sorted(factors)}")
        cells, ways = self._ways
        grid, location = Grid(frames.shape[1], cells), factors["location"].astype(np.float64)
        here, key = grid.cell(location), random.fold_in(state["key"], 0)
        new = self._new_target(key, grid, cells)
        if "goal" in factors:
            new = np.where(state["fresh"][:, None], factors["goal"], new)
        arrived = np.sqrt(((state["target"] - location) ** 2).sum(axis=1)) <= ARRIVED * grid.scale
        target = np.where((arrived | state["fresh"])[:, None], new, state["target"])
        there = grid.cell(target)
        aim = np.where((here == there).all(axis=1)[:, None], target, grid.px(ways[(*there.T, *here.T)]))
        force = STIFFNESS * (aim - location) / grid.scale - DAMPING * factors["velocity"]
        wander = random.uniform(random.fold_in(key, 2), (2,), -1, 1)
        action = (1 - self.noise) * np.clip(force, -1, 1) + self.noise * wander
        return action.astype(np.float32), {**state, "key": key, "target": target, "fresh": np.zeros(len(target), bool)}

    @staticmethod
    def _new_target(key: Key, grid: Grid, cells: NDArray[np.bool_]) -> NDArray[np.float64]:
        free = np.argwhere(~cells)
        scatter = random.uniform(random.fold_in(key, 0), (2,), -SCATTER, SCATTER) * grid.scale
        return grid.px(free[random.integers(random.fold_in(key, 1), len(free))]) + scatter

    @cached_property
    def _ways(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The cells, and the next cell on the shortest way to each cell from each, as `shortest_ways` has it."""
        cells = read_maze(self.maze)
        return cells, shortest_ways(cells).first
