from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from moviepy.video.io import ffmpeg_reader
from PIL import Image

from envs.distractors import video
from envs.distractors.video import Video

FRAME = (12, 16, 3)


def write_pictures(folder, greys) -> None:
    folder.mkdir(parents=True)
    for i, grey in enumerate(greys):
        Image.fromarray(np.full((24, 32, 3), grey, np.uint8)).save(folder / f"{i:05}.png")


def write_video(file, images) -> str:
    from moviepy.video.io.ImageSequenceClip import ImageSequenceClip

    clip = ImageSequenceClip([np.full((48, 64, 3), image, np.uint8) for image in images], fps=8)
    if file.suffix == ".gif":
        clip.write_gif(str(file), logger=None)
    else:
        clip.write_videofile(str(file), codec="libx264", audio=False, logger=None)
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """Twelve clips as folders of pictures: clip i has the greys 20·i, 20·i + 1, …; five of them."""
    path = tmp_path_factory.mktemp("davis")
    for clip in range(12):
        write_pictures(path / f"clip{clip:02}", range(20 * clip, 20 * clip + 5))
    (path / "notes.txt").write_text("no clip")
    (path / "empty").mkdir()
    return str(path)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> str:
    """A video file of 40 frames of growing brightness, 6 apart."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", range(0, 240, 6))


def played(source, key, steps, frame_shape=FRAME, held_out=False) -> np.ndarray:
    """What is seen at every step: [T, n, H, W, C]."""
    state = source.begin(key, frame_shape, held_out)
    seen = [state["image"]]
    for t in range(1, steps + 1):
        state = source.play(state, np.full(len(key), t), held_out)
        seen.append(state["image"])
    return np.stack(seen)


def greys(images) -> np.ndarray:
    """The grey of each image, which is flat: [..., H, W, C] -> [...]."""
    flat = images.reshape(*images.shape[:-3], -1).astype(int)
    assert (np.ptp(flat, axis=-1) <= 3).all()
    return np.round(flat.mean(axis=-1)).astype(int)


def test_play__shows_a_clip_frame_by_frame_and_turns_back_at_its_ends(folder, keys):
    seen = greys(played(Video(folder), keys(200), 20))  # [T, n]
    clip, frame = np.divmod(seen, 20)
    assert (clip == clip[0]).all()
    assert (np.abs(np.diff(frame, axis=0)) == 1).all()
    turned = np.diff(np.sign(np.diff(frame, axis=0)), axis=0) != 0
    assert set(frame[1:-1][turned]) == {0, 4}
    assert set(frame[1:-1][~turned]) == {1, 2, 3}
    assert set(frame[0]) == {0, 1, 2, 3, 4}  # begins anywhere
    assert set(np.sign(np.diff(frame, axis=0)[0])) == {-1, 1}  # in either direction


def test_play__of_a_single_frame_stands_still(tmp_path, keys):
    for clip in range(2):
        write_pictures(tmp_path / f"{clip}", [50 * clip + 9])
    assert (greys(played(Video(str(tmp_path)), keys(5), 4)) == 9).all()


def test_play__is_a_function_of_key_and_time_alone(folder, keys):
    source, key = Video(folder), keys(12)
    seen = played(source, key, 9)
    state = source.begin(key[::-1], FRAME, held_out=False)
    np.testing.assert_array_equal(source.play(state, np.full(12, 9), held_out=False)["image"][::-1], seen[9])


def test_folder__holds_out_every_fifth_clip(folder, keys):
    def clips(held_out, **arguments):
        source = Video(folder, **arguments)
        drawn = greys(source.sample(keys(600), FRAME, held_out)) // 20
        assert set(greys(played(source, keys(200), 3, held_out=held_out)).ravel() // 20) == set(drawn)
        return set(drawn)

    assert clips(held_out=True) == {1, 6, 11}
    assert clips(held_out=False) == set(range(12)) - {1, 6, 11}
    assert clips(held_out=False, limit=3) == {0, 2, 3}
    assert clips(held_out=True, limit=1) == {1}


def test_sample__draws_any_frame_of_any_clip(folder, keys):
    drawn = greys(Video(folder).sample(keys(1000), FRAME, held_out=False))
    assert set(drawn) == {20 * clip + frame for clip in set(range(12)) - {1, 6, 11} for frame in range(5)}


def test_frames__limits_what_is_held_in_memory_to_the_beginning_of_every_clip(folder, keys):
    drawn = greys(Video(folder, frames=9 * 2 + 1).sample(keys(600), FRAME, held_out=False))
    assert set(drawn % 20) == {0, 1}
    assert len(set(drawn // 20)) == 9


def test_single_file__is_split_in_time_with_a_gap(film, keys):
    training, held_out = (np.unique(greys(Video(film).sample(keys(2000), FRAME, part))) for part in (False, True))
    assert len(training) == 30  # 75 % of 40
    assert len(held_out) == 8
    # Limited-range video codes are a little off.
    np.testing.assert_allclose(training, np.arange(0, 180, 6), atol=3)
    np.testing.assert_allclose(held_out, np.arange(192, 240, 6), atol=3)


def test_files__of_a_folder_are_read(tmp_path, keys):
    for name, grey in (("a.mp4", 40), ("b.MP4", 90), ("c.gif", 140), ("d.avi", 200)):
        write_video(tmp_path / name, [grey] * 6)
    shown, held_out = (np.unique(greys(Video(str(tmp_path)).sample(keys(60), FRAME, part))) for part in (False, True))
    np.testing.assert_allclose(shown, [40, 140, 200], atol=3)
    np.testing.assert_allclose(held_out, [90], atol=3)


def test_file__that_ends_before_it_says_is_shown_as_far_as_it_goes(film, monkeypatch):
    told = ffmpeg_reader.ffmpeg_parse_infos
    monkeypatch.setattr(ffmpeg_reader, "ffmpeg_parse_infos", lambda *a, **b: {**told(*a, **b), "video_n_frames": 60})
    with pytest.warns(UserWarning, match="0 bytes read at frame index 40"):
        frames = video._decoded(Path(film), FRAME, 1000)
    assert len(frames) == 40
    assert (np.diff(greys(frames)) > 0).all()


def test_frame__keeps_the_proportions_and_shows_the_middle(tmp_path, keys):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = [200, 100, 50]
    for clip in range(2):
        (tmp_path / f"{clip}").mkdir()
        Image.fromarray(wide).save(tmp_path / f"{clip}" / "0.png")
    assert (Video(str(tmp_path)).sample(keys(3), (10, 10, 3), held_out=False) == [200, 100, 50]).all()
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)  # ITU-R 601, as Pillow converts to grey
    assert np.abs(Video(str(tmp_path)).sample(keys(3), (10, 10, 1), held_out=True).astype(int) - luma).max() <= 1


# --- errors ---


def refused(error, message, path, keys):
    with pytest.raises(error, match=message):
        Video(str(path)).begin(keys(1), FRAME, held_out=False)


def test_path__that_does_not_exist_is_refused(tmp_path, keys):
    refused(
        FileNotFoundError, r"there is no '.*absent'; name a video file, or a folder of clips", tmp_path / "absent", keys
    )


@pytest.mark.parametrize("count", [0, 1])
def test_folder__with_too_few_clips_is_refused(count, tmp_path, keys):
    for clip in range(count):
        write_pictures(tmp_path / "folder" / f"{clip}", [1])
    (tmp_path / "folder").mkdir(exist_ok=True)
    (tmp_path / "folder" / "picture.png").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=rf"has {count} clip\(s\); at least 2 are needed, .* \(\.avi, "):
        Video(str(tmp_path / "folder")).begin(keys(1), FRAME, held_out=True)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99, None], ids=["empty", "text", "cut off"])
def test_file__that_cannot_be_read_is_named(content, film, tmp_path, keys):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(Path(film).read_bytes()[:1500] if content is None else content)
    for path in (tmp_path, tmp_path / "a.mp4"):
        refused(OSError, r"video: '.*a\.mp4' cannot be read: .*; replace it, or remove it", path, keys)


def test_corrupt_picture__of_a_clip_is_named(tmp_path, keys):
    for clip in range(2):
        write_pictures(tmp_path / f"{clip}", [1, 2])
    (tmp_path / "0" / "00001.png").write_bytes(b"no picture")
    refused(OSError, r"0/00001\.png' cannot be read as a picture", tmp_path, keys)


def test_single_file__that_is_too_short_to_split_is_refused(tmp_path, keys):
    file = write_video(tmp_path / "short.mp4", [10, 20, 30])
    refused(OSError, r"short\.mp4' has 3 frame\(s\): too few to hold out the last fifth", file, keys)


def test_ffmpeg__that_is_absent_is_asked_for(film, folder, monkeypatch, tmp_path, keys):
    monkeypatch.setattr("moviepy.config.FFMPEG_BINARY", str(tmp_path / "ffmpeg"))
    with pytest.raises(OSError, match=r"there is no ffmpeg at .*, which reads videos: .* pip install imageio-ffmpeg"):
        Video(film).begin(keys(1), (9, 9, 1), held_out=False)
    Video(folder).begin(keys(1), (9, 9, 1), held_out=False)  # pictures need none


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"frames": 0}, {"frames": None}, {"limit": "all"}], ids=str)
def test_video__refuses_what_is_out_of_range(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"^{name} must be an integer of at least 1(, or null)?, got {value!r}$"):
        Video("films", **arguments)
