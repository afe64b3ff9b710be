"""Videos: files that play, of the right length and size, with markers where things are."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import moviepy.config
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

import envs  # noqa: F401  registers the environments
from jepa_worlds.pictures import video
from jepa_worlds.pictures.figures import READOUT, TRUTH
from jepa_worlds.pictures.video import Clip, Gauge, check_writable, write_video

RGB = NDArray[np.uint8]


def clip(steps: int = 4, size: tuple[int, int, int] = (28, 28, 1), imagined: bool = False, **more: Any) -> Clip:
    frames = np.random.default_rng(0).integers(0, 100, (steps, *size), np.uint8)
    here = {"location": np.full((steps, 2), 13.0)}
    return Clip("title", frames, here, here, frames[::-1] if imagined else None, **more)


def placed(truth: tuple[float, float], readout: tuple[float, float], size: int = 28) -> Clip:
    """One black frame with a true and a probed position."""
    here = {"location": np.array([truth])}, {"location": np.array([readout])}
    return Clip("title", np.zeros((1, size, size, 1), np.uint8), *here)


def played(file: Path) -> tuple[list[RGB], float]:
    """The images of a video, and how many are shown a second."""
    if file.suffix == ".gif":
        with Image.open(file) as gif:
            images, usual = [], gif.info["duration"]
            for number in range(gif.n_frames):  # type: ignore[attr-defined]
                gif.seek(number)  # images that are all alike are one that stays for longer
                images += [np.asarray(gif.convert("RGB"))] * (gif.info["duration"] // usual)
            return images, 1000 / usual
    from moviepy.video.io.VideoFileClip import VideoFileClip

    with VideoFileClip(str(file), audio=False) as movie:
        return [*movie.iter_frames()], movie.fps


def of_colour(image: RGB, colour: str) -> NDArray[np.float64]:
    """(x, y) of the centres of the pixels that have a colour, [N, 2]."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    y, x = np.nonzero((np.abs(image.astype(int) - wanted) < 40).all(axis=-1))
    return np.stack([x, y], axis=1) + 0.5


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- files


@pytest.mark.parametrize(
    ("suffix", "size"), [(".mp4", (28, 28, 1)), (".mp4", (31, 45, 3)), (".gif", (28, 28, 1)), (".GIF", (31, 45, 3))]
)
def test_write_video__writes_a_file_that_plays(tmp_path: Path, suffix: str, size: tuple[int, int, int]) -> None:
    file = tmp_path / "new" / f"video{suffix}"
    scenes = [[clip(4, size), clip(3, size), clip(2, size)], [clip(2, size), clip(5, size), clip(2, size)]]
    write_video(scenes, columns=2, fps=5, file=file)
    images, fps = played(file.rename(file.with_suffix(suffix.lower())))
    assert fps == 5
    assert len(images) == 4 + 5 + 5 + 5  # the longest clip of either scene, and a second on its last image
    height, width = images[0].shape[:2]
    scale = math.ceil(video.SIDE / min(size[:2]))
    assert 2 * 2 * size[1] * scale < width < 2 * (2 * size[1] * scale + 4 * video.GAP)
    assert 2 * size[0] * scale < height < 2 * (size[0] * scale + video.HEADER + 3 * video.GAP)
    assert width % 2 == height % 2 == 0
    assert {image.shape for image in images} == {(height, width, 3)}
    assert [*file.parent.iterdir()] == [file.with_suffix(suffix.lower())]


def test_write_video__fills_up_a_scene_with_fewer_clips(tmp_path: Path) -> None:
    file = tmp_path / "video.mp4"
    write_video([[clip(), clip(), clip()], [clip(imagined=True)], [clip()]], columns=2, fps=1, file=file)
    images, _ = played(file)
    assert len(images) == 3 * (4 + 1)
    assert len({image.shape for image in images}) == 1
    assert images[-1][:20, :20].mean() > 200 and images[-1][-100:].mean() > 250  # white where there is no clip


def test_write_video__shows_the_frames_in_order(tmp_path: Path) -> None:
    frames = np.stack([np.full((28, 28, 1), level, np.uint8) for level in (0, 100, 200)])
    write_video([[Clip("title", frames)]], columns=1, fps=2, file=tmp_path / "video.gif")
    images, _ = played(tmp_path / "video.gif")
    shown = [float(image[100:200, 50:150].mean()) for image in images]  # within the first panel
    assert shown == pytest.approx([0, 100, 200, 200, 200], abs=8)


def test_write_video__replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "video.gif"
    file.write_text("old")
    write_video([[clip()]], columns=1, fps=5, file=file)
    assert len(played(file)[0]) == 4 + 5


