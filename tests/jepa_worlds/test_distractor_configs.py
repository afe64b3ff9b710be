"""The distractors that configurations name, on every native world."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from PIL import Image

from envs.distractors.background import Background
from envs.distractors.coloured_noise import ColouredNoise
from envs.distractors.jitter import CameraJitter, ColourJitter
from envs.distractors.photographs import Photographs
from envs.distractors.square import Square
from envs.distractors.video import Video
from jepa_worlds.data.environments import distractors
from jepa_worlds.shared.app import CONFIGS, composed, plain

NATIVE = sorted(
    name for name, spec in gymnasium.registry.items() if str(spec.kwargs.get("world", "")).startswith("envs.worlds.")
)
OPTIONS = sorted(path.stem for path in (CONFIGS / "distractor").glob("*.yaml"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("clips")
    for clip in range(2):
        (folder / f"{clip}").mkdir()
        for frame in range(3):
            pixels = np.random.default_rng([clip, frame]).integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{clip}" / f"{frame}.png")
    return str(folder)


def built(*overrides) -> list:
    return distractors(plain(composed("collect", ["out=nowhere", *overrides]))["distractor"])


def looks(name, distractor, steps=2) -> np.ndarray:
    env = gymnasium.make_vec(name, 3, distractor=distractor)
    frames, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(steps):
        frames, *_ = env.step(env.action_space.sample())
    return frames


@pytest.mark.parametrize("option", OPTIONS)
def test_option__changes_the_looks_of_a_world(option, clips):
    video = [f"distractor.source.path={clips}"] if option == "video" else []
    made = built(f"distractor={option}", *video)
    changed = (looks("jepa_worlds/Pendulum-v0", made) != looks("jepa_worlds/Pendulum-v0", ())).any(axis=(1, 2, 3))
    assert not changed.any() if option == "none" else changed.all()


@pytest.mark.parametrize("name", NATIVE)
def test_presets__change_the_looks_of_every_native_world_and_nothing_of_what_happens(name):
    made = built("distractor=hard")
    env, clean = gymnasium.make_vec(name, 3, distractor=made), gymnasium.make_vec(name, 3)
    seen, expected = env.reset(seed=0), clean.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(4):
        assert (seen[0] != expected[0]).mean() > 0.5
        for factor, value in expected[-1]["factors"].items():
            if factor.removeprefix("_") != "background":
                np.testing.assert_array_equal(seen[-1]["factors"][factor], value, err_msg=factor)
        action = env.action_space.sample()
        seen, expected = env.step(action), clean.step(action)
        for a, b in zip(seen[1:4], expected[1:4], strict=True):  # reward, terminated, truncated
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("preset", "scale", "limit"), [("easy", 0.1, 4), ("medium", 0.2, 8), ("hard", 0.3, None)])
def test_presets__have_the_scales_and_numbers_of_the_distracting_control_suite(preset, scale, limit):
    assert built(f"distractor={preset}") == [
        ColourJitter(scale, "drifting"),
        Background(Photographs(limit=limit), "playing", blend="behind"),
        CameraJitter(scale, "drifting"),
    ]


def test_presets__are_changed_part_by_part(clips):
    changes = ["distractor.background.level=0.5", "distractor.background.dynamics=static", "~distractor.camera"]
    colour, background = built("distractor=easy", *changes, "distractor.colour.dynamics=static")
    assert colour == ColourJitter(0.1)
    assert background == Background(Photographs(limit=4), "static", 0.5, blend="behind")
    *_, square = built("distractor=easy", "+distractor@distractor.square=square", "distractor.square.side=7")
    assert square == Square(7)
    video = ["distractor@distractor.background=video", f"distractor.background.source.path={clips}"]
    assert built("distractor=medium", *video)[1] == Background(Video(clips, limit=8), "playing", blend="behind")


def test_coloured_noise__runs_from_dynamic_to_static_in_one_knob(collect_to, tmp_path):
    for time, expected in (("0", 0), ("null", None), ("2.5", 2.5)):
        made = built("distractor=coloured_noise", f"distractor.source.time={time}")
        assert made == [Background(ColouredNoise(4, expected), "playing")]
    collect_to(tmp_path / "data", "distractor=coloured_noise", "distractor.source.time=null")  # the manifest holds it
