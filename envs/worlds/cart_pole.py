"""A pole on a cart: to be swung up, or to be balanced (Gymnasium's CartPole-v1)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.core import Factors, State
from envs.drawing import Canvas, DrawnWorld, View
from envs.random import Key
from envs.registry import register

GRAVITY, CART_MASS, POLE_MASS, DT = 9.8, 1.0, 0.1, 0.02
HALF_LENGTH = 0.5  # of the pole, whose centre of mass is in its middle
FORCE = 10.0
TRACK = 2.4  # the cart's position is within ±TRACK
MAX_TILT = 12 * 2 * np.pi / 360  # of a pole that counts as balanced
CART, POLE, AXLE, RAIL = (50, 70, 110), (220, 120, 40), (255, 230, 120), (160, 160, 160)
HALF_CART = np.array([0.45, 0.25])  # half the width and height of the cart as it is drawn


class CartPole(DrawnWorld):
    """What both tasks share: the physics of Gymnasium's CartPole-v1, the look and the factors.

    With force F, cart at x, pole at θ (0 upright, clockwise positive), total mass M and half length l:
    b = (F + m·l·θ̇²·sin θ)/M; θ̈ = (g·sin θ − b·cos θ) / (l·(4/3 − m·cos²θ/M)); ẍ = b − m·l·θ̈·cos θ/M, integrated by
    Euler's method with the velocities from before the step (Barto, Sutton & Anderson, 1983; Florian, 2007).

    Factors: ``position`` [1], x in m; ``velocity`` [1], ẋ in m/s; ``angle`` [2] = (cos θ, sin θ);
    ``angular_velocity`` [1], θ̇ in rad/s; ``location.cart`` and ``location.tip`` [2], (x, y) in px, of the axle and of
    the pole's end.

    Args:
        size: side of a frame in px.
        reach: the largest |x| of an episode in m.

    Raises:
        ValueError: a size that is not a whole number of px.
    """

    render_fps = 50
    backdrop = (255, 255, 255)

    def __init__(self, size: int, reach: float) -> None:
        self.frame_shape = (size, size, 3)
        self.view = View((size, size), centre=(0, 0), width=2 * (TRACK + 0.5))
        free, pole = spaces.Box(-np.inf, np.inf, (1,), np.float32), 2 * HALF_LENGTH
        self.factor_space = spaces.Dict(
            {
                "position": spaces.Box(-reach, reach, (1,), np.float32),
                "velocity": free,
                "angle": spaces.Box(-1, 1, (2,), np.float32),
                "angular_velocity": free,
                "location.cart": self.view.space((-reach, 0), (reach, 0)),
                "location.tip": self.view.space((-reach - pole, -pole), (reach + pole, pole)),
            }
        )

    def initial(self, key: Key) -> State:
        position, velocity, angle, angular_velocity = random.uniform(key, (4,), -0.05, 0.05).T
        return {"position": position, "velocity": velocity, "angle": angle, "angular_velocity": angular_velocity}

    def draw(self, canvas: Canvas, state: State) -> None:
        scale, (axle, tip) = self.view.scale, self._points(state)
        half = HALF_CART * scale
        canvas.box(axle - half, axle + half, CART)
        canvas.capsule(axle, tip, 0.12 * scale, POLE)
        canvas.disc(axle, 0.07 * scale, AXLE)

    def scenery(self, canvas: Canvas) -> None:
        end = TRACK + HALF_CART[0]
        canvas.box(self.view((-end, 0.05)), self.view((end, -0.05)), RAIL)
        for side in (-1, 1):  # the buffers that a cart touches at ±TRACK
            low, high = sorted((side * end, side * (end + 1)))
            canvas.box(self.view((low, HALF_CART[1])), self.view((high, -HALF_CART[1])), RAIL)

    def factors(self, state: State) -> Factors:
        axle, tip = self._points(state)
        found = {
            "position": state["position"][:, None],
            "velocity": state["velocity"][:, None],
            "angle": np.stack([np.cos(state["angle"]), np.sin(state["angle"])], axis=1),
            "angular_velocity": state["angular_velocity"][:, None],
            "location.cart": axle,
            "location.tip": tip,
        }
        return {name: array.astype(np.float32) for name, array in found.items()}

    def _points(self, state: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The axle and the end of the pole in px: [n, 2] each."""
        axle = np.stack([state["position"], np.zeros_like(state["position"])], axis=1)
        pole = 2 * HALF_LENGTH * np.stack([np.sin(state["angle"]), np.cos(state["angle"])], axis=1)
        return self.view(axle), self.view(axle + pole)