# --- what is drawn


@pytest.mark.parametrize("place", [(13.0, 13.0), (4.25, 20.5), (22.0, 6.75)])
def test_marked__has_a_circle_at_the_truth_and_a_cross_at_the_readout(place: tuple[float, float]) -> None:
    other = (27 - place[0], place[1])
    truth = np.asarray(video._marked(placed(place, (-99, -99)), 0, 7))
    circle = of_colour(truth, TRUTH)
    assert circle.mean(axis=0) == pytest.approx((np.array(place) + 0.5) * 7, abs=1)
    radii = np.linalg.norm(circle - (np.array(place) + 0.5) * 7, axis=1)
    assert radii.min() > 2 * 7 and radii.max() < 3 * 7  # a ring around the dot, which it leaves visible
    cross = of_colour(np.asarray(video._marked(placed((-99, -99), other), 0, 7)), READOUT)
    assert cross.mean(axis=0) == pytest.approx((np.array(other) + 0.5) * 7, abs=1)
    x, y = (cross - (np.array(other) + 0.5) * 7).T
    assert np.abs(np.abs(x) - np.abs(y)).max() <= 4  # two diagonals


@pytest.mark.parametrize("place", [(0.2, 13.0), (13.0, 27.0), (27.3, 0.0)])
def test_marked__does_not_move_a_cross_near_the_edge(place: tuple[float, float]) -> None:
    cross = of_colour(np.asarray(video._marked(placed((-99, -99), place), 0, 7)), READOUT)
    nearest = np.linalg.norm(cross - (np.array(place) + 0.5) * 7, axis=1)
    assert nearest.min() < 1 and np.sort(nearest)[len(nearest) // 2] < 1.3 * 7


@pytest.mark.parametrize(("outside", "edge"), [((-50, 13), (0, 13)), ((99, 99), (27, 27)), ((13, -8), (13, 0))])
def test_marked__keeps_a_cross_from_outside_in_sight(outside: tuple[float, float], edge: tuple[float, float]) -> None:
    cross = of_colour(np.asarray(video._marked(placed((13, 13), outside), 0, 7)), READOUT)
    assert len(cross) > 10
    assert np.linalg.norm(cross - (np.array(edge) + 0.5) * 7, axis=1).min() < 7


def test_marked__circles_the_dot_of_the_environment() -> None:
    """The factor `location` is (x, y) with x to the right and y down, the centre of a pixel being a whole number."""
    env = gymnasium.make("jepa_worlds/MovingDot-v0")
    for seed in range(5):
        frame, info = env.reset(seed=seed)
        place = info["factors"]["location"]
        circle = video._marked(Clip("t", frame[None], {"location": place[None]}, {"location": -99 + place[None]}), 0, 7)
        seen = np.repeat(np.repeat(frame[..., 0].astype(float), 7, axis=0), 7, axis=1)
        centres = np.arange(196) + 0.5
        dot = np.array([seen.sum(axis=axis) @ centres / seen.sum() for axis in (0, 1)])  # of mass, (x, y)
        ring = of_colour(np.asarray(circle), TRUTH)
        assert (place > 3).all() and (place < 24).all()  # all of it is in the frame
        assert ring.mean(axis=0) == pytest.approx(dot, abs=2)  # that is, within 0.3 px of the frame
    env.close()


def test_marked__draws_every_factor() -> None:
    truth = {"location.action": np.array([[5.0, 5.0]]), "location.random": np.array([[20.0, 20.0]])}
    image = np.asarray(video._marked(Clip("title", np.zeros((1, 28, 28, 3), np.uint8), truth, truth), 0, 7))
    for place in (5.5 * 7, 20.5 * 7):
        for colour in (TRUTH, READOUT):
            assert (np.linalg.norm(of_colour(image, colour) - place, axis=1) < 3 * 7).any()


def test_tile__puts_seen_marked_and_imagined_side_by_side() -> None:
    seen, imagined = np.full((1, 28, 28, 3), 60, np.uint8), np.full((1, 28, 28, 3), 180, np.uint8)
    here = {"location": np.array([[13.0, 13.0]])}
    tile = np.asarray(video._tile(Clip("title", seen, here, here, imagined), 0))
    assert tile.shape == (video.HEADER + 196, 3 * 196 + 2 * video.GAP, 3)
    panels = [tile[video.HEADER :, left : left + 196] for left in range(0, 3 * 196, 196 + video.GAP)]
    assert (panels[0][1:-1, 1:-1] == 60).all() and (panels[2][1:-1, 1:-1] == 180).all()
    assert (panels[0][0] > 150).all() and (
        panels[0][:, -1] > 150
    ).all()  # an edge, for frames that are white themselves
    assert (panels[1] == 60).mean() > 0.8 and len(of_colour(panels[1], TRUTH)) > 50 < len(of_colour(panels[1], READOUT))
    assert (tile[: video.HEADER] < 128).any()  # the title
    assert (tile[video.HEADER :, 196 : 196 + video.GAP] == 255).all()


def gauge(truth: float, readout: float, label: str = "speed", low: float = -2, high: float = 6) -> Gauge:
    return Gauge(label, low, high, np.array([truth]), np.array([readout]))


@pytest.mark.parametrize(("truth", "readout"), [(-2, 6), (0, 4), (5, -1), (2, 2)])
def test_gauges__mark_truth_and_readout_on_a_scale(truth: float, readout: float) -> None:
    image = np.asarray(video._gauges([gauge(truth, readout)], 0))
    ring, cross = of_colour(image, TRUTH), of_colour(image, READOUT)
    length = video.BAR - 10
    for marks, value in ((ring, truth), (cross, readout)):
        centre = (marks.min(axis=0) + marks.max(axis=0)) / 2
        if truth != readout:  # or one hides the other
            assert centre[0] == pytest.approx(video.LABEL + (value + 2) / 8 * length, abs=2)
        assert centre[1] == pytest.approx(video.ROW // 2, abs=2)
    assert (image[: video.ROW, : video.LABEL - 8] < 128).any()  # the label


def test_gauges__keep_what_is_outside_at_the_ends() -> None:
    image = np.asarray(video._gauges([gauge(99, -99), gauge(3, 3, low=3, high=3)], 0))
    upper = [of_colour(image[: video.ROW], colour)[:, 0].mean() for colour in (TRUTH, READOUT)]
    assert upper == pytest.approx([video.LABEL + video.BAR - 10, video.LABEL], abs=2)
    lower = of_colour(image[video.ROW :], READOUT)[:, 0].mean()
    assert lower == pytest.approx(video.LABEL, abs=2)  # a scale without a length


@pytest.mark.parametrize("count", [10, 11, 30])
def test_gauges__are_ten_at_most_and_say_so(count: int) -> None:
    image = np.asarray(video._gauges([gauge(0, 0)] * count, 0))
    rows = {int(y) // video.ROW for _, y in of_colour(image, READOUT)}
    assert rows == set(range(10))
    assert (image[10 * video.ROW :] < 200).any() == (count > 10)


def test_shortened__keeps_the_end_that_tells_components_apart() -> None:
    font = ImageFont.load_default(11)
    assert video._shortened("speed", 100, font) == "speed"
    short = video._shortened("a_very_long_name_of_something[12]", 100, font)
    assert short.startswith("…") and short.endswith("something[12]") and font.getlength(short) <= 100


def test_tile__has_gauges_where_there_is_no_place_to_mark() -> None:
    frames = np.full((1, 28, 28, 3), 60, np.uint8)
    alone = video._tile(Clip("title", frames), 0)
    beside = video._tile(Clip("title", frames, gauges=[gauge(0, 4)]), 0)
    assert alone.width == 196 and beside.width == 196 + video.GAP + video.LABEL + video.BAR
    assert len(of_colour(np.asarray(beside)[video.HEADER :, 196:], TRUTH)) > 10


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, [0, 0, 0]), (2, [1, 1, 1]), (3, [0, 1, 2]), (4, [3, 3, 3]), (9, [6, 7, 8])]
)
def test_scaled__shows_the_newest_of_stacked_frames(channels: int, shown: list[int]) -> None:
    frame = np.broadcast_to(np.arange(channels, dtype=np.uint8) * 20, (8, 8, channels))
    assert np.asarray(video._scaled(frame, 2))[8, 8].tolist() == [20 * channel for channel in shown]


