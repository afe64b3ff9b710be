"""Videos that play in the background: any that moviepy reads, or folders of frames such as those of DAVIS."""

from __future__ import annotations

import functools
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs import random
from envs.arguments import require_whole, require_whole_or_none
from envs.core import State
from envs.distractors.background import Source
from envs.distractors.photographs import PICTURES, opened
from envs.random import Key

if TYPE_CHECKING:
    from PIL import Image

VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".gif"}


@dataclass(frozen=True)
class Video(Source):
    """Clips that are cropped to the shape of a frame and shrunk to its size; grey if it has one channel.

    With ``dynamics=playing`` an episode shows one clip from a random frame on, forward or backward, a frame a step,
    turned back at its ends as in the Distracting Control Suite. Otherwise its frames are drawn like photographs.

    Training and held-out episodes show disjoint clips. Clips are decoded once and stay in memory.

    Attributes:
        path: a folder of clips, each a video file or a folder of pictures in the order of their names (every fifth
            clip, by name, is held out); or a single video file, the first 75 % of whose frames are shown in training
            and the last 20 % in held-out episodes, with a gap of 5 % between them.
        limit: at most this many clips for training, and as many held out: the first ones. None for all.
        frames: at most this many frames are held in memory, the same number of every clip: its first ones. At 64×64×3
            10 000 take 123 MB.

    Raises:
        ValueError: a limit or a number of frames below 1.
        FileNotFoundError: the path does not exist, or holds too few clips.
        OSError: a clip that cannot be read or is too short to be split, or no ffmpeg.
    """

    path: str
    limit: int | None = None
    frames: int = 10_000

    def __post_init__(self) -> None:
        require_whole(frames=self.frames)
        require_whole_or_none(limit=self.limit)

    def sample(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> NDArray[np.uint8]:
        frames, start, length = _clips(self, frame_shape, held_out)
        clip = random.integers(random.fold_in(key, 0), len(start))
        return frames[start[clip] + random.integers(random.fold_in(key, 1), length[clip])]

    def begin(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> State:
        return self._played(key, np.zeros(len(key), np.int64), frame_shape, held_out)

    def play(self, state: State, time: NDArray[np.int64], held_out: bool) -> State:
        height, width, channels = state["image"].shape[1:]
        return self._played(state["key"], time, (height, width, channels), held_out)

    def _played(self, key: Key, time: NDArray[np.int64], frame_shape: tuple[int, int, int], held_out: bool) -> State:
        """The frames at step ``time`` [n]."""
        frames, start, length = _clips(self, frame_shape, held_out)
        clip = random.integers(random.fold_in(key, 0), len(start))
        last = length[clip] - 1
        round_trip = np.maximum(2 * last, 1)  # steps there and back again
        at = (random.integers(random.fold_in(key, 1), round_trip) + time) % round_trip
        return {"key": key, "image": frames[start[clip] + np.minimum(at, 2 * last - at)]}


@functools.lru_cache(maxsize=4)
def _clips(
    video: Video, frame_shape: tuple[int, int, int], held_out: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All clips in one array: frames [N, H, W, C], where each clip starts [m], and its length [m]."""
    path = Path(video.path)
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in VIDEOS or _holds_pictures(file)]
        chosen = [file for i, file in enumerate(files) if (i % 5 == 1) == held_out][: video.limit]
        if not chosen:
            raise FileNotFoundError(
                f"video: {video.path!r} has {len(files)} clip(s); at least 2 are needed, because training and "
                f"held-out episodes show different ones. A clip is a folder of pictures, or a file "
                f"({', '.join(sorted(VIDEOS))}); name a single file itself, and it is split in time"
            )
        clips = [_decoded(file, frame_shape, max(1, video.frames // len(chosen))) for file in chosen]
    elif path.is_file():
        clips = [_part(_decoded(path, frame_shape, video.frames), path, held_out)]
    else:
        raise FileNotFoundError(f"video: there is no {video.path!r}; name a video file, or a folder of clips")
    length = np.array([len(clip) for clip in clips])
    return np.concatenate(clips), np.cumsum(length) - length, length


def _part(frames: NDArray[np.uint8], file: Path, held_out: bool) -> NDArray[np.uint8]:
    """The part of a single clip that training or held-out episodes show: [N, H, W, C] -> [fewer, H, W, C]."""
    n = len(frames)
    if n < 5:
        raise OSError(f"video: {str(file)!r} has {n} frame(s): too few to hold out the last fifth; name a longer one")
    return frames[n - n // 5 :] if held_out else frames[: n * 3 // 4]


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(file.suffix.lower() in PICTURES for file in folder.iterdir())


def _decoded(clip: Path, frame_shape: tuple[int, int, int], most: int) -> NDArray[np.uint8]:
    """The first frames of a clip: [N, H, W, C]."""
    from PIL import Image, ImageOps

    height, width, channels = frame_shape
    pictures = _pictures(clip) if clip.is_dir() else _read(clip)
    frames = [
        np.asarray(
            ImageOps.fit(picture.convert("RGB" if channels == 3 else "L"), (width, height), Image.Resampling.BOX)
        ).reshape(height, width, -1)
        for picture in itertools.islice(pictures, most)
    ]
    return np.ascontiguousarray(np.broadcast_to(frames, (len(frames), *frame_shape)))


def _pictures(folder: Path) -> Iterator[Image.Image]:
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in PICTURES:
            yield opened(file)


def _read(file: Path) -> Iterator[Image.Image]:
    """The frames of a video file, one by one."""
    from PIL import Image

    try:
        from moviepy.config import FFMPEG_BINARY
        from moviepy.video.io.ffmpeg_reader import FFMPEG_VideoReader
    except (OSError, RuntimeError) as error:
        raise OSError(f"video: moviepy finds no ffmpeg, which reads videos: {error}") from error
    if shutil.which(FFMPEG_BINARY) is None:
        raise OSError(
            f"video: there is no ffmpeg at {FFMPEG_BINARY!r}, which reads videos: point IMAGEIO_FFMPEG_EXE to one, or "
            f"unset it and pip install imageio-ffmpeg; a folder of pictures needs none"
        )
    try:
        reader = FFMPEG_VideoReader(str(file), decode_file=False)
    except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        said = " ".join(re.sub(r"\[[^]]*@ 0x[0-9a-f]+\]", "", str(error)).split())[:300]  # ffmpeg names addresses
        raise OSError(f"video: {str(file)!r} cannot be read: {said}; replace it, or remove it") from error
    try:
        frame = reader.last_read
        yield Image.fromarray(frame)
        for _ in range(reader.n_frames - 1):
            before, frame = frame, reader.read_frame()
            if frame is before:  # the file ends before it says
                return
            yield Image.fromarray(frame)
    finally:
        reader.close()
