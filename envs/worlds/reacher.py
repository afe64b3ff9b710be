"""A two-link arm that is to touch a target (the DeepMind Control Suite's `reacher`, Tassa et al., 2018)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.arguments import require_whole
from envs.core import Factors, State, apart
from envs.drawing import Canvas, DrawnWorld, View
from envs.goals import Reward
from envs.random import Key
from envs.registry import register

# Of the Control Suite's model (kg, m, s), as MuJoCo computes it from capsules of density 1000 kg/m³ and radius 1 cm.
UPPER = 0.12  # from the shoulder to the wrist
LOWER = 0.12  # from the wrist to the fingertip
LINK = 0.01  # radius of the links and of the fingertip
SHOULDER_INERTIA = 0.041887902 * 0.06**2 + 6.33135639e-5  # of the upper link, about the shoulder
WRIST_MASS = 0.0356047167 + 0.0041887902  # of what hangs on the wrist: the lower link and the fingertip
WRIST_MOMENT = 0.0356047167 * 0.05 + 0.0041887902 * LOWER  # its mass times the distance of its centre from the wrist
WRIST_INERTIA = 0.0356047167 * 0.05**2 + 3.91756604e-5 + 0.0041887902 * LOWER**2 + 1.67551608e-7  # about the wrist
TORQUE, DAMPING, DT = 0.05, 0.01, 0.02  # N·m, N·m·s, s
LIMIT = np.deg2rad(160)  # of the wrist's angle

FLOOR, DECORATION, ARM, FINGER, TARGET = (26, 46, 66), (77, 128, 179), (179, 128, 77), (240, 200, 120), (200, 70, 70)

Floats = NDArray[np.float64]


class Reacher(DrawnWorld):
    """A planar arm with a motor in its shoulder and one in its wrist, and a target.

    The Control Suite's reacher, step for step: M(q)·q̈ + c(q, q̇) = τ − 0.01·q̇ in a horizontal plane, integrated by
    MuJoCo's Euler method (`advance`), with τ = 0.05·a. Where the wrist reaches ±160° it stops at once; MuJoCo's soft
    limit lets it go a little further and come back. An action is held for ``frame_skip`` steps of 0.02 s.

    Episodes begin at rest, with the shoulder at U[−π, π], the wrist at U[−160°, 160°] and the target at an angle of
    U[0, 2π] and a distance of U[0.05, 0.2] m.

    Action: a, Box(−1, 1, (2,)), for the shoulder and the wrist; counter-clockwise is positive.
    Reward: ``"sparse"``: 1 if the fingertip (radius 0.01) touches the target after the step, else 0, as in the Control
    Suite; ``"dense"``: −‖fingertip − target‖ − ‖a‖², as in Gymnasium's Reacher-v5, in m.
    Factors: ``joint_angles`` [4] = (cos q₁, cos q₂, sin q₁, sin q₂), q₂ relative to the upper link;
    ``joint_velocities`` [2] in rad/s; ``location.fingertip`` and ``location.target`` [2], (x, y) in px.

    Args:
        size: side of a frame in px.
        target_size: radius of the target in m: 0.05 (the Control Suite's "easy") or 0.015 ("hard").
        frame_skip: steps of 0.02 s for one action.
        reward: ``"sparse"`` or ``"dense"``.

    Raises:
        ValueError: a size that is not a whole number of px, a target_size that is not positive, a frame_skip below 1,
            an unknown reward.
    """

    backdrop = FLOOR

    def __init__(
        self, size: int = 64, target_size: float = 0.05, frame_skip: int = 4, reward: Reward = "sparse"
    ) -> None:
        if not 0 < target_size < np.inf:
            raise ValueError(f"target_size must be positive and finite, got {target_size!r}")
        require_whole(frame_skip=frame_skip)
        if reward not in ("sparse", "dense"):
            raise ValueError(f"reward must be 'sparse' or 'dense', got {reward!r}")
        self.target_size, self.frame_skip, self.dense = target_size, frame_skip, reward == "dense"
        self.render_fps = max(1, round(1 / (DT * frame_skip)))
        self.frame_shape = (size, size, 3)
        self.view = View((size, size), centre=(0, 0), width=0.54)  # all that the arm can reach, and a margin
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        length = UPPER + LOWER
        self.factor_space = spaces.Dict(
            {
                "joint_angles": spaces.Box(-1, 1, (4,), np.float32),
                "joint_velocities": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "location.fingertip": self.view.space((-length, -length), (length, length)),
                "location.target": self.view.space((-0.2, -0.2), (0.2, 0.2)),
            }
        )

    def initial(self, key: Key) -> State:
        low, high = [-np.pi, -LIMIT, 0.0, 0.05], [np.pi, LIMIT, 2 * np.pi, 0.2]
        drawn = random.uniform(key, (4,), low, high)
        angle, radius = drawn[:, 2], drawn[:, 3:]
        return {
            "angles": drawn[:, :2].copy(),
            "velocities": np.zeros((len(key), 2)),
            "target": radius * np.stack([np.cos(angle), np.sin(angle)], axis=1),
        }

    def transition(self, state: State, action: NDArray) -> State:
        torque = TORQUE * np.clip(action.astype(np.float64), -1, 1)
        angles, velocities = state["angles"], state["velocities"]
        for _ in range(self.frame_skip):
            angles, velocities = stop_wrist(*advance(angles, velocities, torque))
        return {**state, "angles": angles, "velocities": velocities}

    def at_goal(self, state: State) -> State:
        """The arm at rest with its fingertip on the target, or as near as it gets, bent to the side that it is now.

        cos q₂ = (r² − a² − b²)/2ab for links a and b and a target at a distance of r.
        """
        target, side = state["target"], np.where(state["angles"][:, 1] < 0, -1.0, 1.0)
        bend = ((target**2).sum(axis=1) - UPPER**2 - LOWER**2) / (2 * UPPER * LOWER)
        wrist = side * np.arccos(np.clip(bend, np.cos(LIMIT), 1))
        ahead = np.arctan2(LOWER * np.sin(wrist), UPPER + LOWER * np.cos(wrist))  # of the fingertip, of the upper link
        shoulder = np.arctan2(target[:, 1], target[:, 0]) - ahead
        angles = np.stack([shoulder, wrist], axis=1)
        return {**state, "angles": angles, "velocities": np.zeros_like(state["velocities"])}

    def reward(self, state: State, action: NDArray, next_state: State) -> Floats:
        distance = apart(arm(next_state["angles"])[1], next_state["target"])
        if self.dense:
            return -distance - (action.astype(np.float64) ** 2).sum(axis=1)
        return (distance <= self.target_size + LINK).astype(np.float64)

    def draw(self, canvas: Canvas, state: State) -> None:
        scale, (wrist, tip) = self.view.scale, arm(state["angles"])
        canvas.disc(self.view(state["target"]), self.target_size * scale, TARGET)
        canvas.disc(self.view((0, 0)), 1.5 * LINK * scale, DECORATION)
        canvas.capsule(self.view((0, 0)), self.view(wrist), LINK * scale, ARM)
        canvas.capsule(self.view(wrist), self.view(tip), LINK * scale, ARM)
        canvas.disc(self.view(tip), LINK * scale, FINGER)

    def factors(self, state: State) -> Factors:
        found = {
            "joint_angles": np.concatenate([np.cos(state["angles"]), np.sin(state["angles"])], axis=1),
            "joint_velocities": state["velocities"],
            "location.fingertip": self.view(arm(state["angles"])[1]),
            "location.target": self.view(state["target"]),
        }
        return {name: array.astype(np.float32) for name, array in found.items()}


def arm(angles: Floats) -> tuple[Floats, Floats]:
    """The wrist and the fingertip (x, y) in m: [n, 2] -> [n, 2], [n, 2]."""
    upper, lower = angles[:, 0], angles[:, 0] + angles[:, 1]
    wrist = UPPER * np.stack([np.cos(upper), np.sin(upper)], axis=1)
    return wrist, wrist + LOWER * np.stack([np.cos(lower), np.sin(lower)], axis=1)


def mass_matrix(angles: Floats) -> tuple[Floats, Floats, float]:
    """M₁₁ [n], M₁₂ [n] and M₂₂ of the arm's mass matrix, in kg·m²."""
    coupling = UPPER * WRIST_MOMENT * np.cos(angles[:, 1])
    shoulder = SHOULDER_INERTIA + WRIST_MASS * UPPER**2 + WRIST_INERTIA
    return shoulder + 2 * coupling, WRIST_INERTIA + coupling, WRIST_INERTIA


def advance(
    angles: Floats, velocities: Floats, torque: Floats, dt: float = DT, damping: float = DAMPING
) -> tuple[Floats, Floats]:
    """Angles and velocities one step later, all [n, 2].

    (M + dt·D)·Δq̇ = dt·(τ − c − D·q̇), then q ← q + dt·q̇: Euler's method with the new velocities, and damping D taken
    at the end of the step. c = h·(−2q̇₁q̇₂ − q̇₂², q̇₁²), the Coriolis and centrifugal torques, with h = −∂M₁₂/∂q₂.
    """
    bend = UPPER * WRIST_MOMENT * np.sin(angles[:, 1])
    first, second = velocities[:, 0], velocities[:, 1]
    push_1 = torque[:, 0] + bend * (2 * first * second + second**2) - damping * first
    push_2 = torque[:, 1] - bend * first**2 - damping * second
    m_11, m_12, m_22 = mass_matrix(angles)
    m_11, m_22 = m_11 + dt * damping, m_22 + dt * damping
    change = np.stack([m_22 * push_1 - m_12 * push_2, m_11 * push_2 - m_12 * push_1], axis=1)
    velocities = velocities + dt * change / (m_11 * m_22 - m_12**2)[:, None]
    return angles + dt * velocities, velocities


def stop_wrist(angles: Floats, velocities: Floats) -> tuple[Floats, Floats]:
    """Hold the wrist within its limit, all [n, 2].

    The impulse that stops it acts between the two links: M₁₁·q̇₁ + M₁₂·q̇₂, the arm's spin about its shoulder, is kept.
    """
    shoulder, wrist = angles[:, 0], np.clip(angles[:, 1], -LIMIT, LIMIT)
    angles = np.stack([shoulder, wrist], axis=1)
    stopped = (np.abs(wrist) >= LIMIT) & (wrist * velocities[:, 1] > 0)
    lost = np.where(stopped, velocities[:, 1], 0)
    m_11, m_12, _ = mass_matrix(angles)
    return angles, np.stack([velocities[:, 0] + m_12 / m_11 * lost, velocities[:, 1] - lost], axis=1)


register("Reacher-v0", Reacher, max_episode_steps=250)