@pytest.mark.parametrize("side", [(100, 100), (101, 100), (100, 101), (101, 101)])
def test_grid__has_even_sides_as_encoders_want(side: tuple[int, int]) -> None:
    image = video._grid([Image.new("RGB", side)], columns=2)
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    assert 0 <= image.shape[1] - (side[0] + 2 * video.GAP) <= 1


def test_caption__says_how_far_off_the_probe_is() -> None:
    assert video._caption(placed((3, 4), (0, 0)), 0) == "step 0: O truth  X probe  5.0 px"


# --- what is refused


@pytest.mark.parametrize("name", ["video.avi", "video", "gif"])
def test_check_writable__names_the_suffixes_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"written as \.mp4 or \.gif, got out='.*{name}'"):
        check_writable(tmp_path / name, 5)


@pytest.mark.parametrize("fps", [0, -1, "fast", None])
def test_check_writable__refuses_a_speed_that_is_none(tmp_path: Path, fps: Any) -> None:
    with pytest.raises(ValueError, match=rf"fps must be positive, got {fps!r}"):
        check_writable(tmp_path / "video.mp4", fps)


def test_check_writable__refuses_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OSError, match=r"file/sub/video\.mp4' cannot be written: '.*file' is not a folder that can"):
        check_writable(tmp_path / "file" / "sub" / "video.mp4", 5)
    with pytest.raises(OSError, match=r"folder\.mp4' is a folder: name a file"):
        check_writable(tmp_path / "folder.mp4", 5)
    with pytest.raises(OSError, match=r"'/proc' is not a folder that can|cannot write '/proc/video\.gif'"):
        write_video([[clip()]], columns=1, fps=5, file=Path("/proc/video.gif"))