class CartPoleSwingUp(CartPole):
    """The pole hangs down at first; a motor moves the cart between two buffers.

    The reward is that of the DeepMind Control Suite's `cartpole` (Tassa et al., 2018), in [0, 1]:
    upright·centred·(small control)·(small velocity) = (1 + cos θ)/2 · (1 + 0.1^{(x/2)²})/2 · (5 − u²)/5 ·
    (1 + 0.1^{(θ̇/5)²})/2, after the step. Episodes begin at U[−0.05, 0.05]⁴ around rest and never terminate.

    A cart that runs into a buffer stops, and the pole swings on: the impulse that takes ẋ from the cart gives the pole
    Δθ̇ = ẋ·cos θ / (4l/3). So a cart pressed against a buffer holds a plain pendulum, whatever the force.

    Action: u, Box(−1, 1, (1,)), a force of 10·u N to the right.
    Factors, arguments and errors: as in `CartPole`.
    """

    def __init__(self, size: int = 64) -> None:
        super().__init__(size, reach=TRACK)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def initial(self, key: Key) -> State:
        state = super().initial(key)
        return {**state, "angle": state["angle"] + np.pi}

    def transition(self, state: State, action: NDArray) -> State:
        moved = _moved(state, _control(action) * FORCE)
        position, velocity = moved["position"], moved["velocity"]
        stopped = (np.abs(position) >= TRACK) & (position * velocity > 0)
        kick = np.where(stopped, velocity, 0) * np.cos(state["angle"]) / (4 / 3 * HALF_LENGTH)
        return {
            **moved,
            "position": np.clip(position, -TRACK, TRACK),
            "velocity": np.where(stopped, 0, velocity),
            "angular_velocity": moved["angular_velocity"] + kick,
        }

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        upright = (1 + np.cos(next_state["angle"])) / 2
        centred = (1 + 0.1 ** ((next_state["position"] / 2) ** 2)) / 2
        small_control = (5 - _control(action) ** 2) / 5
        small_velocity = (1 + 0.1 ** ((next_state["angular_velocity"] / 5) ** 2)) / 2
        return upright * centred * small_control * small_velocity


class CartPoleBalance(CartPole):
    """Gymnasium's CartPole-v1: the pole is upright at first, and an episode ends when it or the cart has gone too far.

    Episodes begin at U[−0.05, 0.05]⁴ and terminate at |x| > 2.4 m or |θ| > 12°. The reward is 1 a step, the last one
    included.

    Action: Discrete(2), 0 pushes the cart to the left with 10 N, 1 to the right.
    Factors, arguments and errors: as in `CartPole`.
    """

    def __init__(self, size: int = 64) -> None:
        super().__init__(size, reach=2 * TRACK)  # an episode ends beyond the track
        self.action_space = spaces.Discrete(2)

    def transition(self, state: State, action: NDArray) -> State:
        return _moved(state, np.where(action == 1, FORCE, -FORCE))

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        return np.where(self.terminated(state), 0.0, 1.0)

    def terminated(self, state: State) -> NDArray[np.bool_]:
        return (np.abs(state["position"]) > TRACK) | (np.abs(state["angle"]) > MAX_TILT)


def _moved(state: State, force: NDArray[np.float64]) -> State:
    """The state after a step under a force [n] in N, in the order of Gymnasium's arithmetic."""
    mass, moment = CART_MASS + POLE_MASS, POLE_MASS * HALF_LENGTH
    sin, cos, spin = np.sin(state["angle"]), np.cos(state["angle"]), state["angular_velocity"]
    push = (force + moment * spin**2 * sin) / mass
    turning = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cos**2 / mass))
    return {
        "position": state["position"] + DT * state["velocity"],
        "velocity": state["velocity"] + DT * (push - moment * turning * cos / mass),
        "angle": state["angle"] + DT * spin,
        "angular_velocity": spin + DT * turning,
    }


def _control(action: NDArray) -> NDArray[np.float64]:
    return np.clip(action[:, 0].astype(np.float64), -1, 1)


register("CartPoleSwingUp-v0", CartPoleSwingUp, max_episode_steps=500)
register("CartPoleBalance-v0", CartPoleBalance, max_episode_steps=500)
