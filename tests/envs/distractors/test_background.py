from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs  # noqa: F401 (registers the worlds)
from envs.core import World
from envs.distractors.background import Background, Source
from envs.distractors.core import DistractedWorld
from envs.distractors.jitter import ColourJitter
from envs.distractors.photographs import Photographs
from envs.distractors.uniform import UniformNoise
from envs.worlds.moving_dot import MovingDot
from envs.worlds.three_dots import DOTS, ThreeDots

DYNAMICS = ("static", "dynamic", "drifting")


class Blank(World):
    """A black frame that is not square."""

    def __init__(self, frame_shape=(4, 6, 3)) -> None:
        self.frame_shape, self.action_space = frame_shape, spaces.Box(-1, 1, (1,), np.float32)
        self.factor_space = spaces.Dict({})

    def initial(self, key):
        return {"nothing": np.zeros(len(key))}

    def transition(self, state, action):
        return state

    def render(self, state):
        return np.zeros((len(state["nothing"]), *self.frame_shape), np.uint8)

    def factors(self, state):
        return {}


@dataclass(frozen=True)
class Flat(Source):
    """One grey; white for held-out episodes."""

    grey: int

    def sample(self, key, frame_shape, held_out):
        return np.full((len(key), *frame_shape), 255 if held_out else self.grey, np.uint8)


def run(world, key, steps, action=None) -> list[dict[str, np.ndarray]]:
    """States of the first ``steps`` steps."""
    action = np.zeros((len(key), *world.action_space.shape), np.float32) if action is None else action
    states = [world.initial(key)]
    for _ in range(steps):
        states.append(world.transition(states[-1], action))
    return states


def images(states, i=0) -> list[np.ndarray]:
    return [state[f"distractor.{i}.image"] for state in states]


# --- blending ---


@pytest.mark.parametrize("levels", [(0.5,), (1.0,), (3.0,), (5.0,), (1.0, 2.5), (0.5, 0.0, 1.0)], ids=str)
@pytest.mark.parametrize("layout", ["moving", "channels"])
def test_frame__is_the_papers_sum_scaled_by_the_levels(levels, layout, keys):
    # frame/255·(1 + Σ level) = dot/peak + Σ level·N. Rounding: half a count of the frame, and half a count of the
    # dot's image before it is scaled.
    inner = MovingDot() if layout == "moving" else ThreeDots()
    world = DistractedWorld(inner, [Background(UniformNoise(), "dynamic", level) for level in levels])
    state = run(world, keys(60), 2, action=np.ones((60, 2), np.float32))[-1]
    total = sum(levels)
    row, column = np.mgrid[:28, :28]
    locations = [state["location"]] if layout == "moving" else [state[dot] for dot in DOTS]
    x, y = np.stack(locations, axis=-1).astype(float).transpose(1, 0, 2)[:, :, None, None, :]  # [n, 1, 1, C] each
    dot = np.exp(-((column[..., None] - x) ** 2 + (row[..., None] - y) ** 2) / (2 * 1.3**2))
    noise = sum(level * image / 255 for level, image in zip(levels, _layers(state, len(levels)), strict=True))
    error = np.abs(world.render(state) / 255 * (1 + total) - (dot + noise))
    assert error.max() <= (0.5 * (1 + total) + 0.5) / 255 + 1e-4


def _layers(state, count):
    return [state[f"distractor.{i}.image"] for i in range(count)]


@pytest.mark.parametrize("level", [0.5, 1.0, 3.0, 5.0])
def test_frame__uses_the_whole_range_and_never_saturates(level):
    def peak_and_ground(grey):
        world = DistractedWorld(MovingDot(), [Background(Flat(grey), level=level)])
        state = world.initial(np.zeros(1, np.uint64)) | {"location": np.array([[10, 20]], np.float32)}
        frame = world.render(state)[0, :, :, 0]
        return int(frame[20, 10]), int(frame[0, 27])

    (peak_on_black, black), (peak_on_white, white) = peak_and_ground(0), peak_and_ground(255)
    assert (black, peak_on_white) == (0, 255)
    assert abs(peak_on_black - 255 / (1 + level)) <= 0.5  # the dot, as 1 …
    assert abs(white - 255 * level / (1 + level)) <= 0.5  # … to level
    assert peak_on_white - white == pytest.approx(255 / (1 + level), abs=1)  # as bright on white as on black


@pytest.mark.parametrize(
    "distractors", [(), (Background(UniformNoise(), "dynamic", level=0),)], ids=["none", "level 0"]
)
def test_frame__without_noise_is_the_worlds_own(distractors, keys):
    world = DistractedWorld(MovingDot(), distractors)
    for state in run(world, keys(40), 3):
        np.testing.assert_array_equal(world.render(state), MovingDot().render({"location": state["location"]}))


