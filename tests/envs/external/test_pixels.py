"""What becomes of another library's environment: frames, factors, stacks, repeats."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import GrayscaleObservation

from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from envs.external.frames import Frames, is_image
from envs.external.pixels import PixelEnv
from envs.external.repeat import ActionRepeat

SKY = (30, 250, 251)


class Blocks(gymnasium.Env):
    """A picture of 12 × 8 px, all sky, in which blocks of random colours appear; it observes how many there are."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = spaces.Box(0, 99, (1,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode="rgb_array", length=50):
        self.render_mode, self.length = render_mode, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.picture, self.time = np.full((12, 8, 3), SKY, np.uint8), 0
        return self._observation(), {"half": np.array([[self.time / 2]])}

    def step(self, action):
        self.time += 1
        row, column = self.np_random.integers(10), self.np_random.integers(6)
        self.picture[row : row + 3, column : column + 2] = self.np_random.integers(250, size=3)
        over = self.time >= self.length
        return self._observation(), 0.1 * self.time, over, False, {"half": np.array([[self.time / 2]])}

    def render(self):
        return self.picture.copy()

    def _observation(self):
        return np.array([self.time], np.float64)


class Told(Blocks):
    """The same, observing a dictionary."""

    observation_space = spaces.Dict(
        {
            "matrix": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
            "colour": spaces.Discrete(3, start=1),
            "picture": spaces.Box(0, 255, (12, 8, 3), np.uint8),
            "words": spaces.Text(9),
        }
    )

    def _observation(self):
        matrix = np.arange(4.0).reshape(2, 2) + self.time
        return {"matrix": matrix, "colour": 2, "picture": self.picture.copy(), "words": "none"}


