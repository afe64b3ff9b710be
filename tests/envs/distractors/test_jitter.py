from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from envs.distractors.background import Background, Source
from envs.distractors.core import DistractedWorld
from envs.distractors.jitter import CameraJitter, ColourJitter
from envs.distractors.uniform import UniformNoise
from envs.worlds.moving_dot import MovingDot
from envs.worlds.pendulum import Pendulum

both = pytest.mark.parametrize("kind", [ColourJitter, CameraJitter])


@dataclass(frozen=True)
class Flat(Source):
    """One grey."""

    grey: int = 90

    def sample(self, key, frame_shape, held_out):
        return np.full((len(key), *frame_shape), self.grey, np.uint8)


def run(world, key, steps) -> list[dict[str, np.ndarray]]:
    action = np.zeros((len(key), *world.action_space.shape), np.float32)
    states = [world.initial(key)]
    for _ in range(steps):
        states.append(world.transition(states[-1], action))
    return states


def settings(states, i=0) -> np.ndarray:
    return np.stack([state[f"distractor.{i}.setting"] for state in states])


def set_to(state, setting, i=0):
    """The state with the same setting in all worlds."""
    return {**state, f"distractor.{i}.setting": np.broadcast_to(setting, state[f"distractor.{i}.setting"].shape)}


# --- settings ---


@both
def test_scale_0__is_exactly_nothing(kind, keys):
    noise = Background(UniformNoise(), level=0.7)
    world, plain = DistractedWorld(Pendulum(size=28), [noise, kind(0, "dynamic")]), Pendulum(size=28)
    for state in run(world, keys(20), 2):
        np.testing.assert_array_equal(world.render(state), DistractedWorld(plain, [noise]).render(state))
        name = "colour" if kind is ColourJitter else "camera"
        nothing = [0, 0, 0] if kind is ColourJitter else [0, 0, 1, 0]
        np.testing.assert_array_equal(world.factors(state)[name], np.tile(nothing, (20, 1)))


@both
@pytest.mark.parametrize("dynamics", ["static", "dynamic", "drifting"])
def test_settings__are_uniform_and_independent_at_every_step(kind, dynamics, keys):
    seen = settings(run(DistractedWorld(Pendulum(size=28), kind(0.2, dynamics, 0.3)), keys(4000), 12))
    for now in seen[[0, 1, 12]]:
        assert np.abs(now).max() <= 1
        ranks = (np.sort(now, axis=0) + 1) / 2 - np.linspace(0, 1, 4000)[:, None]
        assert np.abs(ranks).max() < 1.95 / np.sqrt(4000)  # Kolmogorov and Smirnov: 0.1 %
        assert np.abs(np.corrcoef(now.T) - np.eye(now.shape[1])).max() < 5 / np.sqrt(4000)


@both
def test_static__stays_and_dynamic_is_new_at_every_step(kind, keys):
    static = settings(run(DistractedWorld(MovingDot(), kind(0.2)), keys(50), 5))
    assert (static == static[0]).all()
    dynamic = settings(run(DistractedWorld(MovingDot(), kind(0.2, "dynamic")), keys(2000), 5)).reshape(6, -1)
    assert np.abs(np.corrcoef(dynamic) - np.eye(6)).max() < 5 / np.sqrt(dynamic.shape[1])