def test_distractor__leaves_the_world_behind_it_alone(keys):
    action = np.full((30, 2), 0.7, np.float32)
    plain = run(ThreeDots(), keys(30), 10, action)
    noisy = DistractedWorld(ThreeDots(), [Background(UniformNoise(), dynamics) for dynamics in DYNAMICS])
    for a, b in zip(plain, run(noisy, keys(30), 10, action), strict=True):
        for name, array in a.items():
            np.testing.assert_array_equal(array, b[name])
        for name, array in ThreeDots().factors(a).items():
            np.testing.assert_array_equal(array, noisy.factors(b)[name])


def test_distractors__of_one_world_are_independent(keys):
    states = run(DistractedWorld(Blank(), [Background(UniformNoise(), "dynamic")] * 2), keys(500), 1)
    first, second = (np.concatenate(images(states, i)).ravel().astype(float) for i in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_held_out__reaches_the_source():
    name, white = "jepa_worlds/MovingDot-v0", Background(Flat(0), level=1e4)
    for held_out, expected in ((False, 0), (True, 255)):
        for env in (
            gymnasium.make(name, distractor=white, held_out=held_out),
            gymnasium.make_vec(name, 2, distractor=white, held_out=held_out),
        ):
            assert (env.reset(seed=0)[0] == expected).all()


# --- dynamics ---


# A few photographs have so many crops that some come twice.
sources = pytest.mark.parametrize(
    ("source", "distinct"), [(UniformNoise(), 1.0), (Photographs(), 0.9)], ids=["uniform", "photographs"]
)


@sources
def test_static__background_stays_for_the_episode_and_differs_between_episodes(source, distinct, keys):
    seen = images(run(DistractedWorld(MovingDot(), [Background(source, "static")]), keys(30), 16))
    for image in seen:
        np.testing.assert_array_equal(image, seen[0])
    assert len(np.unique(seen[0].reshape(30, -1), axis=0)) >= distinct * 30


def test_static__background_is_drawn_anew_at_a_reset():
    env = gymnasium.make("jepa_worlds/MovingDot-v0", distractor=Background(UniformNoise()))
    first = env.reset(seed=0) and env.unwrapped.state["distractor.0.image"]
    second = env.reset() and env.unwrapped.state["distractor.0.image"]
    assert (first != second).mean() > 0.98


@sources
def test_dynamic__background_is_new_at_every_step(source, distinct, keys):
    seen = images(run(DistractedWorld(MovingDot(), [Background(source, "dynamic")]), keys(30), 16))
    assert len(np.unique(np.concatenate(seen).reshape(30 * 17, -1), axis=0)) >= distinct * 30 * 17


def test_dynamic__backgrounds_of_different_steps_are_uncorrelated(keys):
    seen = images(run(DistractedWorld(MovingDot(), [Background(UniformNoise(), "dynamic")]), keys(100), 16))
    steps = np.stack([image.ravel() for image in seen]).astype(float)
    assert np.abs(np.corrcoef(steps) - np.eye(17)).max() < 5 / np.sqrt(steps.shape[1])


@pytest.mark.parametrize("speed", [1, 0.5, 2.7, -1.3, 0, 100])
def test_drifting__background_is_the_first_rolled_by_its_speed(speed, keys):
    seen = images(run(DistractedWorld(Blank(), [Background(UniformNoise(), "drifting", speed=speed)]), keys(5), 40))
    for t, image in enumerate(seen):
        for world in range(5):
            rolled = np.roll(seen[0][world], int(t * speed), axis=1)  # axis 1 of [H, W, C]: the columns
            np.testing.assert_array_equal(image[world], rolled, err_msg=f"step {t}")


@pytest.mark.parametrize("speed", [0.5, -1.3])
def test_drifting__goes_by_the_time_of_each_world(speed):
    distractor = Background(UniformNoise(), "drifting", speed=speed)
    env = gymnasium.make_vec("jepa_worlds/MovingDot-v0", 3, distractor=distractor)
    env.reset(seed=0)
    first = env.unwrapped.state["distractor.0.image"]
    for t in range(1, 9):
        env.step(np.zeros((3, 2), np.float32))
        if t == 3:
            env.reset(options={"reset_mask": np.array([False, True, False])})
            first[1] = env.unwrapped.state["distractor.0.image"][1]
    for world, time in enumerate((8, 5, 8)):
        rolled = np.roll(first[world], int(time * speed), axis=1)
        np.testing.assert_array_equal(env.unwrapped.state["distractor.0.image"][world], rolled)


def test_distractor__reset_to_a_state_shows_the_same_background():
    distractor = Background(UniformNoise(), "static", level=2)
    env = gymnasium.make("jepa_worlds/MovingDot-v0", distractor=distractor)
    env.reset(seed=0)
    background = {"distractor.0.image": env.unwrapped.state["distractor.0.image"]}
    _, info = env.reset(options={"state": background})
    image = env.unwrapped.state["distractor.0.image"]
    np.testing.assert_array_equal(image, background["distractor.0.image"])
    np.testing.assert_allclose(info["factors"]["background"], projection([image[None]], [2])[0], atol=1e-5)


# --- the factor ---


def projection(backgrounds, levels) -> np.ndarray:
    """Σ level·(N − 1/2)·R·√(12/P) / Σ level with R random signs: N − 1/2 has variance 1/12, a sum of P of them P/12."""
    pixels = backgrounds[0][0].size
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (8, pixels))
    noise = sum(
        level * (image.reshape(-1, pixels) / 255 - 0.5) for level, image in zip(levels, backgrounds, strict=True)
    )
    return noise @ signs.T * np.sqrt(12 / pixels) / sum(levels)


