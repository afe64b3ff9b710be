from __future__ import annotations

import itertools
import os
import pickle
import struct

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from envs.distractors import photographs
from envs.distractors.photographs import Photographs

FRAME = (28, 28, 1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def save(folder, pictures) -> str:
    for i, picture in enumerate(pictures):
        Image.fromarray(np.asarray(picture, np.uint8)).save(folder / f"{i:03d}.png")
    return str(folder)


def flat(*greys) -> list[np.ndarray]:
    return [np.full((40, 50), grey, np.uint8) for grey in greys]


def greys(path, keys, held_out) -> set[int]:
    return set(np.unique(Photographs(path).sample(keys(200), FRAME, held_out)).tolist())


# --- crops ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("height", [28, 56])
def test_crop__occurs_in_a_picture_or_in_its_mirror_image(height, channels, tmp_path, keys, rng):
    # Pictures of 8/7 the frame are not resized, so a crop is a sub-array, pixel for pixel.
    pictures = rng.integers(0, 256, (3, height * 8 // 7, 32, 3), np.uint8)
    path = save(tmp_path, pictures)
    shown = {}
    for i in (0, 2):  # the second is held out
        image = Image.fromarray(pictures[i])
        picture = np.asarray(image if channels == 3 else image.convert("L")).reshape(*pictures[i].shape[:2], channels)
        for mirrored in (False, True):
            windows = sliding_window_view(picture, (height, 28, channels))[:, :, 0]
            for top, left in itertools.product(*map(range, windows.shape[:2])):
                window = windows[top, left][:, ::-1] if mirrored else windows[top, left]
                shown[window.tobytes()] = (i, top, left, mirrored)
    crops = Photographs(path).sample(keys(1500), (height, 28, channels), held_out=False)
    assert crops.shape == (1500, height, 28, channels)
    assert crops.dtype == np.uint8
    seen = [shown.get(crop.tobytes()) for crop in crops]
    assert None not in seen
    picture, top, left, mirrored = map(np.array, zip(*seen, strict=True))
    assert set(top) == set(range(height // 7 + 1))  # every offset
    assert set(left) == set(range(5))
    for share in ((picture == 0).mean(), mirrored.mean()):
        assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(1500)


def test_crop__shows_a_large_picture_at_every_zoom_that_fits(tmp_path, keys):
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (128, 1))  # 2 a pixel
    crops = Photographs(save(tmp_path, [ramp, ramp])).sample(keys(300), FRAME, held_out=False)
    slope = (crops[:, 14, 23, 0].astype(float) - crops[:, 14, 4, 0]) / 19
    sizes = [round(28 * zoom) for zoom in (2, 4)]
    expected = np.array([sign * 2 * 128 / size for size in sizes for sign in (1, -1)])
    nearest = np.abs(slope[:, None] - expected).argmin(axis=1)
    np.testing.assert_allclose(slope, expected[nearest], atol=0.15)
    assert set(nearest) == set(range(4))


def test_crop__of_a_small_picture_enlarges_it_as_little_as_possible(tmp_path, keys):
    ramp = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))  # 16 px, 16 a pixel -> 32 px, 8 a pixel
    crops = Photographs(save(tmp_path, [ramp, ramp])).sample(keys(50), FRAME, held_out=False)
    slope = np.abs(crops[:, 14, 23, 0].astype(float) - crops[:, 14, 4, 0]) / 19
    np.testing.assert_allclose(slope, 8, atol=0.7)


def test_crop__of_a_colour_picture_keeps_its_colours(tmp_path, keys):
    picture = np.broadcast_to(np.array([200, 100, 50], np.uint8), (40, 40, 3))
    source = Photographs(save(tmp_path, [picture, picture]))
    assert (source.sample(keys(5), (28, 28, 3), held_out=False) == [200, 100, 50]).all()
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)  # ITU-R 601, as Pillow converts to grey
    assert np.abs(source.sample(keys(5), FRAME, held_out=False).astype(int) - luma).max() <= 1


def test_crop__of_a_grey_picture_is_grey_in_colour_frames(tmp_path, keys):
    sample = Photographs(save(tmp_path, flat(77, 77))).sample(keys(5), (28, 28, 3), held_out=False)
    assert (sample == 77).all()


def test_crop__is_a_function_of_the_key_alone(keys):
    key = keys(40)
    whole = Photographs().sample(key, FRAME, held_out=False)
    np.testing.assert_array_equal(Photographs().sample(key[::-1], FRAME, held_out=False), whole[::-1])
    np.testing.assert_array_equal(Photographs().sample(key[9:10], FRAME, held_out=False), whole[9:10])
    assert len(np.unique(whole.reshape(40, -1), axis=0)) > 30  # of a few pictures, some crops come twice


# --- in other colours ---


def test_recoloured__are_half_of_training_s_crops_every_channel_scaled_and_shifted_or_reversed(keys):
    shape, key = (28, 28, 3), keys(400)
    plain = Photographs().sample(key, shape, held_out=False).astype(float)
    found = Photographs(recolour=True).sample(key, shape, held_out=False).astype(float)
    changed = np.flatnonzero((found != plain).any(axis=(1, 2, 3)))
    assert abs(len(changed) / 400 - 0.5) < 0.1
    signs = []
    for old, new in zip(plain[changed], found[changed], strict=True):
        for channel in range(3):
            inside = (new[..., channel] > 0) & (new[..., channel] < 255)
            x, y = old[inside, channel], new[inside, channel]
            if inside.sum() > 100 and x.std() > 5:
                slope, level = np.polyfit(x, y, 1)
                assert np.abs(slope * x + level - y).max() < 1.5 and np.exp(-1.01) < abs(slope) < np.exp(1.01)
                signs.append(np.sign(slope))
    assert len(signs) > 200 and 0.3 < np.mean(np.array(signs) > 0) < 0.7


@pytest.mark.parametrize("frame_shape", [FRAME, (28, 28, 3)])
def test_recoloured__never_are_the_held_out(frame_shape, keys):
    plain, found = (Photographs(recolour=x).sample(keys(20), frame_shape, held_out=True) for x in (False, True))
    np.testing.assert_array_equal(plain, found)


def test_recoloured__keep_their_colours_as_they_move(tmp_path, keys):
    source = Photographs(save(tmp_path, flat(100, 100)), recolour=True)
    state = source.begin(keys(40), FRAME, held_out=False)
    later = source.play(state, np.full(40, 30), held_out=False)
    np.testing.assert_array_equal(later["image"], state["image"])
    assert len(np.unique(state["image"])) > 10


# --- the photographs of scikit-image ---


@pytest.mark.parametrize("frame_shape", [(28, 28, 1), (64, 48, 3)], ids=str)
@pytest.mark.parametrize("held_out", [False, True])
def test_shipped__crops_look_like_photographs(held_out, frame_shape, keys):
    crops = Photographs().sample(keys(300), frame_shape, held_out)
    assert crops.shape == (300, *frame_shape)
    values = crops.astype(float)
    for a, b in ((values[:, 1:], values[:, :-1]), (values[:, :, 1:], values[:, :, :-1])):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8  # neighbours resemble each other, as noise does not
    assert values.std(axis=(1, 2)).mean() > 20  # and yet there is something to see
    if frame_shape[2] == 3:
        assert (values[..., 0] != values[..., 2]).mean() > 0.1  # in colour


def test_shipped__held_out_pictures_are_others():
    def thumbnails(held_out):
        images = [Image.fromarray(picture).convert("L") for picture in photographs._shipped(held_out)]
        return [np.asarray(image.resize((64, 64)), float).ravel() for image in images]

    shown, held_out = thumbnails(False), thumbnails(True)
    assert (len(shown), len(held_out)) == (8, 4)
    assert (np.corrcoef(shown + held_out) - np.eye(12)).max() < 0.5


# --- a folder ---


def test_folder__holds_out_every_fifth_picture(tmp_path, keys):
    path = save(tmp_path, flat(*range(10, 130, 10)))  # 000.png … 011.png
    assert greys(path, keys, held_out=True) == {20, 70, 120}  # the 2nd, the 7th and the 12th
    assert greys(path, keys, held_out=False) == set(range(10, 130, 10)) - {20, 70, 120}


@pytest.mark.parametrize("held_out", [False, True])
def test_folder__shows_all_pictures_in_all_episodes_if_it_is_not_split(held_out, tmp_path, keys):
    crops = Photographs(save(tmp_path, flat(20, 60, 100, 140, 180, 220)), split=False).sample(
        keys(200), FRAME, held_out
    )
    assert set(np.unique(crops).tolist()) == {20, 60, 100, 140, 180, 220}


def test_folder__passes_over_what_is_no_picture(tmp_path, keys):
    (tmp_path / "000-notes.txt").write_text("not a picture")
    (tmp_path / "001-folder").mkdir()
    path = save(tmp_path, flat(10, 20, 30))
    assert greys(path, keys, held_out=False) == {10, 30}


def test_folder__reads_the_usual_formats(tmp_path, keys):
    for i, suffix in enumerate((".PNG", ".jpg", ".jpeg", ".bmp", ".gif", ".tiff", ".webp")):
        Image.fromarray(np.full((40, 40), 30 * i + 20, np.uint8)).save(tmp_path / f"{i}{suffix}")
    seen = np.array(sorted(greys(str(tmp_path), keys, False) | greys(str(tmp_path), keys, True)))
    for i in range(7):
        assert np.abs(seen - (30 * i + 20)).min() <= 2  # some of them are lossy


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("count", [0, 1])
def test_folder__with_too_few_pictures_is_refused(count, held_out, tmp_path, keys):
    path = save(tmp_path, flat(*range(count)))
    if count == 1 and not held_out:
        assert greys(path, keys, held_out) == {0}
        return
    with pytest.raises(FileNotFoundError, match=rf"has {count} picture\(s\); at least 2 are needed"):
        Photographs(path).sample(keys(1), FRAME, held_out)


@pytest.mark.parametrize("name", ["absent", "file.png"])
def test_folder__that_is_none_is_refused(name, tmp_path, keys):
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=f"{name}' is not a folder of pictures or of CIFAR-10"):
        Photographs(str(tmp_path / name)).sample(keys(1), FRAME, held_out=False)


