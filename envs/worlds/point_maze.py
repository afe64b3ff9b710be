"""A point mass in a maze (PointMaze of D4RL, Fu et al., 2020, and of Gymnasium-Robotics)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.arguments import require_whole
from envs.collisions import slide
from envs.core import Factors, State, apart
from envs.drawing import Canvas, DrawnWorld
from envs.goals import GoalWorld, Reward
from envs.random import Key
from envs.registry import register

MAZES = {
    "U": ("#####", "#...#", "###.#", "#...#", "#####"),
    "medium": ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########"),
    "large": (
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#...#",
        "############",
    ),
}
RADIUS, REACH, SCATTER = 0.2, 0.45, 0.25  # of the ball, of goals, and around the centres of cells, in cells
MASS, FORCE, DAMPING, MAX_SPEED, DT = 4 / 3 * np.pi, 100.0, 1.0, 5.0, 0.01  # kg, N, N·s/cell, cells/s, s
WALL, BALL, GOAL = (120, 130, 150), (80, 170, 90), (200, 80, 80)
AROUND = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])  # a cell and its eight neighbours


class PointMaze(GoalWorld, DrawnWorld):
    """A ball pushed by a force, among walls.

    Gymnasium-Robotics' PointMaze, whose cells are 1 m wide: v ← clip(v, ±5), then v ← v + dt·(100·a − v)/(m + dt) and
    p ← p + dt·v, with m = 4π/3 kg and dt = 0.01 s; each component for itself. What differs: x points to the right and y
    down, as in the frame; collisions are exact and without bounce: the ball collides as the upright square around it,
    slides along walls and loses the velocity into them; it has radius 0.2, as it is drawn there (it collides with 0.1
    there); an action is held for ``frame_skip`` steps. Episodes begin at rest within 0.25 of the centre of a random
    free cell, with the goal within 0.25 of the centre of another, and the ball is at its goal within 0.45 (all in
    cells).

    Action: force a, Box(−1, 1, (2,)), in units of 100 N.
    Factors: ``location`` [2], (x, y) in px; ``velocity`` [2] in cells/s; ``goal`` [2] in px, if it is shown.

    Args:
        size: side of a frame in px; the maze is as large as fits.
        maze: a name in `MAZES`, or rows of ``#`` (wall) and ``.`` (free): a text of lines, or a list of them.
        frame_skip: steps of 0.01 s for one action.
        show_goal, reward, terminate: as in `envs.goals.GoalWorld`.

    Raises:
        ValueError: a maze that `read_maze` refuses, a size smaller than the maze, a frame_skip below 1.
    """

    def __init__(
        self,
        size: int = 64,
        maze: str | Sequence[str] = "U",
        frame_skip: int = 4,
        show_goal: bool = False,
        reward: Reward = "sparse",
        terminate: bool = False,
    ) -> None:
        self.cells = read_maze(maze)  # [rows, columns], True for walls
        require_whole(max(self.cells.shape), size=size)
        require_whole(frame_skip=frame_skip)
        self.grid = Grid(size, self.cells)
        self.boxes = self._boxes()
        super().__init__(REACH * self.grid.scale, reward, terminate, show_goal)
        self.frame_skip = frame_skip
        self.render_fps = max(1, round(1 / (DT * frame_skip)))
        self.frame_shape = (size, size, 3)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        free = np.argwhere(~self.cells)
        ends = self.grid.px(np.array([free.min(axis=0), free.max(axis=0)]))
        room = (0.5 - RADIUS) * self.grid.scale  # from the centre of a cell to that of a ball at its wall
        locations = spaces.Box(*(ends + np.array([[-room], [room]])).astype(np.float32))
        limit = MAX_SPEED + FORCE * DT / (MASS + DT)
        self.factor_space = spaces.Dict(
            {
                "location": locations,
                "velocity": spaces.Box(-limit, limit, (2,), np.float32),
                **({"goal": locations} if show_goal else {}),
            }
        )

    def initial(self, key: Key) -> State:
        free = np.argwhere(~self.cells)
        start = random.integers(random.fold_in(key, 0), len(free))
        away = 1 + random.integers(random.fold_in(key, 1), max(1, len(free) - 1))
        scatter = random.uniform(random.fold_in(key, 2), (2, 2), -SCATTER, SCATTER) * self.grid.scale
        location, goal = self.grid.px(free[start]), self.grid.px(free[(start + away) % len(free)])
        return {
            "location": (location + scatter[:, 0]).astype(np.float32),
            "goal": (goal + scatter[:, 1]).astype(np.float32),
            "velocity": np.zeros((len(key), 2)),
        }

    def at_goal(self, state: State) -> State:
        """The state of having arrived, at rest."""
        return {**super().at_goal(state), "velocity": np.zeros_like(state["velocity"])}

    def transition(self, state: State, action: NDArray) -> State:
        force = FORCE * np.clip(action.astype(np.float64), -1, 1)
        location, velocity = state["location"], state["velocity"]
        for _ in range(self.frame_skip):
            velocity = np.clip(velocity, -MAX_SPEED, MAX_SPEED)
            velocity = velocity + DT * (force - DAMPING * velocity) / (MASS + DT * DAMPING)
            row, column = self.grid.cell(location).T
            low, high = self.boxes[:, row, column]  # a step is shorter than a cell: its neighbours are all it can meet
            location, stopped = slide(location, velocity * (DT * self.grid.scale), low, high)
            velocity = np.where(stopped, 0, velocity)
        return {**state, "location": location, "velocity": velocity}

    def distance(self, state: State, factor: str, aim: NDArray) -> NDArray[np.float64]:
        """The length of the way along the centres of cells: straight within two cells, or into a wall."""
        straight = super().distance(state, factor, aim)
        if factor != "location":
            return straight
        cells = (*self.grid.cell(aim).T, *self.grid.cell(state["location"]).T)
        steps = self._ways.steps[cells]
        first, last = (self.grid.px(x[cells]) for x in (self._ways.first, self._ways.last))
        around = apart(state["location"], first) + (steps - 2) * self.grid.scale + apart(last, aim)
        return np.where(steps < 2, straight, around)

    @cached_property
    def _ways(self) -> Ways:
        return shortest_ways(self.cells)

    def draw(self, canvas: Canvas, state: State) -> None:
        if self.show_goal:
            canvas.disc(state["goal"], RADIUS * self.grid.scale, GOAL)
        canvas.disc(state["location"], RADIUS * self.grid.scale, BALL)

    def scenery(self, canvas: Canvas) -> None:
        half, size = self.grid.scale / 2, self.frame_shape[0]
        for centre in self.grid.px(np.argwhere(self.cells)):
            canvas.box(centre - half, centre + half, WALL)
        low, high = self.grid.px(np.array([(0, 0), self.cells.shape])) - half  # corners of the maze
        canvas.box((-1, -1), (size, low[1]), WALL)
        canvas.box((-1, high[1]), (size, size), WALL)
        canvas.box((-1, low[1]), (low[0], high[1]), WALL)
        canvas.box((high[0], low[1]), (size, high[1]), WALL)

    def factors(self, state: State) -> Factors:
        return {name: state[name].astype(np.float32) for name in self.factor_space}

    def _boxes(self) -> NDArray[np.float64]:
        """Corners of the walls in and around each cell, enlarged by the ball; infinite where there are none.

        [(low, high), rows, columns, 9, 2]
        """
        rows, columns = self.cells.shape
        near = np.argwhere(np.ones_like(self.cells))[:, None] + AROUND  # [rows·columns, 9, 2]
        inside = ((near >= 0) & (near < self.cells.shape)).all(axis=-1)
        wall = np.ones(inside.shape, bool)
        wall[inside] = self.cells[tuple(near[inside].T)]
        half = np.array([-1, 1])[:, None, None, None] * (0.5 + RADIUS) * self.grid.scale
        boxes = np.where(wall[..., None], self.grid.px(near) + half, np.inf)
        return boxes.reshape(2, rows, columns, len(AROUND), 2)


class Grid:
    """Where the cells of a maze are in a frame: each a whole number of px wide, in the middle.

    Attributes:
        scale: px a cell.
    """

    def __init__(self, size: int, cells: NDArray[np.bool_]) -> None:
        self.scale = size // max(cells.shape)
        self.shape = np.array(cells.shape)
        self.corner = (size - self.shape[::-1] * self.scale) // 2 - 0.5  # (x, y) of the maze's corner in px

    def px(self, cell: NDArray[np.int64]) -> NDArray[np.float64]:
        """The centres (x, y) in px of cells (row, column): [..., 2] -> [..., 2]."""
        return self.corner + (cell[..., ::-1] + 0.5) * self.scale

    def cell(self, location: NDArray) -> NDArray[np.int64]:
        """The cells (row, column) of places (x, y) in px, the nearest for places outside: [n, 2] -> [n, 2]."""
        found = np.floor((location - self.corner) / self.scale).astype(np.int64)[:, ::-1]
        return np.clip(found, 0, self.shape - 1)


class Ways(NamedTuple):
    """The shortest ways through a maze from every cell to every other one, by the cells where they end and begin.

    Attributes:
        first: the next cell (row, column) on the way, [rows, columns, rows, columns, 2]; −1 at walls.
        last: the last cell before the end, likewise; the end itself where the way has no other.
        steps: how many there are from cell to cell, [rows, columns, rows, columns]; −1 likewise.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    steps: NDArray[np.int64]


