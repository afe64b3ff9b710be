"""How backgrounds mix with the frame and with each other; and what holds for every distractor."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from envs.distractors.background import Background
from envs.distractors.coloured_noise import ColouredNoise
from envs.distractors.core import DistractedWorld, Distractor, Layers
from envs.distractors.jitter import CameraJitter, ColourJitter
from envs.distractors.photographs import Photographs
from envs.distractors.square import Square
from envs.distractors.uniform import UniformNoise
from envs.distractors.video import Video
from envs.worlds.moving_dot import MovingDot
from envs.worlds.pendulum import Pendulum
from envs.worlds.three_dots import ThreeDots

BLENDS, DYNAMICS = ("add", "over", "behind"), ("static", "dynamic", "drifting", "playing")
WORLDS = {"pendulum": lambda: Pendulum(size=28), "dot": MovingDot, "dots": ThreeDots}
each_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


def run(world, key, steps) -> list[dict[str, np.ndarray]]:
    action = np.full((len(key), *world.action_space.shape), 0.7, np.float32)
    states = [world.initial(key)]
    for _ in range(steps):
        states.append(world.transition(states[-1], action))
    return states


def images(state, count) -> list[np.ndarray]:
    return [state[f"distractor.{i}.image"].astype(float) for i in range(count)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> str:
    """A folder of three clips of six frames of noise."""
    folder = tmp_path_factory.mktemp("clips")
    for clip, frame in itertools.product(range(3), range(6)):
        (folder / f"clip{clip}").mkdir(exist_ok=True)
        pixels = np.random.default_rng([clip, frame]).integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"clip{clip}" / f"{frame}.png")
    return str(folder)


# --- blends ---


@each_world
def test_behind__shows_the_background_where_the_scene_covers_nothing_and_the_scene_where_it_covers_all(world, keys):
    inner = world()
    behind = DistractedWorld(inner, Background(UniformNoise(), blend="behind"))
    state = behind.initial(keys(40))
    seen, plain, image = behind.render(state), inner.render(state), state["distractor.0.image"]
    covered = np.broadcast_to(inner.coverage(state), seen.shape)
    bare = covered < 1e-4  # the brightness of a dot has no end
    assert bare.mean() > 0.5
    np.testing.assert_array_equal(seen[bare], image[bare])
    np.testing.assert_array_equal(seen[covered == 1], plain[covered == 1])
    between = plain + (1 - covered.astype(float)) * (image - np.array(inner.backdrop, float))
    assert np.abs(seen - np.clip(between, 0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("level", [0.25, 0.5, 1.0])
def test_over__is_an_opacity_over_the_whole_frame(level, keys):
    inner = Pendulum(size=28)
    world = DistractedWorld(inner, Background(UniformNoise(), level=level, blend="over"))
    state = world.initial(keys(20))
    expected = (1 - level) * inner.render(state).astype(float) + level * images(state, 1)[0]
    assert np.abs(world.render(state) - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("levels", [(1.0,), (0.5, 2.0), (1.0, 0.0, 3.0)], ids=str)
def test_add__of_several_is_their_sum_by_level_over_one_and_the_levels(levels, keys):
    inner = Pendulum(size=28)
    world = DistractedWorld(inner, [Background(UniformNoise(), level=level) for level in levels])
    state = world.initial(keys(20))
    total = sum(level * image for level, image in zip(levels, images(state, len(levels)), strict=True))
    expected = (inner.render(state) + total) / (1 + sum(levels))
    assert np.abs(world.render(state) - expected).max() <= 0.5 + 1e-3


def composed(frame, coverage, backdrop, layers) -> np.ndarray:
    """Frames under (blend, level, image) layers: all that is behind comes first, whichever order they are in."""
    behind = np.broadcast_to(np.array(backdrop, float), frame.shape)
    for blend, level, image in layers:
        behind = behind + level * (image - behind) if blend == "behind" else behind
    frame, total = frame + (1 - coverage) * (behind - np.array(backdrop, float)), 1.0
    for blend, level, image in layers:
        if blend == "over":
            frame = (1 - level) * frame + level * image
        elif blend == "add":
            frame, total = (total * frame + level * image) / (total + level), total + level
    return np.clip(frame, 0, 255)


@each_world
@pytest.mark.parametrize(
    "blends",
    [(("behind", 0.8), ("behind", 0.6), ("add", 0.5)), (("behind", 1.0), ("add", 1.5), ("over", 0.3))],
    ids=str,
)
def test_stack__of_mixed_blends_is_the_same_picture_wherever_the_ones_behind_stand(blends, world, keys):
    for order in itertools.permutations(blends):
        inner = world()
        stack = DistractedWorld(
            inner, [Background(UniformNoise(), "static", level, 1, blend) for blend, level in order]
        )
        state = stack.initial(keys(10))
        layers = [(*layer, image) for layer, image in zip(order, images(state, 3), strict=True)]
        expected = composed(inner.render(state).astype(float), inner.coverage(state), inner.backdrop, layers)
        assert np.abs(stack.render(state) - expected).max() <= 0.5 + 1e-2, order


@pytest.mark.parametrize("blend", ["over", "behind"])
def test_level__of_an_opacity_is_at_most_1(blend):
    Background(UniformNoise(), level=1, blend=blend)
    with pytest.raises(ValueError, match=f"level is an opacity with blend={blend}, at most 1; got 1.01"):
        Background(UniformNoise(), level=1.01, blend=blend)
    with pytest.raises(ValueError, match=r"blend must be one of \('add', 'over', 'behind'\), got 'under'"):
        Background(UniformNoise(), blend="under")


# --- every source, dynamics and blend ---


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("source", ["uniform", "photographs", "video", "coloured noise"])
def test_every_source__has_every_dynamics_and_blend(source, dynamics, blend, clips, keys):
    made = {
        "uniform": UniformNoise(),
        "photographs": Photographs(limit=2),
        "video": Video(clips),
        "coloured noise": ColouredNoise(),
    }[source]
    world = DistractedWorld(Pendulum(size=28), Background(made, dynamics, 0.5, 1, blend))
    if (source, dynamics) == ("uniform", "playing"):
        with pytest.raises(ValueError, match="UniformNoise does not move by itself: choose dynamics=static, dynamic"):
            world.initial(keys(1))
        return
    states = run(world, keys(9), 4)
    seen = np.stack([state["distractor.0.image"] for state in states])  # [T, n, H, W, C]
    changed = (seen[1:] != seen[:-1]).any(axis=(2, 3, 4))
    assert not changed.any() if dynamics == "static" else changed.mean() > 0.8  # of a few frames, some come again
    frames = world.render(states[-1])
    assert (frames.shape, frames.dtype) == ((9, 28, 28, 3), np.uint8)
    assert (frames != Pendulum(size=28).render(states[-1])).mean() > 0.7
    background = world.factors(states[-1])["background"]
    assert all(world.factor_space["background"].contains(one) for one in background)
    assert background.std() > 0


# --- every distractor ---


EVERY = {
    "moving photographs": Background(Photographs(), "playing", blend="behind"),
    "coloured noise": Background(ColouredNoise(), "playing"),
    "square": Square(dynamics="drifting"),
    "colour": ColourJitter(0.3, "drifting"),
    "camera": CameraJitter(0.3, "dynamic"),
}
HARD = [EVERY[name] for name in ("colour", "moving photographs", "square", "camera", "coloured noise")]
each_distractor = pytest.mark.parametrize("distractor", [*EVERY.values(), HARD], ids=[*EVERY, "all"])


@each_distractor
@each_world
def test_distractor__changes_what_is_seen_and_nothing_of_what_happens(distractor, world, keys):
    inner, seen = world(), DistractedWorld(world(), distractor)
    plain, distracted = run(inner, keys(12), 8), run(seen, keys(12), 8)
    for a, b in zip(plain, distracted, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
        for name, value in inner.factors(a).items():
            np.testing.assert_array_equal(value, seen.factors(b)[name])
    assert (seen.render(distracted[-1]) != inner.render(plain[-1])).any(axis=(1, 2, 3)).all()


@each_distractor
def test_distractor__leaves_its_state_alone_when_it_is_rendered(distractor, keys, assert_same):
    world = DistractedWorld(Pendulum(size=28), distractor)
    state = run(world, keys(10), 2)[-1]
    before = {name: array.copy() for name, array in state.items()}
    first = world.render(state)
    np.testing.assert_array_equal(world.render(state), first)
    world.transition(state, np.zeros((10, 1), np.float32))
    assert_same(state, before)


@each_distractor
@each_world
def test_distractor__of_a_world_does_not_depend_on_those_beside_it(distractor, world, keys):
    key, distracted = keys(21), DistractedWorld(world(), distractor)
    whole = run(distracted, key, 5)
    for chosen in (slice(13, 14), slice(None, None, -1)):
        for a, b in zip(whole, run(distracted, key[chosen], 5), strict=True):
            np.testing.assert_array_equal(distracted.render(a)[chosen], distracted.render(b))
            for name, value in distracted.factors(a).items():
                np.testing.assert_array_equal(value[chosen], distracted.factors(b)[name])


def test_layers__leave_what_they_are_given_alone(keys):
    rng = np.random.default_rng(0)
    layers = Layers([*HARD[::-1], Background(UniformNoise(), blend="behind")], (28, 28, 3))
    state = layers.initial(keys(20))
    frame, coverage = rng.integers(0, 256, (20, 28, 28, 3), np.uint8), rng.random((20, 28, 28, 1), np.float32)
    for backdrop in (rng.integers(0, 256, 3), rng.random((28, 28, 3), np.float32) * 255):
        given = frame, coverage, backdrop
        before = [array.copy() for array in given]
        layers.apply(*given, state)
        for a, b in zip(given, before, strict=True):
            np.testing.assert_array_equal(a, b)


class Glare(Distractor):
    """Brightens dark and bright beyond what a byte holds."""

    def initial(self, key, frame_shape, held_out):
        return {"key": key}

    def advance(self, state, time, frame_shape, held_out):
        return state

    def apply(self, picture, state):
        picture.frame[:] = 2 * picture.frame - 60
        return picture


def test_layers__clip_what_is_darker_than_black_or_brighter_than_white(keys):
    frames = np.array([0, 20, 90, 200, 255], np.uint8).reshape(1, 1, 5, 1)
    layers = Layers(Glare(), (1, 5, 1))
    assert layers.apply(frames, None, 0, layers.initial(keys(1))).ravel().tolist() == [0, 0, 120, 255, 255]


@each_distractor
def test_distractor__has_factors_within_their_space(distractor, keys):
    world = DistractedWorld(Pendulum(size=28), distractor)
    for state in run(world, keys(30), 40)[::8]:
        for name, value in world.factors(state).items():
            assert value.dtype == np.float32, name
            assert all(world.factor_space[name].contains(one) for one in value), name
