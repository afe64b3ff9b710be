from __future__ import annotations

import numpy as np
import pytest

from envs.worlds.moving_dot import MovingDot
from envs.worlds.three_dots import DOTS, ThreeDots

LOW, HIGH = np.float32(2.6), np.float32(24.4)


def run(world, key, action) -> list[dict[str, np.ndarray]]:
    """States under actions [t, n, 2]."""
    states = [world.initial(key)]
    for a in action:
        states.append(world.transition(states[-1], a))
    return states


@pytest.fixture
def action():
    return np.random.default_rng(0).uniform(-4, 4, (16, 50, 2)).astype(np.float32)


def test_three_dots__the_action_dot_moves_as_the_moving_dot(keys, action):
    dot = MovingDot()
    for old, new, a in zip(states := run(ThreeDots(), keys(50), action), states[1:], action, strict=False):
        expected = dot.transition({"location": old["action"]}, a)["location"]
        np.testing.assert_array_equal(new["action"], expected)


def test_three_dots__the_random_dot_moves_whatever_the_action(keys, action):
    states, idle = run(ThreeDots(), keys(50), action), run(ThreeDots(), keys(50), 0 * action)
    for t in range(1, 17):
        np.testing.assert_array_equal(states[t]["random"], idle[t]["random"])
        assert (states[t]["random"] != states[t - 1]["random"]).any(axis=1).mean() > 0.9  # a few stand in a corner
    assert (states[-1]["action"] != idle[-1]["action"]).any(axis=1).all()


def test_three_dots__the_stationary_dot_never_moves(keys, action):
    states = run(ThreeDots(), keys(50), action)
    for state in states:
        np.testing.assert_array_equal(state["stationary"], states[0]["stationary"])


def test_three_dots__the_dots_begin_apart_and_uniformly(keys):
    state = ThreeDots().initial(keys(20_000))
    location = np.concatenate([state[dot] for dot in DOTS], axis=1)
    assert (location >= LOW).all()
    assert (location <= HIGH).all()
    np.testing.assert_allclose(location.mean(axis=0), 13.5, atol=5 * 21.8 / np.sqrt(12 * 20_000))
    assert np.abs(np.corrcoef(location.T) - np.eye(6)).max() < 5 / np.sqrt(20_000)
    assert 0 <= state["heading"].min() < 0.01
    assert 6.27 < state["heading"].max() < 2 * np.pi


def test_three_dots__the_random_walk_is_the_papers(keys):
    n, kappa = 50_000, 0.2
    world = ThreeDots()
    state = world.initial(keys(n)) | {"random": np.full((n, 2), 13.5, np.float32)}  # far from every wall
    still = np.zeros((n, 2), np.float32)
    walks = []
    for _ in range(2):
        new = world.transition(state, still)
        walks.append(np.hypot(*(step := new["random"] - 13.5).T))
        length, turn = walks[-1], np.arctan2(step[:, 1], step[:, 0]) - state["heading"]
        assert length.max() <= 4 + 1e-5
        counts = np.histogram(length, bins=20, range=(0, 4))[0]
        assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 19 + 5 * np.sqrt(2 * 19)
        theta = (np.arange(1000) + 0.5) * np.pi / 1000
        resultant = (np.exp(kappa * np.cos(theta)) * np.cos(theta)).mean() / np.i0(kappa)  # I₁(κ)/I₀(κ)
        assert abs(np.cos(turn).mean() - resultant) < 5 / np.sqrt(2 * n)
        assert abs(np.sin(turn).mean()) < 5 / np.sqrt(2 * n)
        assert abs(np.corrcoef(length, np.cos(turn))[0, 1]) < 5 / np.sqrt(n)
        assert abs(np.corrcoef(length, np.mod(turn, 2 * np.pi))[0, 1]) < 5 / np.sqrt(n)
        np.testing.assert_array_equal(new["heading"], state["heading"])
        state = new | {"random": np.full((n, 2), 13.5, np.float32)}
    assert abs(np.corrcoef(walks)[0, 1]) < 5 / np.sqrt(n)  # every step is drawn anew


def test_three_dots__channels_draw_each_dot_as_the_moving_dot(keys):
    state = ThreeDots().initial(keys(50))
    frames = ThreeDots().render(state)
    assert frames.shape == (50, 28, 28, 3)
    for channel, dot in enumerate(DOTS):
        expected = MovingDot().render({"location": state[dot]})[..., 0]
        np.testing.assert_array_equal(frames[..., channel], expected)


def test_three_dots__summed_is_a_third_of_the_channels(keys):
    state = ThreeDots().initial(keys(200))
    frames, summed = ThreeDots().render(state), ThreeDots(layout="summed").render(state)
    assert summed.shape == (200, 28, 28, 1)
    # Rounding: half a count of the sum, and half a count of each of three channels.
    assert np.abs(summed[..., 0] - frames.sum(axis=-1) / 3).max() <= 0.5 + 0.5 + 1e-3


def test_three_dots__summed_does_not_saturate_where_all_dots_meet():
    state = {dot: np.full((1, 2), 10, np.float32) for dot in DOTS}
    np.testing.assert_array_equal(
        ThreeDots(layout="summed").render(state), MovingDot().render({"location": state["action"]})
    )


def test_three_dots__factors_are_the_locations(keys):
    world = ThreeDots(size=40, sigma=2.0, max_step=1.0)
    state = world.transition(world.initial(keys(5)), np.full((5, 2), 9.0))
    factors = world.factors(state)
    assert set(factors) == set(world.factor_space) == {f"location.{dot}" for dot in DOTS}
    for dot in DOTS:
        np.testing.assert_array_equal(factors[f"location.{dot}"], state[dot])
        assert (world.factor_space[f"location.{dot}"].high == 35).all()


def test_three_dots__refuses_bad_arguments():
    with pytest.raises(ValueError, match="layout must be 'channels' or 'summed', got 'stacked'"):
        ThreeDots(layout="stacked")
    with pytest.raises(ValueError, match="sigma and max_step must be positive"):
        ThreeDots(sigma=0)
    with pytest.raises(ValueError, match="needs size > "):
        ThreeDots(size=5)
