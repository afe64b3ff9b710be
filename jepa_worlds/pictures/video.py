"""Videos of episodes: what the agent saw, where the probe says things are, and what the model imagines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from jepa_worlds.pictures.figures import EDGE, MUTED, READOUT, TRUTH, component, newest
from jepa_worlds.shared.files import atomic

Draw = Callable[[int], NDArray[np.uint8]]
"""The image [H, W, 3] of a number in a film."""

SUFFIXES = (".mp4", ".gif")
SIDE, HEADER, GAP = 196, 40, 8  # px: of a panel at least, of its heading, between tiles
LABEL, BAR, ROW = 128, 120, 17  # px: of a gauge's label and bar, and of its height
GAUGES = 10  # at most, beside a frame
BACKGROUND, INK = "#ffffff", "#222222"


@dataclass(frozen=True)
class Gauge:
    """One number over an episode, which is shown on a scale.

    Attributes:
        label: what it is.
        low, high: the ends of the scale.
        truth, readout: [T].
    """

    label: str
    low: float
    high: float
    truth: NDArray
    readout: NDArray


def gauges(name: str, bounds: tuple[NDArray, NDArray], truth: NDArray, readout: NDArray) -> list[Gauge]:
    """A gauge for every component of a factor: between bounds [F], of values [T, F]."""
    low, high = bounds
    return [Gauge(component(name, i, len(low)), low[i], high[i], truth[:, i], readout[:, i]) for i in range(len(low))]


@dataclass(frozen=True)
class Clip:
    """One episode.

    Attributes:
        title: said above it.
        frames: [T, H, W, C], what the agent saw.
        truth, readout: by factor, [T, 2] each, positions (x, y) in px.
        imagined: [T, H, W, C], what the model draws of its own rollout; None if it draws nothing.
        gauges: of what has no place in the frame.
        goal: [H, W, C], what it looks like where the agent is to get; None if frames show it, or there is none.
        returns: [T], the sum of rewards up to each frame; None if nothing is rewarded.
        start: the step of the episode that the first frame shows.
    """

    title: str
    frames: NDArray[np.uint8]
    truth: dict[str, NDArray] = field(default_factory=dict)
    readout: dict[str, NDArray] = field(default_factory=dict)
    imagined: NDArray[np.uint8] | None = None
    gauges: Sequence[Gauge] = ()
    goal: NDArray[np.uint8] | None = None
    returns: NDArray | None = None
    start: int = 0

    @property
    def end(self) -> int:
        """The step of the episode after that of the last frame."""
        return self.start + len(self.frames)

    def between(self, start: int, end: int) -> Clip:
        """Its frames of these steps of the episode, and what belongs to them."""
        kept = slice(start - self.start, end - self.start)
        return replace(
            self,
            start=start,
            frames=self.frames[kept],
            truth={name: x[kept] for name, x in self.truth.items()},
            readout={name: x[kept] for name, x in self.readout.items()},
            imagined=None if self.imagined is None else self.imagined[kept],
            gauges=[replace(x, truth=x.truth[kept], readout=x.readout[kept]) for x in self.gauges],
            returns=None if self.returns is None else self.returns[kept],
        )


def write_video(scenes: Sequence[Sequence[Clip]], columns: int, fps: float, file: Path) -> None:
    """Scenes one after the other, each a grid of clips that play side by side, to an MP4 or a GIF.

    Raises:
        ValueError, OSError: as `check_writable`, or the disk is full.
    """
    check_writable(file, fps)
    _write(*_film(scenes, columns, round(fps)), fps, file)


def write_images(images: Sequence[NDArray[np.uint8]], fps: float, file: Path) -> None:
    """Images [H, W, 3] of one size, with even sides, to an MP4 or a GIF.

    Raises:
        ValueError, OSError: as `check_writable`, or the disk is full.
    """
    check_writable(file, fps)
    _write(images.__getitem__, len(images), fps, file)


def _write(draw: Draw, count: int, fps: float, file: Path) -> None:
    """Images to a file; each is drawn when it is needed, for long films do not fit into memory."""
    with atomic(file) as temporary:
        if file.suffix.lower() == ".gif":
            first, *others = (Image.fromarray(draw(number)) for number in range(count))
            first.save(temporary, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
            return
        try:
            _write_mp4(draw, count, fps, temporary)
        except OSError as error:
            said = " ".join(str(error).split())
            raise OSError(f"ffmpeg could not write {str(file)!r}; is the disk full? It says: {said}") from error


def _write_mp4(draw: Draw, count: int, fps: float, file: Path) -> None:
    from moviepy.video.io.ffmpeg_reader import ffmpeg_parse_infos
    from moviepy.video.VideoClip import VideoClip

    movie = VideoClip(lambda t: draw(round(t * fps)), duration=(count + 0.5) / fps)  # moviepy rounds down
    movie.write_videofile(str(file), fps=fps, codec="libx264", audio=False, logger=None, pixel_format="yuv420p")
    ffmpeg_parse_infos(str(file))  # moviepy does not notice when ffmpeg fails at the end


def check_writable(file: Path, fps: float) -> None:
    """Refuse what is bound to fail, before any work is done.

    Raises:
        ValueError: another suffix, or a number of frames a second that is not positive.
        OSError: the file cannot be written, or there is no encoder.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a video is written as {' or '.join(SUFFIXES)}, got out={str(file)!r}")
    if not (isinstance(fps, (int, float)) and fps > 0):
        raise ValueError(f"fps must be positive, got {fps!r}")
    if file.is_dir():
        raise OSError(f"out={str(file)!r} is a folder: name a file, as in out={str(file / 'video.mp4')!r}")
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise OSError(f"out={str(file)!r} cannot be written: {str(folder)!r} is not a folder that can be written to")
    if file.suffix.lower() == ".gif":
        return
    try:
        from moviepy.config import FFMPEG_BINARY
    except (RuntimeError, OSError) as error:
        raise OSError(f"moviepy finds no ffmpeg: {error}") from error
    if shutil.which(FFMPEG_BINARY) is None:
        raise OSError(
            f"there is no ffmpeg at {FFMPEG_BINARY!r}, and MP4 needs it: point IMAGEIO_FFMPEG_EXE to one, or unset it "
            f"and pip install imageio-ffmpeg; or write a GIF, out={str(file.with_suffix('.gif'))!r}"
        )


