"""A dot that goes where its action says (Sobal et al., 2022)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import random
from envs.core import Factors, State, World
from envs.random import Key
from envs.registry import register


class DotField:
    """Where dots may be, how they move and how they look.

    A dot at p = (x, y), in px with x the column and y the row, has intensity exp(−‖c − p‖² / 2σ²) at pixel c. It
    starts anywhere in [2σ, size − 1 − 2σ]² and stays there: p ← clip(p + a), with ‖a‖ ≤ max_step.
    """

    def __init__(self, size: int, sigma: float, max_step: float) -> None:
        if not (0 < sigma < np.inf and 0 < max_step < np.inf):
            raise ValueError(
                f"sigma and max_step must be positive and finite, got sigma={sigma!r}, max_step={max_step!r}"
            )
        self.low, self.high = 2 * sigma, size - 1 - 2 * sigma
        if self.low >= self.high:
            raise ValueError(f"a dot of sigma={sigma!r} needs size > {4 * sigma + 1:g} px, got size={size!r}")
        self.size, self.sigma, self.max_step = size, sigma, max_step

    def space(self) -> spaces.Box:
        """The positions that a dot can have, in px."""
        return spaces.Box(np.float32(self.low), np.float32(self.high), (2,), np.float32)

    def place(self, key: Key) -> NDArray[np.float32]:
        """Uniform positions: [n, 2]."""
        return random.uniform(key, (2,), self.low, self.high).astype(np.float32)

    def move(self, location: NDArray[np.float32], step: NDArray) -> NDArray[np.float32]:
        """Positions after a step in px, its length clipped to max_step: [n, 2], [n, 2] -> [n, 2]."""
        length = np.sqrt(step[:, :1] ** 2 + step[:, 1:] ** 2)
        step = step * (self.max_step / np.maximum(length, self.max_step))
        return np.clip(location + step, self.low, self.high).astype(np.float32)

    def draw(self, location: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
        """Images of dots with a given peak: [n, 2] -> [n, size, size]."""
        # The Gaussian is separable: 2·size exponentials a dot instead of size².
        offset = np.arange(self.size, dtype=np.float32) - location[:, :, None]  # [n, (x, y), size]
        # Exponents stop at −40: the products of smaller numbers are denormal, five times slower and just as black.
        profile = np.exp(np.maximum(offset * offset * np.float32(-0.5 / self.sigma**2), np.float32(-40)))
        return (profile[:, 1] * np.float32(peak))[:, :, None] * profile[:, 0][:, None, :]


class MovingDot(World):
    """One dot moved by the action; the paper's dynamics and image, scaled so that the dot's peak is 255.

    Action: displacement (x, y) in px, Box(−max_step, max_step), its length clipped to max_step.
    Factor ``location``: the dot's centre (x, y) in px.

    Raises:
        ValueError: a dot that does not fit the frame, a sigma or max_step that is not positive.
    """

    def __init__(self, size: int = 28, sigma: float = 1.3, max_step: float = 4.0) -> None:
        self.dots = DotField(size, sigma, max_step)
        self.frame_shape = (size, size, 1)
        self.action_space = spaces.Box(-max_step, max_step, (2,), np.float32)
        self.factor_space = spaces.Dict({"location": self.dots.space()})

    def initial(self, key: Key) -> State:
        return {"location": self.dots.place(key)}

    def transition(self, state: State, action: NDArray) -> State:
        return {"location": self.dots.move(state["location"], action)}

    def render(self, state: State) -> NDArray[np.uint8]:
        image = self.dots.draw(state["location"], peak=255)
        image += 0.5
        return image.astype(np.uint8)[..., None]

    def coverage(self, state: State) -> NDArray[np.float32]:
        return self.dots.draw(state["location"], peak=1)[..., None]

    def factors(self, state: State) -> Factors:
        return {"location": state["location"]}


register("MovingDot-v0", MovingDot, max_episode_steps=16)
