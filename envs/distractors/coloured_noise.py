"""Coloured noise: as smooth in space and as slow in time as one likes."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from envs import random
from envs.core import State
from envs.distractors.background import Source
from envs.random import Key

CHUNK = 16  # worlds at a time, so that what is in hand stays in the processor's cache
CELLS, REACH = 2**20, 8.0  # of the table of Φ, on [−REACH, REACH)


@dataclass(frozen=True)
class ColouredNoise(Source):
    """A Gaussian random field seen through its distribution function: every pixel is uniform on 0…255.

    With ``dynamics=playing`` a pixel's Gaussian is correlated with that of the pixel d px away, t steps later, by
    exp(−d²/2ℓ²)·exp(−t/τ), and their bytes by (6/π)·asin of half of that. The field is periodic at the frame's edges;
    channels are independent. Each step is x ← ρ·x + √(1 − ρ²)·ε, with ρ = exp(−1/τ) and ε a new field.

    From static to dynamic in one knob: τ = ∞ never changes, τ = 0 is new at every step. With ℓ = 0 these are
    `UniformNoise`, static and dynamic.

    Attributes:
        length: ℓ, the correlation length in px; 0 for pixels that are independent.
        time: τ, the correlation time in steps; 0 for noise that is new at every step, None (or infinity) for noise that
            never changes.

    Raises:
        ValueError: a length or a time that is negative or not a number, or an infinite length.
    """

    length: float = 4.0
    time: float | None = 10.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.length) and self.length >= 0):
            raise ValueError(f"length must be finite and at least 0 px, got {self.length!r}")
        if self.time is not None and not self.time >= 0:
            raise ValueError(f"time must be at least 0 steps, or None for noise that stays; got {self.time!r}")

    def sample(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> NDArray[np.uint8]:
        return _seen(self._field(key, frame_shape))

    def begin(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> State:
        field = self._field(key, frame_shape)
        return {"key": key, "field": field, "image": _seen(field)}

    def play(self, state: State, time: NDArray[np.int64], held_out: bool) -> State:
        if self.time is None or self.time == math.inf:
            return state
        rho = math.exp(-1 / self.time) if self.time else 0.0
        field = self._field(random.fold_in(state["key"], time), state["image"].shape[1:])
        field *= np.float32(math.sqrt(1 - rho**2))
        field += state["field"] * np.float32(rho)
        return {**state, "field": field, "image": _seen(field)}

    def _field(self, key: Key, frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Fields of variance 1, one for every key: [n, C, H, W]."""
        height, width, channels = frame_shape
        field = np.empty((len(key), channels, height, width), np.float32)
        for part in (slice(i, i + CHUNK) for i in range(0, len(key), CHUNK)):
            words = random.random_bytes(key[part], (channels, height, 2 * width)).view("<u2")
            field[part] = _normals().take(words)  # [n, C, H, W]
            if self.length:  # one small product a picture and channel: it cannot depend on the batch
                smooth = np.matmul(field[part], _filter(width, self.length))
                field[part] = np.matmul(_filter(height, self.length), smooth)
        return field


@functools.lru_cache(maxsize=16)
def _filter(size: int, length: float) -> NDArray[np.float32]:
    """The symmetric square root of the periodic Gaussian covariance along an axis: [size, size], circulant."""
    around = math.ceil(6 * length / size)
    distance = np.arange(size)[:, None] + size * np.arange(-around - 1, around + 1)  # to a pixel and its repetitions
    covariance = np.exp(-(distance**2) / (2 * length**2)).sum(axis=1)
    spectrum = np.maximum(np.fft.fft(covariance / covariance[0]).real, 0)
    root = np.fft.ifft(np.sqrt(spectrum)).real
    row, column = np.mgrid[:size, :size]
    return root[(row - column) % size].astype(np.float32)


@functools.cache
def _normals() -> NDArray[np.float32]:
    """Standard normal numbers at the 65 536 equally likely places of a 16-bit word."""
    quantile = NormalDist().inv_cdf
    return np.array([quantile((word + 0.5) / 2**16) for word in range(2**16)], np.float32)


@functools.cache
def _bytes() -> NDArray[np.uint8]:
    """⌊256·Φ(x)⌋ at the centres of the cells of [−REACH, REACH)."""
    edges = [NormalDist().inv_cdf(byte / 256) for byte in range(1, 256)]
    centres = (np.arange(CELLS) + 0.5) * (2 * REACH / CELLS) - REACH
    return np.searchsorted(edges, centres).astype(np.uint8)


def _seen(field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bytes of fields: [n, C, H, W] -> [n, H, W, C]."""
    n, channels, height, width = field.shape
    image = np.empty((n, height, width, channels), np.uint8)
    for part in (slice(i, i + CHUNK) for i in range(0, n, CHUNK)):
        cell = field[part] * np.float32(CELLS / (2 * REACH))
        cell += np.float32(CELLS / 2)
        image[part] = _bytes().take(cell.astype(np.int32), mode="clip").transpose(0, 2, 3, 1)
    return image