# --- CIFAR-10 ---


def python2_pickle(data: np.ndarray) -> bytes:
    """{"data": data} as Python 2 and the numpy of its days pickled it: how CIFAR-10 is distributed."""
    rows, columns = data.shape
    return b"".join(
        [
            b"\x80\x02}U\x04data",
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01" + struct.pack("<cicic", b"J", rows, b"J", columns, b"\x86"),
            b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tbs.",
        ]
    )


def write_cifar10(folder, kind: str, shown: list[np.ndarray], held_out: np.ndarray) -> str:
    """Batches of pictures [N, 3072] in the layout ``kind``."""
    for name, data in [(f"data_batch_{i + 1}", data) for i, data in enumerate(shown)] + [("test_batch", held_out)]:
        if kind == "binary":
            labels = np.full((len(data), 1), 9, np.uint8)
            (folder / f"{name}.bin").write_bytes(np.concatenate([labels, data], axis=1).tobytes())
        elif kind == "python 2":
            (folder / name).write_bytes(python2_pickle(data))
        else:
            (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": [9] * len(data)}, protocol=4))
    (folder / "batches.meta").write_bytes(b"not to be read")
    return str(folder)


@pytest.mark.parametrize("kind", ["binary", "python 2", "python 3"])
def test_cifar10__is_read_in_the_order_of_its_bytes(kind, tmp_path, keys):
    # Red rises by 5 a column, green by 7 a row, blue tells the picture: planes, rows and columns in this order.
    row, column = np.mgrid[:32, :32]
    pictures = np.stack([[5 * column, 7 * row, np.full((32, 32), blue)] for blue in (10, 20, 30, 40, 50)])
    batches = pictures.reshape(5, 3072).astype(np.uint8)
    path = write_cifar10(tmp_path, kind, [batches[:2], batches[2:4]], batches[4:])
    for held_out, blues in ((False, {10, 20, 30, 40}), (True, {50})):
        crops = Photographs(path).sample(keys(200), (28, 28, 3), held_out).astype(int)
        assert set(np.unique(crops[..., 2]).tolist()) == blues
        assert (np.abs(np.diff(crops[..., 0], axis=2)) == 5).all()
        assert (np.diff(crops[..., 0], axis=1) == 0).all()
        assert (np.diff(crops[..., 1], axis=1) == 7).all()


def test_cifar10__without_its_test_batch_says_so(tmp_path, keys, rng):
    path = write_cifar10(tmp_path, "python 3", [rng.integers(0, 256, (2, 3072), np.uint8)], np.zeros((1, 3072)))
    (tmp_path / "test_batch").unlink()
    assert Photographs(path).sample(keys(1), FRAME, held_out=False).shape == (1, *FRAME)
    with pytest.raises(FileNotFoundError, match="lacks CIFAR-10's test_batch, which is held out"):
        Photographs(path).sample(keys(1), FRAME, held_out=True)


class Malicious:
    """Unpickled, it calls whatever it was made with."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def ndarray(path: str) -> None:
    """What only bears the name of something harmless."""
    os.mkdir(path)  # noqa: PTH102


@pytest.mark.parametrize("function", [os.mkdir, eval, np.fromfile, ndarray], ids=lambda function: function.__name__)
def test_cifar10__pickle_that_asks_for_more_than_arrays_is_refused(function, tmp_path, keys):
    victim = tmp_path / "victim"
    argument = f"__import__('os').mkdir({str(victim)!r})" if function is eval else str(victim)
    batch = tmp_path / "batch"
    batch.mkdir()
    (batch / "data_batch_1").write_bytes(pickle.dumps({b"data": Malicious(function, argument)}))
    with pytest.raises(pickle.UnpicklingError, match="CIFAR-10 batches hold arrays only; this file asks for"):
        Photographs(str(batch)).sample(keys(1), FRAME, held_out=False)
    assert not victim.exists()
