from __future__ import annotations

import numpy as np
import pytest

from envs import random


@pytest.fixture
def many(keys):
    return keys(1000)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: random.fold_in(key, 7),
        lambda key: random.bits(key, 5),
        lambda key: random.random_bytes(key, (3, 5, 1)),  # 15 bytes: not a whole number of words
        lambda key: random.uniform(key, (2,), -1.0, 3.0),
        lambda key: random.integers(key, 9),
        lambda key: random.von_mises(key, 0.5, kappa=0.2),
    ],
    ids=["fold_in", "bits", "random_bytes", "uniform", "integers", "von_mises"],
)
def test_random__does_not_depend_on_batch_size_or_place(draw, many):
    before, whole = many.copy(), draw(many)
    np.testing.assert_array_equal(draw(many[::-1]), whole[::-1])
    np.testing.assert_array_equal(draw(many[13:20]), whole[13:20])
    np.testing.assert_array_equal(np.concatenate([draw(many[i : i + 1]) for i in range(50)]), whole[:50])
    np.testing.assert_array_equal(many, before)  # keys are left alone


def test_fold_in__takes_one_integer_or_one_a_world(many):
    data = np.arange(len(many))
    each = np.concatenate([random.fold_in(many[i : i + 1], i) for i in range(20)])
    np.testing.assert_array_equal(random.fold_in(many, data)[:20], each)
    assert random.fold_in(many, data).dtype == np.uint64


def test_fold_in__gives_a_new_key_for_every_key_and_integer(many):
    derived = np.concatenate([many] + [random.fold_in(many, i) for i in range(-50, 50)])
    assert len(np.unique(derived)) == len(derived)


def test_fold_in__changes_half_of_the_bits_when_one_changes(many):
    for bit in range(64):
        flip = np.uint64(1) << np.uint64(bit)
        by_key = random.fold_in(many, 3) ^ random.fold_in(many ^ flip, 3)
        by_data = random.fold_in(many, 3) ^ random.fold_in(many, np.uint64(3) ^ flip)
        for difference in (by_key, by_data):
            changed = np.unpackbits(difference.view(np.uint8)).sum() / len(many)
            assert abs(changed - 32) < 5 * 4 / np.sqrt(len(many))  # binomial(64, 1/2): 32 ± 4


def test_bits__begins_with_the_same_words_whatever_the_count(many):
    np.testing.assert_array_equal(random.bits(many, 3), random.bits(many, 10)[:, :3])


def test_bits__is_splitmix64():
    # The first outputs of the reference implementation (Vigna, splitmix64.c) for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert random.bits(np.array([1234567], np.uint64), 4)[0].tolist() == expected


def test_random_bytes__are_uniform(many):
    sample = random.random_bytes(many, (40, 25))
    assert sample.shape == (1000, 40, 25)
    assert sample.dtype == np.uint8
    expected = sample.size / 256
    chi_square = ((np.bincount(sample.ravel(), minlength=256) - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_random_bytes__neighbours_are_uncorrelated(many):
    sample = random.random_bytes(many, (999,)).astype(float)
    for lag in (1, 2, 7, 8, 9):
        assert abs(np.corrcoef(sample[:, lag:].ravel(), sample[:, :-lag].ravel())[0, 1]) < 5 / np.sqrt(sample.size)


def test_uniform__has_the_bounds_mean_and_variance_asked_for(many):
    low, high = np.array([-3.0, 10.0]), np.array([1.0, 10.5])
    sample = random.uniform(many, (500, 2), low, high)
    assert sample.shape == (1000, 500, 2)
    assert (sample >= low).all()
    assert (sample < high).all()
    unit = (sample - low) / (high - low)
    error = 5 / np.sqrt(unit.size / 2)
    np.testing.assert_allclose(unit.mean(axis=(0, 1)), 1 / 2, atol=error * np.sqrt(1 / 12))
    np.testing.assert_allclose(unit.var(axis=(0, 1)), 1 / 12, atol=error * np.sqrt(1 / 180))


def test_uniform__streams_of_different_keys_are_uncorrelated():
    key = np.arange(60, dtype=np.uint64)  # neighbouring keys are the hard case
    streams = np.concatenate([random.uniform(key, (2000,)), random.uniform(random.fold_in(key, 1), (2000,))])
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 6 / np.sqrt(2000)
    assert abs(correlation.std() * np.sqrt(2000) - 1) < 0.1


def test_uniform__streams_over_successive_steps_are_uncorrelated(keys):
    key = keys(1)
    steps = np.stack([random.uniform(random.fold_in(key, t), (2000,))[0] for t in range(60)])
    assert np.abs(np.corrcoef(steps) - np.eye(60)).max() < 6 / np.sqrt(2000)


def test_integers__are_uniform_over_the_whole_range(keys):
    sample = random.integers(keys(70_000), 7)
    counts = np.bincount(sample)
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)


def test_integers__take_one_bound_a_world(keys):
    high = np.tile([1, 2, 1000], 2000)
    sample = random.integers(keys(6000), high).reshape(-1, 3)
    assert (sample[:, 0] == 0).all()
    assert set(sample[:, 1]) == {0, 1}
    assert 0 <= sample[:, 2].min() < 10 < 990 < sample[:, 2].max() < 1000


@pytest.mark.parametrize("kappa", [0.0, 0.2, 2.0, 10.0])
def test_von_mises__has_the_moments_of_the_distribution(kappa, keys):
    n, mean = 100_000, 1.0
    angle = random.von_mises(keys(n), mean, kappa) - mean
    theta = (np.arange(10_000) + 0.5) * (np.pi / 10_000)
    for order in (1, 2):  # E cos(kθ) = I_k(κ) / I_0(κ), I_k(κ) = ∫ exp(κ cos θ) cos kθ dθ / π over [0, π]
        bessel = (np.exp(kappa * np.cos(theta)) * np.cos(order * theta)).mean()
        assert abs(np.cos(order * angle).mean() - bessel / np.i0(kappa)) < 5 * np.sqrt(1 / n)
        assert abs(np.sin(order * angle).mean()) < 5 * np.sqrt(1 / n)


@pytest.mark.parametrize("kappa", [0.2, 2.0, 10.0])
def test_von_mises__agrees_with_numpy(kappa, keys):
    n = 50_000
    ours = np.sort(random.von_mises(keys(n), 0.0, kappa))
    theirs = np.sort(np.random.default_rng(0).vonmises(0.0, kappa, n))
    grid = np.linspace(-np.pi, np.pi, 2001)
    gap = np.abs(np.searchsorted(ours, grid) - np.searchsorted(theirs, grid)).max() / n
    assert gap < np.sqrt(-np.log(1e-6 / 2) / n)  # two-sample Kolmogorov-Smirnov at p = 1e-6


def test_von_mises__takes_one_mean_a_world(many):
    mean = np.linspace(0, 6, len(many))
    np.testing.assert_array_equal(random.von_mises(many, mean, 2.0), mean + random.von_mises(many, 0.0, 2.0))
