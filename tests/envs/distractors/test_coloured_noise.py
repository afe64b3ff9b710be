from __future__ import annotations

import math

import numpy as np
import pytest

from envs.distractors import coloured_noise
from envs.distractors.coloured_noise import ColouredNoise


def played(noise, keys, shape, steps) -> np.ndarray:
    """What is seen at every step: [T, n, H, W, C]."""
    state = noise.begin(keys, shape, held_out=False)
    seen = [state["image"]]
    for t in range(1, steps + 1):
        state = noise.play(state, np.full(len(keys), t), held_out=False)
        seen.append(state["image"])
    return np.stack(seen).astype(float)


def of_bytes(r) -> float:
    """Correlation of two uniform numbers made of Gaussians with correlation r (Pearson, 1907)."""
    return 6 / np.pi * np.arcsin(np.asarray(r) / 2)


def correlation(a, b) -> float:
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def assert_uniform(sample):
    expected = sample.size / 256
    chi_square = ((np.bincount(sample.ravel().astype(int), minlength=256) - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


@pytest.mark.parametrize("length", [0.7, 1.5, 3.0])
def test_space__is_correlated_by_the_formula_along_both_axes_and_between_them(length, keys):
    height, width = 14, 20
    sample = ColouredNoise(length).sample(keys(4000), (height, width, 1), held_out=False).astype(float)

    def along(distance, size):  # the frame is periodic
        around = size * np.arange(-20, 21)
        return (np.exp(-((distance + around) ** 2) / (2 * length**2))).sum() / np.exp(
            -(around**2) / (2 * length**2)
        ).sum()

    for down, right in ((0, 1), (1, 0), (0, 3), (2, 0), (1, 2), (7, 0), (0, 10), (13, 0), (0, 19)):
        found = correlation(sample, np.roll(sample, (down, right), axis=(1, 2)))
        assert found == pytest.approx(of_bytes(along(down, height) * along(right, width)), abs=0.03), (down, right)


@pytest.mark.parametrize("time", [0.5, 3.0, 20.0])
def test_time__is_correlated_by_the_formula(time, keys):
    seen = played(ColouredNoise(0, time), keys(150), (8, 8, 3), 12)
    for first, lag in ((0, 1), (4, 1), (0, 4), (2, 10)):
        expected = of_bytes(math.exp(-lag / time))
        assert correlation(seen[first], seen[first + lag]) == pytest.approx(expected, abs=5 / np.sqrt(seen[0].size))


def test_space_and_time__are_correlated_by_the_product(keys):
    seen = played(ColouredNoise(1.5, 4), keys(3000), (12, 12, 1), 3)
    found = correlation(seen[0], np.roll(seen[3], 2, axis=2))
    assert found == pytest.approx(of_bytes(math.exp(-4 / (2 * 1.5**2)) * math.exp(-3 / 4)), abs=0.03)


@pytest.mark.parametrize("time", [0, 2.0, None])
def test_marginals__are_uniform_at_every_step(time, keys):
    seen = played(ColouredNoise(0, time), keys(300), (20, 16, 1), 30)
    for t in (0, 1, 30):
        assert_uniform(seen[t])


def test_marginals__are_uniform_when_smooth(keys):
    sample = ColouredNoise(1.0).sample(keys(3000), (12, 12, 1), held_out=False)
    assert_uniform(sample[:, ::6, ::6])  # far enough from each other to be independent


def test_no_length__has_the_pixels_of_uniform_noise(keys):
    words = np.arange(2**16, dtype=np.uint16)
    field = coloured_noise._normals()[words].reshape(1, 1, 256, 256)
    seen = coloured_noise._seen(field).ravel().astype(int)
    assert (seen == words >> 8).mean() > 0.99  # the byte that the word begins with
    assert np.abs(seen - (words >> 8)).max() <= 1
    sample = ColouredNoise(0).sample(keys(300), (12, 10, 3), held_out=False).astype(float)
    for axis in (0, 1, 2, 3):  # worlds, rows, columns, channels
        assert abs(correlation(sample, np.roll(sample, 1, axis=axis))) < 5 / np.sqrt(sample.size)


def test_long_length__is_one_grey_a_channel(keys):
    sample = ColouredNoise(500).sample(keys(200), (12, 12, 3), held_out=False).astype(float)
    assert sample.std(axis=(1, 2)).max() < 2
    assert sample[:, 0, 0].std() > 60
    assert abs(correlation(sample[..., 0], sample[..., 1])) < 5 / np.sqrt(200)


def test_time__has_uniform_noises_dynamics_as_its_limits(keys):
    for time in (None, math.inf):
        seen = played(ColouredNoise(2, time), keys(5), (12, 12, 1), 5)
        assert (seen == seen[0]).all()
    seen = played(ColouredNoise(0, 0), keys(100), (8, 8, 3), 4)
    steps = seen.reshape(5, -1)
    assert np.abs(np.corrcoef(steps) - np.eye(5)).max() < 5 / np.sqrt(steps.shape[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": -1}, "length must be finite and at least 0 px, got -1"),
        ({"length": math.inf}, "length must be finite and at least 0 px, got inf"),
        ({"time": -0.1}, "time must be at least 0 steps, or None for noise that stays; got -0.1"),
        ({"time": math.nan}, "time must be at least 0 steps, .* got nan"),
    ],
    ids=str,
)
def test_coloured_noise__refuses_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        ColouredNoise(**arguments)
