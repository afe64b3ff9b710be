"""Uniform noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs import random
from envs.distractors.background import Source
from envs.random import Key


@dataclass(frozen=True)
class UniformNoise(Source):
    """Every pixel and channel independent, uniform on 0…255: the paper's N ~ U[0, 1] in steps of 1/255."""

    def sample(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> NDArray[np.uint8]:
        return random.random_bytes(key, frame_shape)