def shortest_ways(cells: NDArray[np.bool_]) -> Ways:
    """All of them, among the cells of a maze that `read_maze` takes: [rows, columns]."""
    around = (*cells.shape, *cells.shape)
    ways = Ways(np.full((*around, 2), -1), np.full((*around, 2), -1), np.full(around, -1))
    for end in map(tuple, np.argwhere(~cells)):
        first, last, steps = (x[end] for x in ways)
        first[end], last[end], steps[end] = end, end, 0
        queue = [end]
        for cell in queue:  # breadth first
            row, column = cell
            for beside in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if not cells[beside] and steps[beside] < 0:
                    first[beside], steps[beside] = cell, steps[cell] + 1
                    last[beside] = beside if cell == end else last[cell]
                    queue.append(beside)
    return ways


def read_maze(maze: str | Sequence[str]) -> NDArray[np.bool_]:
    """The cells of a maze, True for walls: [rows, columns].

    Raises:
        ValueError: an unknown name or sign, rows that differ in length, a border that is open, no free cell, or some
            that no way leads to.
    """
    if isinstance(maze, str):
        if "\n" not in maze.strip() and maze not in MAZES:
            raise ValueError(f"unknown maze {maze!r}: give one of {sorted(MAZES)}, or rows of '#' and '.'")
        maze = MAZES.get(maze) or maze.split()
    if not (isinstance(maze, Sequence) and all(isinstance(row, str) for row in maze)):
        raise ValueError(f"a maze is one of {sorted(MAZES)}, or rows of '#' and '.'; got {maze!r}")
    rows = list(maze)
    if signs := sorted(set("".join(rows)) - {"#", "."}):
        raise ValueError(f"a maze is made of '#' (wall) and '.' (free), got {signs} in {rows!r}")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the rows of a maze must be equally long, got {rows!r}")
    cells = np.array([[sign == "#" for sign in row] for row in rows])
    if cells.all():
        raise ValueError(f"a maze needs a free cell ('.'), got {rows!r}")
    border = np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
    if not border.all():
        raise ValueError(f"a maze must be closed: walls ('#') all around, got {rows!r}")
    reached = np.zeros_like(cells)
    reached.flat[cells.argmin()] = True
    for _ in range(cells.size):
        beside = reached[:-2, 1:-1] | reached[2:, 1:-1] | reached[1:-1, :-2] | reached[1:-1, 2:]
        reached[1:-1, 1:-1] |= beside & ~cells[1:-1, 1:-1]
    if not (reached | cells).all():
        raise ValueError(f"a maze must be of one part: a way between all free cells ('.'), got {rows!r}")
    return cells


register("PointMaze-v0", PointMaze, max_episode_steps=200)