class Seen(Blocks):
    """The same, observing its picture in grey, and rendering nothing."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(0, 255, (12, 8), np.uint8)

    def __init__(self):
        super().__init__(render_mode=None)

    def _observation(self):
        return self.picture[..., 0].copy()


def means(picture, size=4):
    """A picture [12, 8, C] by areas: [4, 4, C], in float. PIL rounds rows and columns apart: it may be off by 1."""
    return picture.astype(float).reshape(size, 3, size, 2, -1).mean(axis=(1, 3))


def steps(env, count, seed=0):
    yield env.reset(seed=seed)
    for _ in range(count):
        frame, *_, info = env.step(np.zeros(1, np.float32))
        yield frame, info


def test_frames__are_means_over_areas():
    env = Blocks()
    for frame, _ in steps(Frames(env, 4), 9):
        np.testing.assert_allclose(frame, means(env.picture), atol=1)
    assert frame.std() > 10


def test_frames__coverage_and_backdrop_make_up_the_picture():
    env = Blocks()
    frames = Frames(env, 4, key_colour=SKY)
    for frame, _ in steps(frames, 9):
        coverage, backdrop = frames.scene()
        scene = (env.picture != SKY).any(axis=-1, keepdims=True)
        np.testing.assert_allclose(coverage, means(scene), atol=1e-6)
        np.testing.assert_allclose(means(env.picture * scene) + (1 - coverage) * backdrop, frame, atol=1)
        assert (np.abs(backdrop[coverage[..., 0] < 1] - SKY) < 1e-3).all()
    assert 0 < coverage.mean() < 1


@pytest.mark.parametrize("grey", [False, True])
def test_behind__replaces_the_backdrop_and_leaves_the_scene(grey):
    """With one colour in place of the noise the picture is known: the scene where it covers, that colour elsewhere."""

    class Flat(UniformNoise):
        def sample(self, key, frame_shape, held_out):
            return np.full((len(key), *frame_shape), 40, np.uint8)

    inner = Blocks()
    layers = Background(Flat(), "static", blend="behind")
    env = PixelEnv(inner, size=4, grey=grey, key_colour=SKY, distractor=layers)
    for frame, _ in steps(env, 9):
        covered = (inner.picture != SKY).any(axis=-1, keepdims=True)
        expected = means(np.where(covered, inner.picture, 40))
        if grey:
            expected = expected @ np.array([[0.2125], [0.7154], [0.0721]])
        np.testing.assert_allclose(frame, expected, atol=2)


def test_factors__are_the_observation():
    env = Frames(Blocks(), 4)
    assert env.factor_space == spaces.Dict({"state": spaces.Box(0, 99, (1,), np.float32)})
    infos = [info for _, info in steps(env, 3)]
    assert [info["factors"]["state"].tolist() for info in infos] == [[0], [1], [2], [3]]
    assert infos[-1]["half"] == 1.5, "what the environment said stays in info"


def test_factors__are_the_entries_of_a_dictionary():
    env = Frames(Told(), 4)
    assert {name: space.shape for name, space in env.factor_space.items()} == {"matrix": (4,), "colour": (3,)}
    for frame, info in steps(env, 2):
        assert env.factor_space.contains(info["factors"])
        assert env.observation_space.contains(frame)
    assert info["factors"]["matrix"].tolist() == [2, 3, 4, 5]
    assert info["factors"]["colour"].tolist() == [0, 1, 0]


def test_factors__may_come_from_info():
    env = Frames(Seen(), 4, info_factors=["half"])
    assert [info["factors"]["half"].tolist() for _, info in steps(env, 2)] == [[0], [0.5], [1]]
    assert env.factor_space["half"].shape == (1,)


def test_frames__are_what_is_observed_if_that_is_an_image():
    env = Seen()
    for frame, info in steps(Frames(env, 4), 5):
        np.testing.assert_allclose(frame, np.repeat(means(env.picture[..., :1]), 3, axis=-1), atol=1)
        assert info["factors"] == {}


@pytest.mark.parametrize(
    ("space", "image"),
    [
        (spaces.Box(0, 255, (5, 6, 3), np.uint8), True),
        (spaces.Box(0, 255, (5, 6), np.uint8), True),
        (spaces.Box(0, 255, (5, 6, 4), np.uint8), False),
        (spaces.Box(0, 255, (5,), np.uint8), False),
        (spaces.Box(0, 9, (5, 6, 3), np.uint8), False),
        (spaces.Box(0, 255, (5, 6, 3), np.float32), False),
        (spaces.Discrete(3), False),
    ],
)
def test_is_image__knows_pictures(space, image):
    assert is_image(space) == image


def test_grey__is_gymnasiums():
    theirs = GrayscaleObservation(Frames(Blocks(), 4), keep_dim=True)
    for (ours, _), (frame, _) in zip(steps(PixelEnv(Blocks(), size=4, grey=True), 5), steps(theirs, 5), strict=True):
        np.testing.assert_array_equal(ours, frame, strict=True)


def test_frame_stack__holds_the_last_frames_oldest_first():
    layers = Background(UniformNoise(), "dynamic")
    plain, stacked = (PixelEnv(Blocks(), size=4, frame_stack=k, distractor=layers) for k in (1, 3))
    frames = [frame for frame, _ in steps(plain, 6)]
    frames = [frames[0], frames[0], *frames]
    for t, (stack, _) in enumerate(steps(stacked, 6)):
        np.testing.assert_array_equal(stack, np.concatenate(frames[t : t + 3], axis=-1), strict=True)
    assert stacked.observation_space.shape == (4, 4, 9)


def test_action_repeat__adds_up_rewards_and_stops_at_the_end():
    env = PixelEnv(Blocks(length=5), size=4, action_repeat=3)
    env.reset(seed=0)
    seen = [env.step(np.zeros(1, np.float32)) for _ in range(2)]
    assert [reward for _, reward, *_ in seen] == pytest.approx([0.1 + 0.2 + 0.3, 0.4 + 0.5])
    assert [terminated for _, _, terminated, *_ in seen] == [False, True]
    assert seen[-1][-1]["factors"]["state"] == 5
    assert env.metadata["render_fps"] == 7


def test_render__shows_the_newest_frame_in_colour():
    layers = Background(UniformNoise(), "dynamic")
    env = PixelEnv(Blocks(), size=4, grey=True, frame_stack=2, distractor=layers, render_mode="rgb_array")
    for frame, _ in steps(env, 3):
        for _ in range(2):
            np.testing.assert_array_equal(env.render(), np.repeat(frame[..., -1:], 3, axis=-1))
    mute = PixelEnv(Blocks(), size=4)
    mute.reset()
    assert mute.render() is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PixelEnv(Blocks(render_mode=None)), r"has no pixels.*render_modes \['rgb_array'\]"),
        (lambda: PixelEnv(Blocks(), size=0), "size must be an integer of at least 1, got 0"),
        (lambda: PixelEnv(Blocks(), frame_stack=0), "frame_stack must be an integer of at least 1, got 0"),
        (lambda: ActionRepeat(Blocks(), 1.5), "action_repeat must be an integer of at least 1, got 1.5"),
        (lambda: PixelEnv(Blocks(), render_mode="human"), "render_mode must be None or 'rgb_array', got 'human'"),
        (lambda: PixelEnv(Blocks(), info_factors=["x"]), r"no 'x' in its info, only \['half'\]"),
        (lambda: PixelEnv(Blocks(), key_colour=[0, 0]), r"three integers from 0 to 255; got \[0, 0\]"),
        (
            lambda: PixelEnv(Blocks(), distractor=Background(UniformNoise(), blend="behind")).reset(),
            r"give key_colour=\(r, g, b\)",
        ),
    ],
)
def test_pixel_env__says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
