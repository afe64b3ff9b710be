"""Two rooms and the door between them (Sobal et al., 2025; the "Wall" of DINO-WM, Zhou et al., 2025)."""

from __future__ import annotations

from typing import Any

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

WALL, DOT, GOAL = (120, 130, 150), (235, 80, 60), (70, 180, 110)


class TwoRooms(GoalWorld, DrawnWorld):
    """A dot that goes where its action says, in two rooms with a wall and one door between them.

    p ← p + a, with ‖a‖ ≤ max_step. The dot collides with walls, jambs and borders as the upright square around it, and
    slides along them (`envs.collisions.slide`): no step is too long to be stopped.

    An episode begins anywhere in the two rooms, with its goal anywhere in the other room. The dot is at its goal within
    a distance of size/16 px (4 at 64; `envs.goals`).

    Action: displacement (x, y) in px, Box(−max_step, max_step), its length clipped to max_step.
    Factors: ``location`` [2], the dot's centre (x, y); ``wall`` [1], x of the wall's centre; ``door`` [1], y of the
    door's centre; ``goal`` [2] if it is shown; all in px.

    Args:
        size: side of a frame in px.
        wall: x of the wall's centre in px; None: drawn for each episode, from the middle three eighths of the frame.
        door: y of the door's centre in px; None: drawn for each episode, wherever a door fits.
        thickness: of the wall and of the borders in px; None: size/16.
        door_width: in px; None: 3·size/16.
        radius: of the dot in px; None: size/32.
        max_step: in px; None: size/16.
        show_goal, reward, terminate: as in `envs.goals.GoalWorld`.

    Raises:
        ValueError: a size below 16, a length that is not positive, a dot that does not fit the door or the rooms, a
            wall or door that is out of place.
    """

    def __init__(
        self,
        size: int = 64,
        wall: float | None = None,
        door: float | None = None,
        thickness: float | None = None,
        door_width: float | None = None,
        radius: float | None = None,
        max_step: float | None = None,
        show_goal: bool = False,
        reward: Reward = "sparse",
        terminate: bool = False,
    ) -> None:
        require_whole(16, size=size)
        super().__init__(size / 16, reward, terminate, show_goal)
        self.thickness = _length("thickness", thickness, size / 16)
        self.door_width = _length("door_width", door_width, 3 * size / 16)
        self.radius = _length("radius", radius, size / 32)
        self.max_step = _length("max_step", max_step, size / 16)
        self.frame_shape = (size, size, 3)
        middle = (size - 1) / 2
        self.inside = self.thickness - 0.5, size - 0.5 - self.thickness  # the inner faces of the borders
        self.free = np.array([self.inside[0] + self.radius, self.inside[1] - self.radius], np.float32)
        self.clearance = np.float32(self.thickness / 2 + self.radius)  # between the centres of a wall and a dot at it
        if 2 * self.radius >= self.door_width:
            raise ValueError(f"a dot of radius={self.radius!r} does not fit through door_width={self.door_width!r}")
        room = float(self.free[1] - self.clearance) - middle  # the width of a room, with the wall in the middle
        doors = self.inside[0] + self.door_width / 2, self.inside[1] - self.door_width / 2
        if room <= 0 or doors[0] > doors[1]:
            raise ValueError(
                f"no rooms are left in size={size!r} by thickness={self.thickness!r}, radius={self.radius!r} and "
                f"door_width={self.door_width!r}: make them smaller"
            )
        spread, walls = min(3 * size / 16, 0.9 * room), (middle - room, middle + room)
        self.walls = _place("wall", wall, (middle - spread, middle + spread), walls)
        self.doors = _place("door", door, doors, doors)
        self.action_space = spaces.Box(-self.max_step, self.max_step, (2,), np.float32)
        self.factor_space = spaces.Dict(self._factor_space(walls, doors))

    def _factor_space(self, walls: tuple[float, float], doors: tuple[float, float]) -> dict[str, spaces.Space[Any]]:
        locations = spaces.Box(self.free[0], self.free[1], (2,), np.float32)
        found: dict[str, spaces.Space[Any]] = {
            "location": locations,
            "wall": spaces.Box(np.float32(walls[0]), np.float32(walls[1]), (1,), np.float32),
            "door": spaces.Box(np.float32(doors[0]), np.float32(doors[1]), (1,), np.float32),
        }
        return {**found, "goal": locations} if self.show_goal else found

    def initial(self, key: Key) -> State:
        wall = random.uniform(random.fold_in(key, 0), (1,), *self.walls).astype(np.float32)
        door = random.uniform(random.fold_in(key, 1), (1,), *self.doors).astype(np.float32)
        left, right = wall - self.clearance - self.free[0], self.free[1] - wall - self.clearance  # widths of the rooms
        in_right = random.uniform(random.fold_in(key, 2), (1,)) * (left + right) >= left
        location = self._placed(random.fold_in(key, 3), wall, in_right)
        goal = self._placed(random.fold_in(key, 4), wall, ~in_right)
        return {"location": location, "goal": goal, "wall": wall, "door": door}

    def _placed(self, key: Key, wall: NDArray[np.float32], in_right: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Uniform places in the left or right room: [n], [n, 1], [n, 1] -> [n, 2]."""
        (low, high), unit = self.free, random.uniform(key, (2,))
        start = np.where(in_right, wall + self.clearance, low)
        end = np.where(in_right, high, wall - self.clearance)
        x, y = start + unit[:, :1] * (end - start), low + unit[:, 1:] * (high - low)
        return np.concatenate([x, y], axis=1).astype(np.float32)

    def transition(self, state: State, action: NDArray) -> State:
        step = action.astype(np.float64)
        length = np.sqrt(step[:, :1] ** 2 + step[:, 1:] ** 2)
        step *= self.max_step / np.maximum(length, self.max_step)
        location, _ = slide(state["location"], step, *self._walls(state, self.radius))
        return {**state, "location": np.clip(location, *self.free)}

    def distance(self, state: State, factor: str, aim: NDArray) -> NDArray[np.float64]:
        """The length of the shortest way, which leads to another room through the door."""
        if factor != "location":
            return super().distance(state, factor, aim)
        low, high = self._walls(state, self.radius)  # the door is below the upper part and above the lower one
        return _way(state["location"], aim, low[:, 0, :1], high[:, 0, :1], high[:, 0, 1:], low[:, 1, 1:])

    def draw(self, canvas: Canvas, state: State) -> None:
        low, high = np.clip(self._walls(state, 0.0), -1, self.frame_shape[0])
        for part in range(2):  # above and below the door
            canvas.box(low[:, part], high[:, part], WALL)
        if self.show_goal:
            canvas.disc(state["goal"], self.radius, GOAL)
        canvas.disc(state["location"], self.radius, DOT)

    def scenery(self, canvas: Canvas) -> None:
        size, (low, high) = self.frame_shape[0], self.inside
        for corner, other in (
            ((-0.5, -0.5), (size, low)),
            ((-0.5, high), (size, size)),
            ((-0.5, low), (low, high)),
            ((high, low), (size, high)),
        ):
            canvas.box(corner, other, WALL)

    def factors(self, state: State) -> Factors:
        return {name: state[name] for name in self.factor_space}

    def _walls(self, state: State, margin: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Corners of the wall's two parts, above and below the door, with a margin around them: [n, 2, 2] each."""
        wall, door = state["wall"][:, 0], state["door"][:, 0]
        half, gap = np.float32(self.thickness / 2 + margin), np.float32(self.door_width / 2 - margin)
        end = np.full_like(door, np.inf)
        low = [[wall - half, -end], [wall - half, door + gap]]
        high = [[wall + half, door - gap], [wall + half, end]]
        return np.moveaxis(np.array(low), -1, 0), np.moveaxis(np.array(high), -1, 0)


def _way(
    one: NDArray, other: NDArray, near: NDArray, far: NDArray, top: NDArray, bottom: NDArray
) -> NDArray[np.float64]:
    """The shortest way from one place to another through a door, a passage from ``near`` to ``far`` in x: [n].

    It crosses both ends of the passage between top and bottom, at y₁ and y₂, and its length is convex in these. So it
    is the straight line, or one of them is top or bottom: then the other is where the straight line from there crosses,
    or as near to that as the door lets it.
    """
    swap = one[:, :1] > other[:, :1]
    left, right = np.where(swap, other, one).astype(np.float64), np.where(swap, one, other).astype(np.float64)
    x1, x2 = (np.clip(x, left[:, :1], right[:, :1]) for x in (near, far))  # who is in the passage is past that end

    def crossing(p: NDArray, q: NDArray, x: NDArray) -> NDArray:
        share = (x - p[:, :1]) / np.maximum(q[:, :1] - p[:, :1], np.finfo(float).tiny)
        return np.concatenate([x, np.clip(p[:, 1:] + share * (q[:, 1:] - p[:, 1:]), top, bottom)], axis=1)

    corners = [(np.concatenate([x1, y], axis=1), np.concatenate([x2, y], axis=1)) for y in (top, bottom)]
    ways = [(crossing(left, right, x1), crossing(left, right, x2))]
    ways += [(first, crossing(first, right, x2)) for first, _ in corners]
    ways += [(crossing(left, last, x1), last) for _, last in corners]
    lengths = [apart(left, first) + apart(first, last) + apart(last, right) for first, last in ways]
    same_room = ((right[:, :1] <= near) | (left[:, :1] >= far))[:, 0]
    return np.where(same_room, apart(left, right), np.min(lengths, axis=0))


def _length(name: str, value: float | None, default: float) -> float:
    if value is None:
        return default
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be positive and finite, or null, got {value!r}")
    return value


def _place(
    name: str, value: float | None, drawn: tuple[float, float], allowed: tuple[float, float]
) -> tuple[float, float]:
    """The bounds between which a position is drawn."""
    if value is None:
        return drawn
    if not allowed[0] <= value <= allowed[1]:
        raise ValueError(f"{name} must be between {allowed[0]:g} and {allowed[1]:g} px, or null, got {value!r}")
    return value, value


register("TwoRooms-v0", TwoRooms, max_episode_steps=100)