def _film(scenes: Sequence[Sequence[Clip]], columns: int, hold: int) -> tuple[Draw, int]:
    """What draws the images of scenes, and how many there are; the last one of each stays for ``hold`` more.

    Below and to the right of the smaller ones, such as those of a last scene with fewer clips, is white space.
    """
    lengths = [max(len(clip.frames) for clip in scene) for scene in scenes]
    shown = [(scene, t) for scene, length in zip(scenes, lengths, strict=True) for t in range(length + hold)]

    def drawn(scene: Sequence[Clip], t: int) -> NDArray[np.uint8]:
        return _grid([_tile(clip, min(t, len(clip.frames) - 1)) for clip in scene], columns)

    sizes = [drawn(scene, 0).shape for scene in scenes]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))

    def draw(number: int) -> NDArray[np.uint8]:
        image = drawn(*shown[number])
        room = (0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)
        return np.pad(image, room, constant_values=255)

    return draw, len(shown)


def _tile(clip: Clip, t: int) -> Image.Image:
    """What was seen, where things are, what was imagined and what else was read off, side by side under a title."""
    scale = -(-SIDE // min(clip.frames.shape[1:3]))
    seen = "seen" if clip.returns is None else f"step {t}, return so far {clip.returns[t]:.4g}"
    panels = [(seen, _scaled(clip.frames[t], scale))]
    if clip.goal is not None:
        panels.append(("goal", _scaled(clip.goal, scale)))
    if clip.truth:
        panels.append((_caption(clip, t), _marked(clip, t, scale)))
    if clip.imagined is not None:
        panels.append(("imagined", _scaled(clip.imagined[t], scale)))
    if clip.gauges:
        panels.append((f"step {t}: O truth  X probe", _gauges(clip.gauges, t)))
    title, width = ImageFont.load_default(14), sum(image.width + GAP for _, image in panels) - GAP
    size = (max(width, round(title.getlength(clip.title))), HEADER + max(image.height for _, image in panels))
    tile, left = Image.new("RGB", size, BACKGROUND), 0
    draw = ImageDraw.Draw(tile)
    draw.text((0, 0), clip.title, INK, title)
    for caption, image in panels:
        draw.text((left, 20), caption, INK, ImageFont.load_default(12))
        tile.paste(image, (left, HEADER))
        left += image.width + GAP
    return tile


def _caption(clip: Clip, t: int) -> str:
    errors = [float(np.linalg.norm(clip.truth[name][t] - clip.readout[name][t])) for name in clip.truth]
    return f"step {t}: O truth  X probe  {' '.join(f'{error:.1f}' for error in errors)} px"


def _gauges(gauges: Sequence[Gauge], t: int) -> Image.Image:
    """A bar a gauge, with a circle at the truth and a cross at the readout; those outside go to its ends."""
    rows, font = min(len(gauges), GAUGES) + (len(gauges) > GAUGES), ImageFont.load_default(11)
    image = Image.new("RGB", (LABEL + BAR, max(SIDE, rows * ROW)), BACKGROUND)
    draw, radius = ImageDraw.Draw(image), 5
    for number, gauge in enumerate(gauges[:GAUGES]):
        y = number * ROW + ROW // 2
        draw.text((0, y - 7), _shortened(gauge.label, LABEL - 2 * radius, font), INK, font)
        left, right = LABEL, LABEL + BAR - 2 * radius
        draw.line([left, y, right, y], fill=MUTED)
        span = max(gauge.high - gauge.low, 1e-12)
        at = [(value[t] - gauge.low) / span for value in (gauge.truth, gauge.readout)]
        true, read = (left + float(np.clip(share, 0, 1)) * (right - left) for share in at)
        draw.ellipse([true - radius, y - radius, true + radius, y + radius], outline=TRUTH, width=2)
        for sign in (-1, 1):
            draw.line([read - 4, y - sign * 4, read + 4, y + sign * 4], fill=READOUT, width=2)
    if len(gauges) > GAUGES:
        draw.text((0, GAUGES * ROW), f"and {len(gauges) - GAUGES} more that are not shown", MUTED, font)
    return image


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a text as fits, from its end, which tells components apart."""
    whole = text
    while font.getlength(text) > width:
        whole = whole[1:]
        text = f"…{whole}"
    return text


def _scaled(frame: NDArray[np.uint8], scale: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(newest(frame))).convert("RGB")
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=EDGE)
    return image


def _marked(clip: Clip, t: int, scale: int) -> Image.Image:
    """The frame with circles around true positions and crosses at probed ones; those outside go to its edge."""
    image = _scaled(clip.frames[t], scale)
    draw, radius, arm = ImageDraw.Draw(image), 2.6 * scale, 1.3 * scale
    for name in clip.truth:
        x, y = (clip.truth[name][t] + 0.5) * scale
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=TRUTH, width=3)
        x, y = np.clip((clip.readout[name][t] + 0.5) * scale, 0, image.size)
        for sign in (-1, 1):
            draw.line([x - arm, y - sign * arm, x + arm, y + sign * arm], fill=READOUT, width=4)
    return image


def _grid(tiles: list[Image.Image], columns: int) -> NDArray[np.uint8]:
    """Tiles in rows; even sides, which video encoders want."""
    width, height = max(tile.width for tile in tiles) + 2 * GAP, max(tile.height for tile in tiles) + 2 * GAP
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = [side + side % 2 for side in (columns * width, rows * height)]
    canvas = Image.new("RGB", (size[0], size[1]), BACKGROUND)
    for number, tile in enumerate(tiles):
        canvas.paste(tile, (number % columns * width + GAP, number // columns * height + GAP))
    return np.asarray(canvas)