def test_check_writable__says_how_to_get_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moviepy.config, "FFMPEG_BINARY", "/nowhere/ffmpeg")
    message = r"no ffmpeg at '/nowhere/ffmpeg'.*IMAGEIO_FFMPEG_EXE.*imageio-ffmpeg.*out='.*video\.gif'"
    with pytest.raises(OSError, match=message):
        write_video([[clip()]], columns=1, fps=5, file=tmp_path / "video.mp4")
    assert not [*tmp_path.iterdir()]
    write_video([[clip()]], columns=1, fps=5, file=tmp_path / "video.gif")  # needs none


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_write_video__leaves_no_part_of_a_video_on_a_full_disk(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"video{suffix}"
    file.write_text("old")
    with disk_with_room_for(3000), pytest.raises(OSError, match=rf"cannot write .*|could not write .*video{suffix}"):
        write_video([[clip(8)]], columns=1, fps=5, file=file)
    assert [*tmp_path.iterdir()] == [file]
    assert file.read_text() == "old"


def test_write_video__notices_an_encoder_that_fails_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moviepy.video.VideoClip import VideoClip

    monkeypatch.setattr(VideoClip, "write_videofile", lambda self, name, **_: Path(name).write_bytes(b"half"))
    with pytest.raises(OSError, match=r"^ffmpeg could not write '\S*/video\.mp4'; is the disk full\? It says: .*$"):
        write_video([[clip()]], columns=1, fps=5, file=tmp_path / "video.mp4")
    assert not [*tmp_path.iterdir()]


def test_video__shows_the_goal_beside_and_says_the_return_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    draw = video.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        video.ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, *more: (said.append(text), draw(self, at, text, *more)),
    )
    goal = np.full((28, 28, 1), 200, np.uint8)
    acted = Clip("title", np.zeros((3, 28, 28, 1), np.uint8), goal=goal, returns=np.array([0, -1.5, 1234.5678]))
    write_video([[acted]], columns=1, fps=1, file=tmp_path / "video.gif")
    assert said[3:12] == [  # after a first look at the size
        *("title", "step 0, return so far 0", "goal"),
        *("title", "step 1, return so far -1.5", "goal"),
        *("title", "step 2, return so far 1235", "goal"),
    ]
    image = played(tmp_path / "video.gif")[0][0]
    bright = np.flatnonzero((image[100] == 200).all(axis=1))  # from the goal's left edge to its right
    assert (bright.min(), bright.max()) == (8 + 196 + 8 + 1, 8 + 196 + 8 + 196 - 2)


def test_video__has_room_for_long_titles(tmp_path: Path) -> None:
    frames = np.zeros((2, 28, 28, 1), np.uint8)
    clips = [Clip("a title that goes on for longer than its frame is wide", frames), Clip("brief", frames)]
    for shown, file in zip(clips, ("long.gif", "short.gif"), strict=True):
        write_video([[shown]], columns=1, fps=1, file=tmp_path / file)
    long, brief = (played(tmp_path / file)[0][0] for file in ("long.gif", "short.gif"))
    assert brief.shape[1] == 196 + 2 * 8
    assert long.shape[1] > 300
    assert (long[:30, 220:] < 100).any()  # letters


@pytest.mark.parametrize("fps", [3, 7, 12.5, 30])
def test_write_video__of_many_steps_has_them_all_and_draws_one_at_a_time(
    fps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    tile = video._tile
    monkeypatch.setattr(video, "_tile", lambda clip, t: (drawn.append(t), tile(clip, t))[1])
    write_video([[clip(41)]], columns=1, fps=fps, file=tmp_path / "video.mp4")
    assert list(dict.fromkeys(drawn)) == [*range(41)]  # in order, none left out
    images, speed = played(tmp_path / "video.mp4")
    assert len(images) == 41 + round(fps)
    assert speed == fps
