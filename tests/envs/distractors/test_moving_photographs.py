from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from envs.distractors.photographs import PERIOD, Photographs

FRAME = (28, 28, 3)
SIDE = 56  # twice a frame: shown at its own size


def save(folder, *pictures) -> str:
    folder.mkdir(exist_ok=True)
    for i, pixels in enumerate(pictures):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / f"{i:03}.png")
    return str(folder)


@pytest.fixture
def ramps(tmp_path) -> str:
    """Pictures that tell where they are looked at: red is 4 times the column, green 4 times the row."""
    row, column = np.mgrid[:SIDE, :SIDE]
    picture = np.stack([4 * column, 4 * row, 0 * row], axis=-1)
    return save(tmp_path / "ramps", picture, picture)


def played(source, key, steps, frame_shape=FRAME, held_out=False) -> np.ndarray:
    """What is seen at every step: [T, n, H, W, C]."""
    state = source.begin(key, frame_shape, held_out)
    seen = [state["image"]]
    for t in range(1, steps + 1):
        state = source.play(state, np.full(len(key), t), held_out)
        seen.append(state["image"])
    return np.stack(seen)


def path(seen) -> tuple[np.ndarray, np.ndarray]:
    """Centres (x, y) and widths of the crops in px of a ramp: [T, n, 2], [T, n]."""
    values = seen[..., :2].astype(float) / 4
    slope = np.abs(np.diff(values[..., 1], axis=2)).mean(axis=(2, 3))  # px of the picture a px of the frame
    return values.mean(axis=(2, 3)), slope * FRAME[0]


@pytest.mark.parametrize("speed", [0.3, 1.0, 2.5])
def test_pan__goes_straight_on_by_its_speed_and_turns_back_inside_the_picture(speed, ramps, keys):
    centre, _ = path(played(Photographs(ramps, speed=speed, zoom=0), keys(30), 150))
    low, high = 27 / 2, SIDE - 1 - 27 / 2
    assert low - 0.2 < centre.min() < low + 1
    assert high - 1 < centre.max() < high + 0.2
    moved = np.abs(np.diff(centre, axis=0))
    straight = moved > np.median(moved, axis=0) - 0.3  # all but the steps in which an edge turns it back
    assert straight.mean() > 0.85
    length = np.linalg.norm(np.mean(moved, axis=0, where=straight), axis=-1)
    np.testing.assert_allclose(length, speed, atol=0.1)


def test_pan__is_finer_than_a_pixel(ramps, keys):
    centre, _ = path(played(Photographs(ramps, speed=0.25, zoom=0), keys(20), 40))
    moved = np.linalg.norm(np.diff(centre, axis=0), axis=-1)
    assert np.median(moved) == pytest.approx(0.25, abs=0.05)
    assert moved.max() < 0.5  # and never jumps


@pytest.mark.parametrize("zoom", [0.25, 0.6])
def test_zoom__goes_from_1_to_1_and_zoom_and_back_in_a_period(zoom, ramps, keys):
    _, width = path(played(Photographs(ramps, zoom=zoom), keys(20), PERIOD))
    scale = width / 28
    assert np.abs(scale.min(axis=0) - 1).max() < 0.03
    assert np.abs(scale.max(axis=0) - 1 - zoom).max() < 0.03
    np.testing.assert_allclose(scale[0], scale[-1], atol=0.02)
    assert np.abs(np.diff(scale, axis=0)).max() < np.pi * zoom / PERIOD + 0.02  # smooth


def test_zoom__is_limited_by_the_size_of_the_picture(tmp_path, keys):
    small = np.broadcast_to(8 * np.arange(32)[:, None], (32, 120))  # 32 px high, for frames of 28
    seen = played(Photographs(save(tmp_path / "small", small, small), zoom=3), keys(10), PERIOD, (28, 28, 1))
    slope = np.diff(seen[..., 0].astype(float), axis=2).mean(axis=(2, 3)) / 8
    assert 1.12 < slope.max() < 32 / 28 + 0.02


def test_motion__can_be_switched_off(keys):
    seen = played(Photographs(speed=0, zoom=0), keys(10), 5)
    assert (seen == seen[0]).all()
    assert (played(Photographs(), keys(10), 5)[-1] != seen[-1]).any(axis=(1, 2, 3)).all()


def test_motion__is_a_function_of_key_and_time_alone(keys):
    source, key = Photographs(), keys(12)
    seen = played(source, key, 20)
    state = source.begin(key[::-1], FRAME, held_out=False)
    again = source.play(state, np.full(12, 20), held_out=False)["image"]
    np.testing.assert_array_equal(again[::-1], seen[20])
    assert len(np.unique(seen[0].reshape(12, -1), axis=0)) == 12


def test_motion__is_mirrored_in_half_of_the_episodes(ramps, keys):
    red = Photographs(ramps).begin(keys(400), FRAME, held_out=False)["image"][..., 0].astype(int)
    assert abs((red[:, 14, 20] < red[:, 14, 8]).mean() - 0.5) < 5 * 0.5 / np.sqrt(400)


def test_grey_frames__show_grey(keys):
    assert played(Photographs(), keys(4), 2, (20, 26, 1)).shape == (3, 4, 20, 26, 1)


def test_held_out__pictures_are_others_and_limit_takes_the_first(tmp_path, keys):
    folder = save(tmp_path / "flat", *(np.full((40, 40), 20 * i) for i in range(12)))

    def greys(held_out, **arguments):
        source = Photographs(folder, **arguments)
        sampled = source.sample(keys(200), FRAME, held_out)
        seen = played(source, keys(100), 2, held_out=held_out)
        assert set(np.unique(seen)) == set(np.unique(sampled))
        return {int(value) // 20 for value in np.unique(seen)}

    assert greys(held_out=True) == {1, 6, 11}
    assert greys(held_out=False) == set(range(12)) - {1, 6, 11}
    assert greys(held_out=False, limit=4) == {0, 2, 3, 4}
    assert greys(held_out=True, limit=2) == {1, 6}


@pytest.mark.parametrize("content", [b"", b"not a picture", None], ids=["empty", "text", "cut off"])
def test_corrupt_picture__is_named(content, tmp_path, keys):
    folder = save(tmp_path / "pictures", *np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)))
    file = tmp_path / "pictures" / "002.png"
    file.write_bytes(file.read_bytes()[:2000] if content is None else content)
    with pytest.raises(OSError, match=r"/002\.png' cannot be read as a picture: .*; replace it, or remove it"):
        Photographs(folder).sample(keys(1), FRAME, held_out=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit must be an integer of at least 1, or null, got 0"),
        ({"limit": 1.5}, "limit must be an integer .* got 1.5"),
        ({"speed": -1}, "speed must be finite and at least 0, got -1"),
        ({"zoom": float("nan")}, "zoom must be finite and at least 0, got nan"),
    ],
    ids=str,
)
def test_photographs__refuse_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Photographs(**arguments)
