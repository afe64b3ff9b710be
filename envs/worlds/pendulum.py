"""A pendulum to be swung up (Gymnasium's Pendulum-v1)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.core import Factors, State
from envs.drawing import Canvas, DrawnWorld, View
from envs.random import Key
from envs.registry import register

GRAVITY, MASS, LENGTH, DT = 10.0, 1.0, 1.0, 0.05
MAX_TORQUE, MAX_SPEED = 2.0, 8.0
ROD, AXLE = (204, 77, 77), (0, 0, 0)


class Pendulum(DrawnWorld):
    """A rod on an axle, turned by a torque that is too weak to lift it at once.

    Gymnasium's Pendulum-v1: ω ← clip(ω + (3g/2l·sin θ + 3u/ml²)·dt, ±8), θ ← θ + ω·dt, with θ = 0 upright and
    counter-clockwise positive; episodes begin at θ ~ U[−π, π], ω ~ U[−1, 1].

    Action: torque u, Box(−2, 2, (1,)), in N·m.
    Reward: −(θ² + 0.1·ω² + 0.001·u²) before the step, with θ in [−π, π).
    Factors: ``angle`` [2] = (cos θ, sin θ); ``angular_velocity`` [1], ω in rad/s; ``location.tip`` [2], (x, y) in px.

    Args:
        size: side of a frame in px.

    Raises:
        ValueError: a size that is not a whole number of px.
    """

    render_fps = 20
    backdrop = (255, 255, 255)

    def __init__(self, size: int = 64) -> None:
        self.frame_shape = (size, size, 3)
        self.view = View((size, size), centre=(0, 0), width=2.4 * LENGTH)
        self.action_space = spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        self.factor_space = spaces.Dict(
            {
                "angle": spaces.Box(-1, 1, (2,), np.float32),
                "angular_velocity": spaces.Box(-MAX_SPEED, MAX_SPEED, (1,), np.float32),
                "location.tip": self.view.space((-LENGTH, -LENGTH), (LENGTH, LENGTH)),
            }
        )

    def initial(self, key: Key) -> State:
        angle, velocity = random.uniform(key, (2,), [-np.pi, -1.0], [np.pi, 1.0]).T
        return {"angle": angle, "velocity": velocity}

    def transition(self, state: State, action: NDArray) -> State:
        torque = _torque(action)
        gain = 3 * GRAVITY / (2 * LENGTH) * np.sin(state["angle"]) + 3 / (MASS * LENGTH**2) * torque
        velocity = np.clip(state["velocity"] + gain * DT, -MAX_SPEED, MAX_SPEED)
        return {"angle": state["angle"] + velocity * DT, "velocity": velocity}

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        angle = (state["angle"] + np.pi) % (2 * np.pi) - np.pi
        return -(angle**2 + 0.1 * state["velocity"] ** 2 + 0.001 * _torque(action) ** 2)

    def draw(self, canvas: Canvas, state: State) -> None:
        canvas.capsule(self.view((0, 0)), self._tip(state), 0.1 * self.view.scale, ROD)
        canvas.disc(self.view((0, 0)), 0.05 * self.view.scale, AXLE)

    def factors(self, state: State) -> Factors:
        angle = np.stack([np.cos(state["angle"]), np.sin(state["angle"])], axis=1)
        return {
            "angle": angle.astype(np.float32),
            "angular_velocity": state["velocity"][:, None].astype(np.float32),
            "location.tip": self._tip(state).astype(np.float32),
        }

    def _tip(self, state: State) -> NDArray[np.float64]:
        """The end of the rod in px: [n, 2]."""
        return self.view(np.stack([-np.sin(state["angle"]), np.cos(state["angle"])], axis=1) * LENGTH)


def _torque(action: NDArray) -> NDArray[np.float64]:
    return np.clip(action[:, 0].astype(np.float64), -MAX_TORQUE, MAX_TORQUE)


register("Pendulum-v0", Pendulum, max_episode_steps=200)
