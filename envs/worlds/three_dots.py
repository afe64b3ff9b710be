"""Three dots: one follows the action, one wanders at random, one stays (Sobal et al., 2022)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.core import Factors, State, World
from envs.random import Key
from envs.registry import register
from envs.worlds.moving_dot import DotField

DOTS = ("action", "random", "stationary")


class ThreeDots(World):
    """What is controlled, what changes at random and what never changes, in one frame.

    The random dot takes the paper's random walk: heading ~ von Mises(μ, κ = 0.2) with μ drawn once an episode, length
    ~ U[0, max_step]. ``layout="channels"`` draws each dot in a channel of its own (red, green, blue in the order of
    `DOTS`); ``"summed"`` adds them up in one channel, at a third of the brightness so that nothing saturates
    (the level of a distractor then weighs three times as much against a dot).

    Action: displacement (x, y) of the first dot in px, its length clipped to max_step.
    Factors ``location.action``, ``location.random``, ``location.stationary``: centres (x, y) in px.

    Raises:
        ValueError: an unknown layout, a dot that does not fit the frame, a sigma or max_step that is not positive.
    """

    def __init__(
        self,
        size: int = 28,
        sigma: float = 1.3,
        max_step: float = 4.0,
        layout: Literal["channels", "summed"] = "channels",
    ) -> None:
        if layout not in ("channels", "summed"):
            raise ValueError(f"layout must be 'channels' or 'summed', got {layout!r}")
        self.dots = DotField(size, sigma, max_step)
        self.layout = layout
        self.frame_shape = (size, size, 3 if layout == "channels" else 1)
        self.action_space = spaces.Box(-max_step, max_step, (2,), np.float32)
        self.factor_space = spaces.Dict({f"location.{dot}": self.dots.space() for dot in DOTS})

    def initial(self, key: Key) -> State:
        state: State = {dot: self.dots.place(random.fold_in(key, i)) for i, dot in enumerate(DOTS)}
        state["heading"] = random.uniform(random.fold_in(key, 3), high=2 * np.pi)
        state["key"] = random.fold_in(key, 4)
        return state

    def transition(self, state: State, action: NDArray) -> State:
        key = random.fold_in(state["key"], 0)
        angle = random.von_mises(random.fold_in(key, 1), state["heading"], kappa=0.2)
        length = random.uniform(random.fold_in(key, 2), high=self.dots.max_step)
        wander = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
        return {
            **state,
            "action": self.dots.move(state["action"], action),
            "random": self.dots.move(state["random"], wander),
            "key": key,
        }

    def render(self, state: State) -> NDArray[np.uint8]:
        peak = 255 if self.layout == "channels" else 85
        images = self._images(state, peak)
        if self.layout == "summed":
            images = images.sum(axis=-1, keepdims=True)
        return (images + 0.5).astype(np.uint8)

    def coverage(self, state: State) -> NDArray[np.float32]:
        return self._images(state, peak=1).max(axis=-1, keepdims=True)

    def factors(self, state: State) -> Factors:
        return {f"location.{dot}": state[dot] for dot in DOTS}

    def _images(self, state: State, peak: float) -> NDArray[np.float32]:
        """A picture of each dot: [n, size, size, dot]."""
        return np.stack([self.dots.draw(state[dot], peak) for dot in DOTS], axis=-1)


register("ThreeDots-v0", ThreeDots, max_episode_steps=16)