@pytest.mark.parametrize("levels", [(1.0,), (0.3,), (1.0, 3.0)], ids=str)
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_background__is_a_fixed_projection_of_the_present_backgrounds(dynamics, levels, keys):
    world = DistractedWorld(ThreeDots(), [Background(UniformNoise(), dynamics, level) for level in levels])
    for state in run(world, keys(20), 3):
        background = world.factors(state)["background"]
        assert background.dtype == np.float32
        np.testing.assert_allclose(background, projection(_layers(state, len(levels)), levels), atol=1e-5)


def test_background__has_mean_0_and_variance_1_for_uniform_noise(keys):
    world = DistractedWorld(MovingDot(), [Background(UniformNoise(), level=2)])
    background = world.factors(world.initial(keys(4000)))["background"]
    assert background.shape == (4000, 8)
    assert abs(background.mean()) < 5 / np.sqrt(background.size)
    assert abs(background.var() - 1) < 5 * np.sqrt(2 / background.size)
    assert np.abs(np.corrcoef(background.T) - np.eye(8)).max() < 0.2  # random signs are nearly orthogonal


@pytest.mark.parametrize("frame_shape", [(28, 28, 1), (160, 160, 3)], ids=str)  # summed in float32, and in float64
def test_background__does_not_depend_on_the_batch(frame_shape, keys):
    world = DistractedWorld(Blank(frame_shape), [Background(UniformNoise(), level=0.7), Background(UniformNoise())])
    key = keys(21)
    whole = world.factors(world.initial(key))["background"]
    for chosen in (slice(3, 4), slice(None, None, -1), slice(7, 18)):
        np.testing.assert_array_equal(world.factors(world.initial(key[chosen]))["background"], whole[chosen])


@pytest.mark.parametrize("distractors", [(), (Background(UniformNoise(), level=0),)], ids=["none", "level 0"])
def test_background__is_zero_without_noise(distractors, keys):
    world = DistractedWorld(MovingDot(), distractors)
    np.testing.assert_array_equal(world.factors(world.initial(keys(3)))["background"], np.zeros((3, 8), np.float32))


def test_background__bounds_hold_for_the_worst_picture():
    world = DistractedWorld(Blank(), [Background(UniformNoise())])
    state = world.initial(np.zeros(8, np.uint64))
    aligned = (world.layers.signs > 0) * np.uint8(255)  # picture i has every pixel agree with the i-th row of signs
    state["distractor.0.image"] = aligned.reshape(8, *world.frame_shape)
    background = world.factors(state)["background"]
    assert all(world.factor_space["background"].contains(row) for row in background)
    np.testing.assert_allclose(np.diag(background), np.sqrt(3 * 72), rtol=1e-6)


def test_background__is_exact_for_large_pictures():
    world = DistractedWorld(Blank((260, 260, 3)), [Background(UniformNoise())])
    state = world.initial(np.arange(8, dtype=np.uint64))
    pixels = np.where(world.layers.signs > 0, 255, state["distractor.0.image"].reshape(8, -1) // 8)  # sums beyond 2**24
    state["distractor.0.image"] = pixels.astype(np.uint8).reshape(8, *world.frame_shape)
    signs = world.layers.signs.astype(np.int64)
    total = 2 * pixels.astype(np.int64) @ signs.T - 255 * signs.sum(axis=1)
    expected = (total / 2 * (np.sqrt(12 / pixels.shape[1]) / 255)).astype(np.float32)
    np.testing.assert_array_equal(world.factors(state)["background"], expected)


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "noise"}, r"source must be an envs\.distractors\.background\.Source, got 'noise'"),
        ({"dynamics": "fixed"}, r"dynamics must be one of \('static', 'dynamic', 'drifting', 'playing'\), got 'fixed'"),
        ({"level": -0.1}, "level must be finite and at least 0, got -0.1"),
        ({"level": np.nan}, "level must be finite and at least 0, got nan"),
        ({"level": np.inf}, "level must be finite and at least 0, got inf"),
        ({"speed": np.nan}, "speed must be finite, got nan"),
        ({"speed": -np.inf}, "speed must be finite, got -inf"),
    ],
    ids=str,
)
def test_distractor__refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Background(**{"source": UniformNoise(), **arguments})


@pytest.mark.parametrize("name", ["background", "colour"])
def test_distracted_world__refuses_a_world_with_a_factor_of_theirs(name):
    world = Blank()
    world.factor_space = spaces.Dict({name: spaces.Box(0, 1, (1,), np.float32)})
    with pytest.raises(ValueError, match=rf"Blank and its distractors both have factors named \['{name}'\]"):
        DistractedWorld(world, ColourJitter(0.4))
