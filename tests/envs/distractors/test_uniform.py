from __future__ import annotations

import numpy as np

from envs.distractors.uniform import UniformNoise


def test_uniform_noise__is_uniform_on_every_byte(keys):
    sample = UniformNoise().sample(keys(500), (28, 28, 3), held_out=False)
    assert sample.shape == (500, 28, 28, 3)
    assert sample.dtype == np.uint8
    expected = sample.size / 256
    chi_square = ((np.bincount(sample.ravel(), minlength=256) - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_uniform_noise__pixels_channels_and_worlds_are_independent(keys):
    sample = UniformNoise().sample(keys(300), (27, 29, 3), held_out=False).astype(float)
    for a, b in (
        (sample[:, 1:], sample[:, :-1]),  # rows
        (sample[:, :, 1:], sample[:, :, :-1]),  # columns
        (sample[..., 1:], sample[..., :-1]),  # channels
        (sample[1:], sample[:-1]),  # worlds
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_uniform_noise__is_a_function_of_the_key_alone(keys):
    key = keys(20)
    whole = UniformNoise().sample(key, (9, 7, 1), held_out=False)
    np.testing.assert_array_equal(UniformNoise().sample(key[5:6], (9, 7, 1), held_out=True)[0], whole[5])
    assert len(np.unique(whole.reshape(20, -1), axis=0)) == 20
