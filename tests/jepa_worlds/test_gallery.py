"""The gallery: every world under every distractor, each in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from jepa_worlds import gallery
from jepa_worlds.data.environments import native_ids
from jepa_worlds.gallery import FRAME, GAP, native_rows, picture
from jepa_worlds.shared.app import composed, plain

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)


def film(*colours: tuple[int, int, int], size: int = 8) -> np.ndarray:
    return np.stack([np.full((size, size, 3), colour, np.uint8) for colour in colours])


def run(path: Path, native: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, **changed: Any) -> Path:
    """The command with these native rows, columns ``plain`` and ``noise``, and whatever is changed."""
    monkeypatch.setattr(gallery, "native_rows", lambda: native)
    columns = {"plain": ["distractor=none"], "noise": ["distractor=uniform"]}
    settings = plain(composed("gallery", [f"out={path}"])) | {"columns": columns, "rows": {}, "steps": 2, "cell": 32}
    return gallery.main(OmegaConf.create(settings | changed))


def cells(image: Image.Image, cell: int, columns: int) -> list[list[np.ndarray]]:
    """The pictures in the grid, which ends at the right and at the bottom."""
    pixels, pitch = np.asarray(image.convert("RGB")), cell + GAP
    frame = [int(FRAME[i : i + 2], 16) for i in (1, 3, 5)]
    outline = (pixels == frame).all(axis=-1)
    top, left = (int(np.argmax(outline.sum(axis=axis) >= cell)) + 1 for axis in (1, 0))
    rows = (pixels.shape[0] - top) // pitch
    assert (pixels.shape[1] - left) // pitch == columns
    return [[pixels[top + y * pitch :, left + x * pitch :][:cell, :cell] for x in range(columns)] for y in range(rows)]


def test_native_rows__are_all_native_worlds():
    found = native_rows()
    ids = [composed("collect", ["out=x", *overrides]).env.id for overrides in found.values()]
    assert set(ids) == set(native_ids())
    assert len(ids) == len(set(ids))
    assert found["Moving Dot"] == ["env=moving_dot"]
    assert found["Pendulum"] == ["env=pendulum"]


def test_picture__has_every_film_in_its_place():
    grid = {"above": [film(RED), film(GREEN)], "below": [film(BLUE), film(GREY)]}
    image = picture(grid, ["left", "right"], cell=32, step=0)
    colours = [[tuple(cell[16, 16]) for cell in row] for row in cells(image, 32, 2)]
    assert colours == [[RED, GREEN], [BLUE, GREY]]
    for row in cells(image, 32, 2):
        for cell in row:
            assert (cell == cell[0, 0]).all()  # it is filled to its edges
    assert all(side % 2 == 0 for side in image.size)


def test_picture__shows_a_step_and_stays_at_the_end():
    grid = {"a row": [film(RED, GREEN, BLUE), film(GREY, RED)]}
    shown = [[tuple(cell[5, 5]) for cell in cells(picture(grid, ["x", "y"], 32, t), 32, 2)[0]] for t in range(3)]
    assert shown == [[RED, GREY], [GREEN, RED], [BLUE, RED]]


@pytest.mark.parametrize(("size", "cell"), [(28, 128), (64, 128), (100, 64)])
def test_picture__enlarges_without_shifting(size, cell):
    frames = np.zeros((1, size, size, 1), np.uint8)
    frames[0, : size // 2, : size // 4] = 255
    found = cells(picture({"a": [frames]}, ["b"], cell, 0), cell, 1)[0][0]
    assert abs(found.mean() - 255 / 8) < 1
    assert (found[: cell // 2 - 2, : cell // 4 - 2] == 255).all()
    assert (found[cell // 2 + 2 :] == 0).all()
    assert (found[:, cell // 4 + 2 :] == 0).all()


def test_picture__labels_rows_and_columns():
    names = ["one", "a name of several words that take more than a line", "Pendulum"]

    def ink(row: str, column: str) -> tuple[int, int]:
        pixels = np.asarray(picture({row: [film((255, 255, 255))]}, [column], 96, 0)).min(axis=-1) < 120
        return int(pixels[:, : -96 - GAP].sum()), int(pixels[: -96 - GAP].sum())

    beside, above = zip(*(ink(name, name) for name in names), strict=True)
    assert all(count > 20 for count in beside + above)
    assert len(set(beside)) == len(set(above)) == 3


def test_picture__shows_the_newest_of_stacked_frames():
    stacked = np.concatenate([film(RED), film(GREEN)], axis=-1)
    assert tuple(cells(picture({"a": [stacked]}, ["b"], 32, 0), 32, 1)[0][0][9, 9]) == GREEN


def test_gallery__shows_the_same_episode_under_every_distractor(tmp_path, monkeypatch):
    rows = {"Dot": ["env=moving_dot"], "Pole": ["env=pendulum"]}
    columns = {"plain": ["distractor=none"], "again": ["distractor=none"], "noise": ["distractor=uniform"]}
    out = run(tmp_path / "folder" / "worlds.png", rows, monkeypatch, columns=columns, cell=64)
    with Image.open(out) as image:
        found = cells(image, 64, 3)
    assert len(found) == 2
    for row in found:
        assert np.array_equal(row[0], row[1])
        assert not np.array_equal(row[0], row[2])
        assert row[0].std() > 5  # there is something to see


def test_gallery__is_the_same_again_and_another_with_another_seed(tmp_path, monkeypatch):
    rows = {"Dot": ["env=moving_dot"]}
    first, again, other = (
        run(tmp_path / f"{n}.png", rows, monkeypatch, seed=seed).read_bytes() for n, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_gallery__moves_in_a_film(tmp_path, monkeypatch, suffix):
    out = run(tmp_path / f"worlds{suffix}", {"Dot": ["env=moving_dot"]}, monkeypatch, steps=3)
    if suffix == ".gif":
        with Image.open(out) as gif:
            assert gif.n_frames == 4
            assert gif.info["duration"] == 100
    else:
        from moviepy.video.io.VideoFileClip import VideoFileClip

        with VideoFileClip(str(out), audio=False) as movie:
            frames = [*movie.iter_frames()]
        assert len(frames) == 4
        assert len({frame.tobytes() for frame in frames}) == 4


def test_gallery__leaves_out_extra_rows_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    extra = {"Others": ["env.id=jepa_worlds/NoSuch-v0"], "Three": ["env=three_dots"]}
    out = run(tmp_path / "worlds.png", {"Dot": ["env=moving_dot"]}, monkeypatch, rows=extra)
    with Image.open(out) as image:
        assert len(cells(image, 32, 2)) == 2
    assert "Others is left out: unknown env.id='jepa_worlds/NoSuch-v0'" in capsys.readouterr().err


def test_gallery__does_not_hide_a_native_world_that_fails(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"unknown env\.id"):
        run(tmp_path / "worlds.png", {"Others": ["env.id=jepa_worlds/NoSuch-v0"]}, monkeypatch)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"out": "worlds.jpg"}, r"a gallery is a \.png, or as a film \.mp4 or \.gif; got out='worlds\.jpg'"),
        ({"out": "worlds.gif", "fps": 0}, "fps must be positive, got 0"),
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"cell": 2.5}, "cell must be an integer of at least 16, got 2.5"),
        ({"columns": {}}, "columns must name at least one distractor"),
    ],
)
def test_gallery__refuses(changed, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(Path("worlds.png"), {}, monkeypatch, **changed)
    assert list(tmp_path.iterdir()) == []
