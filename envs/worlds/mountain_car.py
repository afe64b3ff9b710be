"""A car too weak for its hill (Gymnasium's MountainCarContinuous-v0 and MountainCar-v0)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from envs import random
from envs.core import Factors, State
from envs.drawing import Canvas, DrawnWorld, View
from envs.random import Key
from envs.registry import register

LEFT, RIGHT, MAX_SPEED, GRAVITY = -1.2, 0.6, 0.07, 0.0025
RIDE = 0.11  # from the ground to the middle of the car
SKY, GROUND, EDGE = (255, 255, 255), (190, 215, 170), (90, 130, 70)
BODY, WHEEL, FLAG = (204, 60, 60), (40, 40, 40), (240, 180, 0)


class MountainCar(DrawnWorld):
    """A car in a valley, whose motor is too weak to climb out at once.

    Gymnasium's: v ← clip(v + power·a − 0.0025·cos 3x, ±0.07), x ← clip(x + v, −1.2, 0.6), and v = 0 for a car that
    stands at the left end; the ground is at 0.45·sin 3x + 0.55. Episodes begin at x ~ U[−0.6, −0.4], v = 0 and
    terminate at x ≥ goal with v ≥ 0.

    Action: a, Box(−1, 1, (1,)), with power 0.0015 and the goal at 0.45 (MountainCarContinuous-v0); or, if not
    ``continuous``, Discrete(3), a = −1, 0 or 1, with power 0.001 and the goal at 0.5 (MountainCar-v0, whose episodes
    have 200 steps: make it with max_episode_steps=200).
    Reward: 100 for the step that reaches the goal, −0.1·a² for every step; if not ``continuous``, −1 for every step.
    Factors: ``position`` [1], x; ``velocity`` [1], v a step; ``location.car`` [2], the middle of the car (x, y) in px.

    Args:
        size: side of a frame in px.
        continuous: whether the action is a number.

    Raises:
        ValueError: a size that is not a whole number of px.
    """

    render_fps = 30
    backdrop = SKY

    def __init__(self, size: int = 64, continuous: bool = True) -> None:
        self.frame_shape = (size, size, 3)
        self.view = View((size, size), centre=((LEFT + RIGHT) / 2, 0.65), width=RIGHT - LEFT + 0.3)
        self.continuous = continuous
        self.power, self.goal = (0.0015, 0.45) if continuous else (0.001, 0.5)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32) if continuous else spaces.Discrete(3)
        self.factor_space = spaces.Dict(
            {
                "position": spaces.Box(LEFT, RIGHT, (1,), np.float32),
                "velocity": spaces.Box(-MAX_SPEED, MAX_SPEED, (1,), np.float32),
                "location.car": self.view.space((LEFT - RIDE, 0.1), (RIGHT + RIDE, 1.0 + RIDE)),
            }
        )

    def initial(self, key: Key) -> State:
        return {"position": random.uniform(key, (), -0.6, -0.4), "velocity": np.zeros(len(key))}

    def transition(self, state: State, action: NDArray) -> State:
        push = np.clip(action[:, 0].astype(np.float64), -1, 1) if self.continuous else action - 1.0
        velocity = state["velocity"] + push * self.power - GRAVITY * np.cos(3 * state["position"])
        velocity = np.clip(velocity, -MAX_SPEED, MAX_SPEED)
        position = np.clip(state["position"] + velocity, LEFT, RIGHT)
        return {"position": position, "velocity": np.where((position == LEFT) & (velocity < 0), 0, velocity)}

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        if not self.continuous:
            return np.full(len(action), -1.0)
        return np.where(self.terminated(next_state), 100.0, 0.0) - 0.1 * action[:, 0].astype(np.float64) ** 2

    def terminated(self, state: State) -> NDArray[np.bool_]:
        return (state["position"] >= self.goal) & (state["velocity"] >= 0)

    def scenery(self, canvas: Canvas) -> None:
        columns, rows = self._ground()
        for column, row in zip(columns, rows, strict=True):
            canvas.box((column - 0.5, row), (column + 0.5, self.frame_shape[0]), GROUND)
        for i in range(len(columns) - 1):
            canvas.capsule((columns[i], rows[i]), (columns[i + 1], rows[i + 1]), 0.02 * self.view.scale, EDGE)
        x, y = self.goal, float(_height(self.goal))
        canvas.capsule(self.view((x, y)), self.view((x, y + 0.4)), 0.02 * self.view.scale, WHEEL)
        canvas.polygon(self.view([(x, y + 0.4), (x, y + 0.22), (x + 0.18, y + 0.31)]), FLAG)

    def draw(self, canvas: Canvas, state: State) -> None:
        (car, along), scale = self._car(state), self.view.scale
        down = along[:, ::-1] * [-1, 1]
        for side in (-1, 1):
            canvas.disc(car + (0.08 * side * along + 0.06 * down) * scale, 0.05 * scale, WHEEL)
        canvas.capsule(car - 0.09 * scale * along, car + 0.09 * scale * along, 0.06 * scale, BODY)

    def factors(self, state: State) -> Factors:
        return {
            "position": state["position"][:, None].astype(np.float32),
            "velocity": state["velocity"][:, None].astype(np.float32),
            "location.car": self._car(state)[0].astype(np.float32),
        }

    def _car(self, state: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The middle of the car in px, and the direction of its front (of length 1): [n, 2] each."""
        slope = 1.35 * np.cos(3 * state["position"])
        ahead = np.stack([np.ones_like(slope), slope], axis=1) / np.sqrt(1 + slope**2)[:, None]
        wheels = np.stack([state["position"], _height(state["position"])], axis=1)
        return self.view(wheels + RIDE * ahead[:, ::-1] * [-1, 1]), ahead * [1, -1]

    def _ground(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The line of the ground in px: its columns, and its row in each."""
        columns = np.arange(-1.0, self.frame_shape[1] + 1)
        position = (columns - self.view.middle[0]) / self.view.scale + self.view.centre[0]
        return columns, self.view(np.stack([position, _height(position)], axis=1))[:, 1]


def _height(position: ArrayLike) -> NDArray[np.float64]:
    return 0.45 * np.sin(3 * np.asarray(position)) + 0.55


register("MountainCar-v0", MountainCar, max_episode_steps=999)
