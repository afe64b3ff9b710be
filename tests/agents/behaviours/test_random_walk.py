from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.behaviours.random_walk import RandomWalk

PLANE = spaces.Box(-4.0, 4.0, (2,), np.float32)


def walk(behaviour, key, steps, space=PLANE):
    """Actions [n, steps, 2] and the state in which episodes began."""
    start = state = behaviour.start(key, space)
    actions = []
    for _ in range(steps):
        action, state = behaviour.act(state, np.zeros((len(key), 1, 1, 1), np.uint8), {})
        actions.append(action)
    return np.stack(actions, axis=1), start


def polar(actions):
    return np.linalg.norm(actions, axis=-1), np.arctan2(actions[..., 1], actions[..., 0])


def kolmogorov_smirnov(sample, cdf):
    """The largest gap to a distribution function, over what it exceeds once in a million."""
    sample = np.sort(sample)
    expected, rank = cdf(sample), np.arange(len(sample) + 1) / len(sample)
    gap = max(np.abs(rank[1:] - expected).max(), np.abs(rank[:-1] - expected).max())
    return gap / np.sqrt(-np.log(1e-6 / 2) / (2 * len(sample)))


def test_random_walk__steps_are_uniform_in_length(keys):
    actions, _ = walk(RandomWalk(), keys(4000), 5)
    length, _ = polar(actions)
    assert actions.dtype == np.float32
    assert actions.shape == (4000, 5, 2)
    assert length.max() <= 4 * (1 + 1e-6)
    assert kolmogorov_smirnov(length.ravel(), lambda x: x / 4) < 1


def test_random_walk__the_length_is_bounded_by_the_action_space(keys):
    length, _ = polar(walk(RandomWalk(), keys(4000), 1, spaces.Box(-0.5, 0.5, (2,)))[0])
    assert kolmogorov_smirnov(length.ravel(), lambda x: x / 0.5) < 1


@pytest.mark.parametrize(("low", "high"), [([-1.0, -9.0], [5.0, 2.0]), ([-8.0, -9.0], [5.0, 1.0])])
def test_random_walk__stays_within_bounds_that_differ(low, high, keys):
    space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    actions, _ = walk(RandomWalk(), keys(2000), 3, space)
    assert all(space.contains(action) for action in actions.reshape(-1, 2))
    assert polar(actions)[0].max() > 0.99  # the nearest bound is at 1


@pytest.mark.parametrize("kappa", [0.0, 0.2, 2.0])
def test_random_walk__headings_are_von_mises_around_that_of_the_episode(kappa, keys):
    actions, start = walk(RandomWalk(kappa), keys(4000), 10)
    deviation = (polar(actions)[1] - start["heading"][:, None]).ravel()
    theta = (np.arange(10_000) + 0.5) * (np.pi / 10_000)
    for order in (1, 2):  # E cos(kθ) = I_k(κ) / I_0(κ), I_k(κ) = ∫ exp(κ cos θ) cos kθ dθ / π over [0, π]
        bessel = (np.exp(kappa * np.cos(theta)) * np.cos(order * theta)).mean() / np.i0(kappa)
        assert abs(np.cos(order * deviation).mean() - bessel) < 5 / np.sqrt(len(deviation))
        assert abs(np.sin(order * deviation).mean()) < 5 / np.sqrt(len(deviation))


def test_random_walk__default_kappa_is_the_paper_s():
    assert RandomWalk().kappa == 0.2


def test_random_walk__the_heading_lasts_for_an_episode_and_differs_between_episodes(keys):
    actions, start = walk(RandomWalk(2.0), keys(2000), 60)
    _, angle = polar(actions)
    early, late = (np.exp(1j * part).mean(axis=1) for part in (angle[:, :30], angle[:, 30:]))
    assert (np.cos(np.angle(early) - np.angle(late))).mean() > 0.9
    assert kolmogorov_smirnov(start["heading"], lambda x: x / (2 * np.pi)) < 1
    assert kolmogorov_smirnov(np.angle(late), lambda x: (x + np.pi) / (2 * np.pi)) < 1


def test_random_walk__length_angle_heading_and_successive_steps_are_independent(keys):
    actions, start = walk(RandomWalk(0.2), keys(20_000), 2)
    length, angle = polar(actions)
    deviation = np.sin(angle - start["heading"][:, None])
    columns = np.stack([*length.T, *deviation.T, np.cos(start["heading"]), np.sin(start["heading"])])
    assert np.abs(np.corrcoef(columns) - np.eye(6)).max() < 5 / np.sqrt(20_000)


def test_random_walk__does_not_depend_on_batch_size_or_place(keys):
    key = keys(40)
    whole, _ = walk(RandomWalk(), key, 4)
    np.testing.assert_array_equal(walk(RandomWalk(), key[::-1], 4)[0], whole[::-1])
    np.testing.assert_array_equal(walk(RandomWalk(), key[13:20], 4)[0], whole[13:20])
    np.testing.assert_array_equal(np.concatenate([walk(RandomWalk(), key[i : i + 1], 4)[0] for i in range(40)]), whole)
    assert len(np.unique(whole)) == whole.size  # and no two draws are the same


def test_random_walk__is_pure(keys, assert_unchanged):
    state = RandomWalk().start(keys(5), PLANE)
    with assert_unchanged(state):
        first, _ = RandomWalk().act(state, np.zeros((5, 1, 1, 1), np.uint8), {})
    again, _ = RandomWalk().act(state, np.zeros((5, 1, 1, 1), np.uint8), {})
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kappa", [-0.1, np.nan, np.inf])
def test_random_walk__refuses_a_kappa_that_is_no_concentration(kappa):
    with pytest.raises(ValueError, match=f"kappa must be finite and at least 0, got {kappa}"):
        RandomWalk(kappa)


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2, 1))])
def test_random_walk__refuses_spaces_that_are_not_a_plane(space, keys):
    with pytest.raises(ValueError, match=r"needs actions Box\(…, \(2,\)\), got (Discrete|Box)"):
        RandomWalk().start(keys(3), space)


@pytest.mark.parametrize("space", [spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(0, 1, (2,)), spaces.Box(-2, -1, (2,))])
def test_random_walk__refuses_spaces_without_bounds_around_0(space, keys):
    with pytest.raises(ValueError, match="needs bounds around 0, got Box"):
        RandomWalk().start(keys(3), space)
