from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from envs.worlds.moving_dot import MovingDot

SIZES = [(28, 1.3, 4.0), (64, 3.0, 10.0), (15, 1.3, 0.5)]
sizes = pytest.mark.parametrize(("size", "sigma", "max_step"), SIZES, ids=str)


def moved(location, action, size, sigma, max_step) -> np.ndarray:
    """p ← clip(p + a·min(1, max_step/‖a‖), 2σ, size − 1 − 2σ), one dot at a time."""
    new = []
    for (x, y), (dx, dy) in zip(location.astype(float), action.astype(float), strict=True):
        scale = min(1.0, max_step / max(np.hypot(dx, dy), 1e-12))
        new.append([min(max(p + scale * d, 2 * sigma), size - 1 - 2 * sigma) for p, d in ((x, dx), (y, dy))])
    return np.array(new)


def paper_image(location, size, sigma) -> np.ndarray:
    """exp(−‖c − p‖²/2σ²)/(2πσ²), p = (x = column, y = row), as a fraction of its peak 1/(2πσ²): [n, size, size]."""
    row, column = np.mgrid[:size, :size]
    x, y = location.astype(float).T[:, :, None, None]
    intensity = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return intensity / (1 / (2 * np.pi * sigma**2))


@sizes
def test_moving_dot__moves_as_the_formula_says(size, sigma, max_step, keys):
    world = MovingDot(size, sigma, max_step)
    state = world.initial(keys(500))
    action = np.random.default_rng(0).normal(0, max_step, (500, 2)).astype(np.float32)
    expected = moved(state["location"], action, size, sigma, max_step)
    for kind in (np.float32, np.float64):
        new = world.transition(state, action.astype(kind))["location"]
        assert new.dtype == np.float32
        np.testing.assert_allclose(new, expected, atol=1e-5)


def test_moving_dot__clips_the_length_of_a_step_and_keeps_its_direction():
    start = {"location": np.full((3, 2), 13.0, np.float32)}
    action = np.array([[3.0, 4.0], [-300.0, 400.0], [2.4, -3.2]], np.float32)
    step = MovingDot().transition(start, action)["location"] - 13
    np.testing.assert_allclose(step, [[2.4, 3.2], [-2.4, 3.2], [2.4, -3.2]], atol=1e-5)


def test_moving_dot__stops_at_the_padding():
    start = {"location": np.array([[3.0, 3.0], [24.0, 24.0], [3.0, 13.0]], np.float32)}
    action = np.array([[-2.0, -1.0], [2.0, 1.0], [-3.0, 2.0]], np.float32)
    low, high = 2 * 1.3, 27 - 2 * 1.3
    new = MovingDot().transition(start, action)["location"]
    np.testing.assert_allclose(new, [[low, low], [high, high], [low, 15]], atol=1e-5)


def test_moving_dot__leaves_its_inputs_alone(keys):
    world = MovingDot()
    state, action = world.initial(keys(4)), np.full((4, 2), 3.0, np.float32)
    before = state["location"].copy()
    world.transition(state, action)
    world.render(state)
    np.testing.assert_array_equal(state["location"], before)
    np.testing.assert_array_equal(action, 3)


@sizes
def test_moving_dot__looks_as_the_paper_says(size, sigma, max_step, keys):
    world = MovingDot(size, sigma, max_step)
    state = world.initial(keys(300))
    frames = world.render(state)
    assert frames.shape == (300, size, size, 1)
    assert frames.dtype == np.uint8
    error = np.abs(frames[..., 0] - 255 * paper_image(state["location"], size, sigma))
    assert error.max() <= 0.5 + 1e-3


def test_moving_dot__x_is_the_column_and_y_the_row():
    frame = MovingDot().render({"location": np.array([[10, 20]], np.float32)})[0, :, :, 0]
    assert frame[20, 10] == 255
    assert (frame == 255).sum() == 1
    assert frame[19, 10] == frame[21, 10] == frame[20, 9] == round(255 * np.exp(-0.5 / 1.3**2))


def test_moving_dot__begins_uniformly(keys):
    n, low, high = 40_000, 2.6, 24.4
    location = MovingDot().initial(keys(n))["location"]
    assert location.min() >= np.float32(low)
    assert location.max() <= np.float32(high)
    for axis in (0, 1):
        counts = np.histogram(location[:, axis], bins=20, range=(low, high))[0]
        assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 19 + 5 * np.sqrt(2 * 19)
    assert abs(np.corrcoef(location.T)[0, 1]) < 5 / np.sqrt(n)


def test_moving_dot__follows_the_actions_of_an_episode():
    env = gymnasium.make("jepa_worlds/MovingDot-v0", size=40, sigma=2.0, max_step=6.0)
    location = env.reset(seed=1)[1]["factors"]["location"]
    env.action_space.seed(1)
    for _ in range(16):
        action = env.action_space.sample()
        frame, reward, terminated, _, info = env.step(action)
        location = moved(location[None], action[None], 40, 2.0, 6.0)[0]
        np.testing.assert_allclose(info["factors"]["location"], location, atol=1e-3)
        assert np.abs(frame[..., 0] - 255 * paper_image(info["factors"]["location"][None], 40, 2.0)[0]).max() < 0.501
        assert (reward, terminated) == (0, False)


def test_moving_dot__spaces_have_the_bounds_of_the_formula():
    world = MovingDot(size=40, sigma=2.0, max_step=6.0)
    assert (world.action_space.low == -6).all()
    assert (world.action_space.high == 6).all()
    assert (world.factor_space["location"].low == 4).all()
    assert (world.factor_space["location"].high == 35).all()


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["sigma", "max_step"])
def test_moving_dot__refuses_a_sigma_or_step_that_is_not_positive(name, bad):
    with pytest.raises(ValueError, match=f"sigma and max_step must be positive and finite, got .*{name}={bad}"):
        MovingDot(**{name: bad})


def test_moving_dot__refuses_a_dot_that_does_not_fit():
    with pytest.raises(ValueError, match=r"a dot of sigma=2 needs size > 9 px, got size=9"):
        MovingDot(size=9, sigma=2)
    assert MovingDot(size=10, sigma=2).frame_shape == (10, 10, 1)