@both
@pytest.mark.parametrize("speed", [0.03, 0.2])
def test_drifting__walks_by_its_speed_without_memory(kind, speed, keys):
    seen = settings(run(DistractedWorld(MovingDot(), kind(0.2, "drifting", speed)), keys(3000), 2))
    inside = np.abs(seen[0]) < 1 - 2 * speed * np.sqrt(3)  # no way to reach an end
    steps = np.diff(seen, axis=0)[:, inside]
    assert abs(steps.std() / speed - 1) < 0.05
    assert abs(steps.mean()) < 5 * speed / np.sqrt(steps.size)
    assert abs(np.corrcoef(steps[0], steps[1])[0, 1]) < 5 / np.sqrt(steps.shape[1])
    assert np.abs(np.diff(seen, axis=0)).max() <= np.sqrt(3) * speed + 1e-12


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 1.1}, "scale must be from 0 to 1, got 1.1"),
        ({"scale": float("nan")}, "scale must be from 0 to 1, got nan"),
        ({"dynamics": "playing"}, "dynamics of a jitter must be one of .*, got 'playing'"),
        ({"speed": -1}, "speed must be finite and at least 0, got -1"),
    ],
    ids=str,
)
def test_jitter__refuses_what_is_out_of_range(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


# --- colour ---


def test_colour__goes_towards_white_and_black_by_the_formula(keys):
    world = DistractedWorld(Pendulum(size=28), ColourJitter(0.4))
    state = world.initial(keys(30))
    plain, setting = Pendulum(size=28).render(state).astype(float), settings([state])[0][:, None, None]
    opacity = 0.4 * np.abs(setting)
    expected = plain * (1 - opacity) + 255 * (setting > 0) * opacity
    assert np.abs(world.render(state) - expected).max() <= 0.5 + 1e-3
    np.testing.assert_allclose(world.factors(state)["colour"], 0.4 * setting[:, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_colour__before_a_background_behind_the_scene_leaves_it_alone_and_after_it_does_not(order, keys):
    layers = [ColourJitter(0.5), Background(Flat(90), blend="behind")][::order]
    world = DistractedWorld(Pendulum(size=28), layers)
    state = world.initial(keys(30))
    bare = np.broadcast_to(Pendulum(size=28).coverage(state) == 0, (30, 28, 28, 3))
    colours = world.render(state)
    untouched = (colours[bare] == 90).mean()
    assert untouched == 1 if order == 1 else untouched < 0.05
    inside = np.broadcast_to(Pendulum(size=28).coverage(state) == 1, bare.shape)
    assert (colours[inside] != Pendulum(size=28).render(state)[inside]).mean() > 0.9


# --- camera ---


def test_camera__repeats_the_edge_when_shifted(keys):
    inner = Pendulum(size=28)
    world = DistractedWorld(inner, [Background(UniformNoise()), CameraJitter(scale=1)])
    state = set_to(world.initial(keys(9)), [3 / 7, -2 / 7, 0, 0], i=1)  # of 28/4 px: 3 to the right, 2 up
    before = DistractedWorld(inner, [Background(UniformNoise())]).render(state)
    moved = np.pad(before, ((0, 0), (0, 2), (3, 0), (0, 0)), mode="edge")[:, 2:, :-3]
    assert np.abs(world.render(state).astype(int) - moved).max() <= 1  # the frame before was rounded
    np.testing.assert_allclose(world.factors(state)["camera"], np.tile([3 / 28, -2 / 28, 1, 0], (9, 1)), atol=1e-6)


@pytest.mark.parametrize(("roll", "turns"), [(1, -1), (-1, 1)])
def test_camera__rolls_clockwise(roll, turns, keys):
    world = DistractedWorld(Pendulum(size=28), CameraJitter(scale=1))
    state = set_to(world.initial(keys(9)), [0, 0, 0, roll])
    turned = np.rot90(Pendulum(size=28).render(state), turns, axes=(1, 2))  # rot90 is counter-clockwise
    assert np.abs(world.render(state).astype(int) - turned).max() <= 1
    np.testing.assert_allclose(world.factors(state)["camera"][0], [0, 0, 1, roll * np.pi / 2], rtol=1e-6)


def test_camera__shows_every_point_where_the_formula_says(keys):
    world = DistractedWorld(MovingDot(size=64, sigma=1.5), CameraJitter(scale=0.3))
    state = world.initial(keys(200))
    state["location"] = (20 + 24 * (state["location"] - 3) / 57).astype(np.float32)  # what stays in view
    frame = world.render(state)[..., 0].astype(float)
    x, y, zoom, roll = world.factors(state)["camera"].T
    centre = np.array([31.5, 31.5])
    rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])  # clockwise: y points down
    moved = np.einsum("ijn,nj->ni", rotation, state["location"] - centre) * zoom[:, None]
    expected = centre + 64 * np.stack([x, y], axis=1) + moved
    mass = frame.sum(axis=(1, 2))
    columns, rows = ((np.arange(64) * frame.sum(axis=axis)).sum(axis=1) / mass for axis in (1, 2))
    np.testing.assert_allclose(np.stack([columns, rows], axis=1), expected, atol=0.15)
    area = 2 * np.pi * 1.5**2 * 255 * zoom**2
    np.testing.assert_allclose(mass, area, rtol=0.06)  # bilinear sampling, and what is rounded to black


def test_camera__has_shift_zoom_and_roll_of_its_scale(keys):
    world = DistractedWorld(MovingDot(), CameraJitter(scale=0.5))
    camera = world.factors(world.initial(keys(5000)))["camera"]
    for found, bound in zip(camera.T, (0.125, 0.125, None, np.pi / 4), strict=True):
        if bound is not None:
            assert 0.99 * bound < np.abs(found).max() <= bound * (1 + 1e-6)
    assert camera[:, 2].min() == pytest.approx(2**-0.5, abs=0.005)
    assert camera[:, 2].max() == pytest.approx(2**0.5, abs=0.005)


def test_camera__moves_the_coverage_too_so_that_a_background_fits_behind_the_moved_scene(keys):
    inner, flat = Pendulum(size=28), Background(Flat(90), blend="behind")
    before = DistractedWorld(inner, [CameraJitter(0.3), flat])
    after = DistractedWorld(inner, [flat, CameraJitter(0.3)])
    first, second = before.initial(keys(40)), after.initial(keys(40))
    second["distractor.1.setting"] = first["distractor.0.setting"]
    # Of one colour, the background looks the same whether the camera moves before it is there or after.
    assert np.abs(before.render(first).astype(int) - after.render(second)).max() <= 1


def test_camera__moves_a_background_that_came_before_it(keys):
    layers = [Background(UniformNoise(), blend="behind"), CameraJitter(1), Background(Flat(90), blend="behind")]
    world = DistractedWorld(Pendulum(size=28), layers)
    state = set_to(world.initial(keys(9)), [3 / 7, -2 / 7, 0, 0], i=1)
    bare = np.broadcast_to(Pendulum(size=28).coverage(state) == 0, (9, 28, 28, 3))
    moved = np.pad(bare, ((0, 0), (0, 2), (3, 0), (0, 0)), mode="edge")[:, 2:, :-3]
    assert (np.abs(world.render(state)[moved].astype(int) - 90) <= 1).all()  # the last one hides it
