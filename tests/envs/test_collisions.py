from __future__ import annotations

import numpy as np
import pytest

from envs.collisions import slide

BOXES = np.array(
    [
        [[-9, -9], [2, 4]],
        [[3, 1], [5, 2.5]],
        [[3, 2], [5, 6]],
        [[4.5, 5], [8, 6]],
        [[6, -4], [6.25, 3]],
        [[-2, 6], [0, 8]],
    ]
)
LOW, HIGH = BOXES[:, 0], BOXES[:, 1]


def inside(location, low=LOW, high=HIGH) -> np.ndarray:
    """Whether points are in the interior of any box: [n, 2] -> [n]."""
    return ((low < location[:, None]) & (location[:, None] < high)).all(axis=-1).any(axis=-1)


def crawl(location, step, steps=4000) -> tuple[np.ndarray, np.ndarray]:
    """The same motion in many small steps: a component that would lead into a box is given up."""
    location, part = location.astype(float), step / steps
    stopped = np.zeros(location.shape, bool)
    for _ in range(steps):
        for axis in (0, 1):
            ahead = location + part * (np.arange(2) == axis)
            blocked = inside(ahead)
            stopped[blocked, axis] = True
            part[blocked, axis] = 0
        location = location + part
    return location, stopped


def simply(location, step, low, high) -> tuple[np.ndarray, np.ndarray]:
    """The formula of `slide` as it is said, over all points, boxes and components twice."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    worlds, stopped = np.arange(len(location)), np.zeros(location.shape, bool)
    for _ in range(2):
        p, d = location[:, None].astype(np.float64), step[:, None]
        near, far = np.where(d > 0, low, high), np.where(d > 0, high, low)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            entry = np.where(d == 0, np.where((low < p) & (p < high), -np.inf, np.inf), (near - p) / d)
            leave = np.where(d == 0, np.inf, (far - p) / d).min(axis=-1)
        time = entry.max(axis=-1)
        time[~((time >= 0) & (time <= 1) & (time < leave))] = np.inf
        box = time.argmin(axis=1)
        axis, time = entry[worlds, box].argmax(axis=-1), time[worlds, box]
        location, met = (location + np.minimum(time, 1)[:, None] * step).astype(np.float32), time <= 1
        location[worlds[met], axis[met]] = near[worlds, box, axis][met]
        stopped[worlds[met], axis[met]] = True
        step = np.where(stopped, 0, step * np.maximum(1 - time, 0)[:, None])
    return location, stopped


@pytest.mark.parametrize("seed", range(40))
def test_slide__is_the_simple_formula_to_the_last_bit(seed):
    """Places, boxes and steps on a coarse grid, where sides and corners are met exactly; some boxes infinite."""
    generator = np.random.default_rng(seed)
    n, k = 200, generator.integers(1, 8)
    low = generator.integers(-4, 4, (n, k, 2) if seed % 2 else (k, 2)).astype(float)
    high = low + generator.integers(1, 4, low.shape)
    if seed % 3 == 0:
        low[..., 0, :] = -np.inf
    if seed % 5 == 0:
        low[..., -1, :] = high[..., -1, :] = np.inf
    location = (generator.integers(-10, 10, (n, 2)) / 2).astype(np.float32)
    step = generator.integers(-6, 6, (n, 2)) * generator.choice([0.5, 0.25, 1e-9, 1e5, 0.33], (n, 1))
    for found, expected in zip(slide(location, step, low, high), simply(location, step, low, high), strict=True):
        assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def free_points(n, seed=0) -> np.ndarray:
    points = np.random.default_rng(seed).uniform(-3, 10, (4 * n, 2)).astype(np.float32)
    return points[~inside(points)][:n]


def test_slide__goes_where_many_small_steps_go():
    location = free_points(600)
    step = np.random.default_rng(4).normal(0, 4, (600, 2))
    expected, expected_stops = crawl(location, step)
    found, stopped = slide(location, step, LOW, HIGH)
    same = np.abs(found - expected).max(axis=1) < 0.005
    assert (~same).sum() <= 3  # small steps may miss a corner that the path grazes
    np.testing.assert_array_equal(stopped[same], expected_stops[same])
    assert stopped.any(axis=1).mean() > 0.2
    assert stopped.all(axis=1).any()


def test_slide__never_enters_a_box():
    location = free_points(2000)
    generator = np.random.default_rng(2)
    for scale in (0.001, 0.3, 5, 1e6) * 10:
        step = generator.normal(0, scale, (2000, 2)) * generator.integers(0, 2, (2000, 2))
        location, _ = slide(location, step, LOW, HIGH)
        assert location.dtype == np.float32
        assert not inside(location).any()
        far = (np.abs(location) > 12).any(axis=1)
        location[far] = free_points(2000)[far]


def test_slide__stops_on_a_thin_box_at_any_length_of_step():
    wall = np.array([[1.0, -np.inf]]), np.array([[1.0 + 1e-6, np.inf]])
    for length in (1.5, 1e3, 1e9):
        found, stopped = slide(np.array([[0.3, 0]], np.float32), np.array([[length, length]]), *wall)
        assert found[0, 0] == 1
        np.testing.assert_allclose(found[0, 1], length, rtol=1e-6)
        assert stopped.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("start", "step", "end", "stopped"),
    [
        ((0, 0), (3, 0), (1, 0), (True, False)),  # against a side
        ((0, 0), (3, 0.9), (1, 0.9), (True, False)),  # and along it
        ((0, 0), (2.9, 3), (2.9, 3), (False, False)),  # past the corner at (1, 1)
        ((0, 0), (3, 3), (3, 3), (False, False)),  # through the corner itself, which is left as soon as it is met
        ((1, 0), (0, 5), (1, 5), (False, False)),  # along a side without pressing
        ((1, 0), (0.5, 5), (1, 5), (True, False)),  # a side stops for the rest of the step
        ((1, 0), (-2, 0), (-1, 0), (False, False)),  # away from a side
        ((1, 0), (0, 0), (1, 0), (False, False)),
        ((2, 3), (0, -5), (2, 1), (False, True)),  # from above
        ((0, -2), (0, 2), (0, 0), (False, False)),
        ((2, 0), (-3, 0), (-1, 0), (False, False)),  # out of the inside
    ],
)
def test_slide__single_box(start, step, end, stopped):
    low, high = np.array([[1, -1]]), np.array([[3, 1]])
    found, stops = slide(np.array([start], np.float32), np.array([step], float), low, high)
    np.testing.assert_allclose(found[0], end, atol=1e-6)
    assert tuple(stops[0]) == stopped


def test_slide__a_corner_met_exactly_stops_x():
    found, stops = slide(np.zeros((1, 2), np.float32), np.array([[3.0, 3.0]]), np.array([[1, 1]]), np.array([[2, 2]]))
    assert found.tolist() == [[1, 3]]
    assert stops.tolist() == [[True, False]]


def test_slide__does_not_catch_on_a_wall_of_two_boxes():
    low, high = np.array([[1, 0], [1, 0.9]]), np.array([[2, 1], [2, 2]])
    found, stops = slide(np.array([[0.5, 0.2]], np.float32), np.array([[1.0, 1.5]]), low, high)
    np.testing.assert_allclose(found, [[1, 1.7]], atol=1e-6)
    assert stops.tolist() == [[True, False]]


def test_slide__holds_in_an_inner_corner():
    low, high = np.array([[1, -5], [-5, 1]]), np.array([[2, 5], [5, 2]])
    location = np.array([[0.1, 0.7]], np.float32)
    for step in ([2.0, 0.1], [0.3, 3.0], [1e-9, 1e-9], [7.0, 7.0]) * 50:
        location, _ = slide(location, np.array([step]), low, high)
    assert location.tolist() == [[1, 1]]


def test_slide__takes_boxes_of_each_point_and_leaves_its_inputs_alone():
    location, step = free_points(50), np.random.default_rng(3).normal(0, 4, (50, 2))
    before = location.copy(), step.copy()
    whole = slide(location, step, LOW, HIGH)
    np.testing.assert_array_equal(location, before[0])
    np.testing.assert_array_equal(step, before[1])
    each = slide(location, step, np.tile(LOW, (50, 1, 1)), np.tile(HIGH, (50, 1, 1)))
    nothing = slide(location, step, np.full((1, 2), np.inf), np.full((1, 2), np.inf))
    for found, expected in zip(each, whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(nothing[0], (location + step).astype(np.float32))
    for i in range(50):
        np.testing.assert_array_equal(slide(location[i : i + 1], step[i : i + 1], LOW, HIGH)[0][0], whole[0][i])
