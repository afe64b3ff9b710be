"""Two links and one motor between them (Gymnasium's Acrobot-v1)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.core import Factors, State
from envs.drawing import Canvas, DrawnWorld, View
from envs.random import Key
from envs.registry import register

GRAVITY, MASS, INERTIA, DT = 9.8, 1.0, 1.0, 0.2  # mass and moment of inertia of each link
LENGTH, CENTRE = 1.0, 0.5  # of a link, and where its centre of mass is
MAX_SPEED = 4 * np.pi, 9 * np.pi  # of the two joints
UPPER, LOWER, JOINT, GOAL = (0, 140, 190), (230, 120, 40), (40, 40, 40), (150, 150, 150)


class Acrobot(DrawnWorld):
    """Two links that hang from an axle; a motor at the elbow has to swing the tip above the line.

    Gymnasium's Acrobot-v1 (Sutton & Barto's equations, a Runge-Kutta step of 0.2 s): θ₁ is the upper link's angle from
    hanging down and θ₂ the lower link's relative to it, both counter-clockwise and wrapped to [−π, π]; velocities are
    clipped to ±4π and ±9π. Episodes begin at U[−0.1, 0.1]⁴ and terminate when −cos θ₁ − cos(θ₁ + θ₂) > 1.

    Action: Discrete(3), a torque of −1, 0 or 1 N·m; or, if ``continuous``, that torque, Box(−1, 1, (1,)).
    Reward: −1 a step, 0 for the one that reaches the goal.
    Factors: ``angle.shoulder`` and ``angle.elbow`` [2] = (cos θ, sin θ); ``angular_velocity.shoulder`` and
    ``angular_velocity.elbow`` [1] in rad/s; ``location.elbow`` and ``location.tip`` [2], (x, y) in px.

    Args:
        size: side of a frame in px.
        continuous: whether the torque is a number.

    Raises:
        ValueError: a size that is not a whole number of px.
    """

    render_fps = 15
    backdrop = (255, 255, 255)

    def __init__(self, size: int = 64, continuous: bool = False) -> None:
        self.frame_shape = (size, size, 3)
        self.view = View((size, size), centre=(0, 0), width=4.4 * LENGTH)
        self.continuous = continuous
        self.action_space = spaces.Box(-1, 1, (1,), np.float32) if continuous else spaces.Discrete(3)
        angle, reach = spaces.Box(-1, 1, (2,), np.float32), 2 * LENGTH
        shoulder, elbow = (spaces.Box(-speed, speed, (1,), np.float32) for speed in MAX_SPEED)
        self.factor_space = spaces.Dict(
            {
                "angle.shoulder": angle,
                "angle.elbow": angle,
                "angular_velocity.shoulder": shoulder,
                "angular_velocity.elbow": elbow,
                "location.elbow": self.view.space((-LENGTH, -LENGTH), (LENGTH, LENGTH)),
                "location.tip": self.view.space((-reach, -reach), (reach, reach)),
            }
        )

    def initial(self, key: Key) -> State:
        return {"joints": random.uniform(key, (4,), -0.1, 0.1)}  # [n, (θ₁, θ₂, ω₁, ω₂)]

    def transition(self, state: State, action: NDArray) -> State:
        torque = np.clip(action[:, 0].astype(np.float64), -1, 1) if self.continuous else action - 1.0
        new = _runge_kutta(state["joints"].T.copy(), torque)
        new[:2] -= 2 * np.pi * np.rint(new[:2] / (2 * np.pi))
        for velocity, speed in zip(new[2:], MAX_SPEED, strict=True):
            np.clip(velocity, -speed, speed, out=velocity)
        return {"joints": new.T.copy()}

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        return np.where(self.terminated(next_state), 0.0, -1.0)

    def terminated(self, state: State) -> NDArray[np.bool_]:
        shoulder, elbow = state["joints"].T[:2]
        return -np.cos(shoulder) - np.cos(elbow + shoulder) > 1.0

    def scenery(self, canvas: Canvas) -> None:
        canvas.box(self.view((-9, LENGTH + 0.03)), self.view((9, LENGTH - 0.03)), GOAL)

    def draw(self, canvas: Canvas, state: State) -> None:
        (elbow, tip), axle, scale = self._points(state), self.view((0, 0)), self.view.scale
        canvas.capsule(axle, elbow, 0.12 * scale, UPPER)
        canvas.capsule(elbow, tip, 0.12 * scale, LOWER)
        canvas.disc(axle, 0.08 * scale, JOINT)
        canvas.disc(elbow, 0.08 * scale, JOINT)

    def factors(self, state: State) -> Factors:
        shoulder, elbow, *velocities = state["joints"].T
        knee, tip = self._points(state)
        found = {
            "angle.shoulder": np.stack([np.cos(shoulder), np.sin(shoulder)], axis=1),
            "angle.elbow": np.stack([np.cos(elbow), np.sin(elbow)], axis=1),
            "angular_velocity.shoulder": velocities[0][:, None],
            "angular_velocity.elbow": velocities[1][:, None],
            "location.elbow": knee,
            "location.tip": tip,
        }
        return {name: array.astype(np.float32) for name, array in found.items()}

    def _points(self, state: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The elbow and the tip in px: [n, 2] each."""
        shoulder, elbow = state["joints"].T[:2]
        upper, lower = (
            LENGTH * np.stack([np.sin(angle), -np.cos(angle)], axis=1) for angle in (shoulder, shoulder + elbow)
        )
        return self.view(upper), self.view(upper + lower)


def _runge_kutta(joints: NDArray[np.float64], torque: NDArray[np.float64]) -> NDArray[np.float64]:
    """One step of the classical fourth-order method: [4, n], [n] -> [4, n]."""
    first = _derivative(joints, torque)
    second = _derivative(joints + DT / 2 * first, torque)
    third = _derivative(joints + DT / 2 * second, torque)
    fourth = _derivative(joints + DT * third, torque)
    return joints + DT / 6 * (first + 2 * second + 2 * third + fourth)


def _derivative(joints: NDArray[np.float64], torque: NDArray[np.float64]) -> NDArray[np.float64]:
    """(θ̇₁, θ̇₂, θ̈₁, θ̈₂) of (θ₁, θ₂, θ̇₁, θ̇₂): [4, n]. Sutton & Barto (1998), section 11.3."""
    angle1, angle2, speed1, speed2 = joints
    sin2, cos2 = np.sin(angle2), np.cos(angle2)
    d1 = MASS * CENTRE**2 + MASS * (LENGTH**2 + CENTRE**2 + 2 * LENGTH * CENTRE * cos2) + 2 * INERTIA
    d2 = MASS * (CENTRE**2 + LENGTH * CENTRE * cos2) + INERTIA
    phi2 = MASS * CENTRE * GRAVITY * np.sin(angle1 + angle2)
    phi1 = (
        -MASS * LENGTH * CENTRE * (speed2**2 + 2 * speed2 * speed1) * sin2
        + (MASS * CENTRE + MASS * LENGTH) * GRAVITY * np.sin(angle1)
        + phi2
    )
    turning2 = torque + d2 / d1 * phi1 - MASS * LENGTH * CENTRE * speed1**2 * sin2 - phi2
    turning2 /= MASS * CENTRE**2 + INERTIA - d2**2 / d1
    return np.stack([speed1, speed2, -(d2 * turning2 + phi1) / d1, turning2])


register("Acrobot-v0", Acrobot, max_episode_steps=500)
