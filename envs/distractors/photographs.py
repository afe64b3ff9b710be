"""Natural photographs, cropped or panned over: those that scikit-image ships, a folder of pictures, or CIFAR-10."""

from __future__ import annotations

import functools
import itertools
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs import random
from envs.arguments import require_whole_or_none
from envs.core import State
from envs.distractors.background import Source
from envs.random import Key

if TYPE_CHECKING:
    from PIL import Image

SHIPPED = ("camera", "coffee", "cat", "rocket", "brick", "grass", "coins", "moon")
SHIPPED_HELD_OUT = ("astronaut", "stereo_motorcycle", "gravel", "hubble_deep_field")
ZOOMS = (2.0, 4.0, 8.0)  # a picture's size in frames
SMALL = 8 / 7  # for pictures less than twice the size of a frame: the paper's crop of 28 px out of CIFAR's 32
PERIOD = 100  # steps in which a moving photograph is zoomed in and out
Album = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]
"""Pictures in one array: pixels [sum of H·W, 1 or 3], where each starts [m], its height and width [m, 2]."""
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Photographs(Source):
    """Random crops of photographs, at random zooms and mirrored at random; grey if the frame has one channel.

    With ``dynamics=playing`` the crop moves over its photograph in a random direction, turned back by the edges, while
    it grows and shrinks again: panning and zooming. Training and held-out episodes show disjoint pictures if ``split``.

    Attributes:
        path: nothing for the photographs that scikit-image ships (eight, and four held out); a folder of pictures
            (every fifth, by name, is held out); or a folder with CIFAR-10's ``data_batch_*`` and ``test_batch`` files
            (Python or binary version; the test batch is held out, as in the paper).
        limit: at most this many pictures for training, and as many held out: the first ones. None for all.
        speed: of a moving crop, in px of the picture a step.
        zoom: a moving crop shows between 1 and 1 + zoom times the width of a frame, if the picture is so large.
        recolour: of training's crops, half in colours of their own: few pictures lack many colours, and what has never
            seen a red background takes red for the agent.
        split: whether held-out episodes show other pictures than training. If not, both show crops of all.

    Raises:
        ValueError: a limit below 1; a speed or a zoom that is negative or not finite.
        FileNotFoundError: the path is not a folder, or holds too few pictures.
        OSError: a picture that cannot be read.
    """

    path: str | None = None
    limit: int | None = None
    speed: float = 1.0
    zoom: float = 0.25
    recolour: bool = False
    split: bool = True

    def __post_init__(self) -> None:
        require_whole_or_none(limit=self.limit)
        for name in ("speed", "zoom"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)!r}")

    def sample(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> NDArray[np.uint8]:
        height, width, _ = frame_shape
        pixels, start, size = self._album(frame_shape, held_out)
        picture = random.integers(random.fold_in(key, 0), len(start))
        top = random.integers(random.fold_in(key, 1), size[picture, 0] - height + 1)
        left = random.integers(random.fold_in(key, 2), size[picture, 1] - width + 1)
        mirrored = random.integers(random.fold_in(key, 3), 2) == 1
        column = np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width))  # [n, W]
        row = (top[:, None] + np.arange(height)) * size[picture, 1][:, None]  # [n, H]
        index = (start[picture] + left)[:, None, None] + row[:, :, None] + column[:, None, :]  # [n, H, W]
        image = np.ascontiguousarray(np.broadcast_to(pixels[index], (len(key), *frame_shape)))
        return self._coloured(random.fold_in(key, 4), image, held_out)

    def begin(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> State:
        return self._moved(key, np.zeros(len(key), np.int64), frame_shape, held_out)

    def play(self, state: State, time: NDArray[np.int64], held_out: bool) -> State:
        return self._moved(state["key"], time, state["image"].shape[1:], held_out)

    def _moved(self, key: Key, time: NDArray[np.int64], frame_shape: tuple[int, ...], held_out: bool) -> State:
        """The crops at step ``time`` [n]."""
        height, width, channels = frame_shape
        pixels, start, size = self._album((height, width, channels), held_out)
        picture = random.integers(random.fold_in(key, 0), len(start))
        mirrored = random.integers(random.fold_in(key, 1), 2) == 1
        low, span = self._path(random.fold_in(key, 2), time, np.array([height, width]), size[picture])
        image = np.empty((len(key), *frame_shape), np.uint8)
        for i, chosen in enumerate(picture):
            whole = pixels[start[chosen] : start[chosen] + size[chosen].prod()].reshape(*size[chosen], -1)
            image[i] = _cut(whole, low[i], span[i], height, width)
        image[mirrored] = image[mirrored, :, ::-1]
        return {"key": key, "image": self._coloured(random.fold_in(key, 3), image, held_out)}

    def _album(self, frame_shape: tuple[int, int, int], held_out: bool) -> Album:
        return _album(self.path, self.limit, frame_shape, (held_out,) if self.split else (False, True))

    def _coloured(self, key: Key, image: NDArray[np.uint8], held_out: bool) -> NDArray[np.uint8]:
        """Crops [n, H, W, C], half of them with every channel scaled and shifted, and of half of these reversed."""
        if held_out or not self.recolour:
            return image
        channels = (1, 1, image.shape[3])
        gain = np.exp(random.uniform(random.fold_in(key, 0), channels, low=-1.0, high=1.0))
        sign = np.where(random.integers(random.fold_in(key, 1), 2), 1, -1)[:, None, None, None]
        grey = random.uniform(random.fold_in(key, 2), channels, high=255.0)  # what medium grey becomes
        chosen = random.integers(random.fold_in(key, 3), 2) == 1
        coloured = (image[chosen] - 127.5) * (sign * gain)[chosen] + grey[chosen]
        found = image.copy()
        found[chosen] = np.clip(coloured, 0, 255).round().astype(np.uint8)
        return found

    def _path(
        self, key: Key, time: NDArray[np.int64], frame: NDArray[np.int64], size: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the crops begin and how far they go at step ``time`` [n], in px (down, right) of their pictures
        [n, 2], from the size (H, W) of a frame and those of the pictures [n, 2].
        """
        most = np.minimum(1 + self.zoom, (size / frame).min(axis=1))[:, None]  # frames in a crop at most
        turn = random.uniform(random.fold_in(key, 0)) + time / PERIOD
        span = frame * (1 + (most - 1) * (1 - np.cos(2 * np.pi * turn[:, None])) / 2)
        room = size - frame * most  # for the middle of a crop, px
        heading = random.uniform(random.fold_in(key, 1), high=2 * np.pi)
        way = self.speed * time[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
        way += random.uniform(random.fold_in(key, 2), (2,)) * room
        way = room - np.abs(np.mod(way, np.maximum(2 * room, 1e-9)) - room)  # there and back again
        return np.clip(frame * most / 2 + way - span / 2, 0, size - span), span


def _cut(
    picture: NDArray[np.uint8], low: NDArray[np.float64], span: NDArray[np.float64], height: int, width: int
) -> NDArray[np.uint8]:
    """A crop of [h, w, C] that need not begin or end at whole pixels, as [height, width, C]."""
    from PIL import Image

    (top, left), (bottom, right) = low.astype(int), np.ceil(low + span).astype(int)
    part = picture[top:bottom, left:right]
    (y, x), (down, across) = low - (top, left), span
    image = Image.fromarray(part if part.shape[2] == 3 else part[..., 0])
    resized = image.resize((width, height), Image.Resampling.BILINEAR, (x, y, x + across, y + down))
    return np.asarray(resized).reshape(height, width, -1)


@functools.lru_cache(maxsize=8)
def _album(path: str | None, limit: int | None, frame_shape: tuple[int, int, int], parts: tuple[bool, ...]) -> Album:
    """The pictures that are held out, or those that are not, or both, at every size."""
    shown = (_shipped(held_out) if path is None else _stored(Path(path), held_out) for held_out in parts)
    pictures = itertools.chain.from_iterable(itertools.islice(part, limit) for part in shown)
    sized = [image for picture in pictures for image in _resized(picture, frame_shape)]
    pixels = np.concatenate([image.reshape(-1, image.shape[2]) for image in sized])
    start = np.cumsum([0] + [image.shape[0] * image.shape[1] for image in sized[:-1]])
    return pixels, start, np.array([image.shape[:2] for image in sized])


def _resized(picture: NDArray[np.uint8], frame_shape: tuple[int, int, int]) -> Iterator[NDArray[np.uint8]]:
    """A picture [h, w] or [h, w, 3] at every zoom that does not enlarge it; a small one at a single zoom."""
    from PIL import Image

    height, width, channels = frame_shape
    image = Image.fromarray(picture).convert("RGB" if channels == 3 else "L")
    fit = min(image.height / height, image.width / width)
    for zoom in [zoom for zoom in ZOOMS if zoom <= fit] or [SMALL]:
        scale = zoom / fit
        size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        resized = np.asarray(image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image)
        yield resized.reshape(*resized.shape[:2], -1)


def _shipped(held_out: bool) -> Iterator[NDArray[np.uint8]]:
    from skimage import data

    for name in SHIPPED_HELD_OUT if held_out else SHIPPED:
        picture = getattr(data, name)()
        yield picture[0] if isinstance(picture, tuple) else picture  # of the stereo pair, the left one


def _stored(folder: Path, held_out: bool) -> Iterator[NDArray[np.uint8]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"photographs: {str(folder)!r} is not a folder of pictures or of CIFAR-10")
    if any(folder.glob("data_batch_*")):
        yield from _cifar10(folder, held_out)
        return
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    chosen = [file for i, file in enumerate(files) if (i % 5 == 1) == held_out]
    if not chosen:
        raise FileNotFoundError(
            f"photographs: {str(folder)!r} has {len(files)} picture(s); at least 2 are needed: the second by name, and "
            f"every fifth after it, are held out"
        )
    for file in chosen:
        yield np.asarray(opened(file))


def opened(file: Path) -> Image.Image:
    """A picture from a file, in colour.

    Raises:
        OSError: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise OSError(f"{str(file)!r} cannot be read as a picture: {error}; replace it, or remove it") from error


def _cifar10(folder: Path, held_out: bool) -> Iterator[NDArray[np.uint8]]:
    """The pictures of CIFAR-10, [32, 32, 3] each."""
    files = sorted(folder.glob("test_batch*" if held_out else "data_batch_*"))
    if not files:
        raise FileNotFoundError(f"photographs: {str(folder)!r} lacks CIFAR-10's test_batch, which is held out")
    for file in files:
        if file.suffix == ".bin":  # a label and 3·32·32 pixels a picture
            pixels = np.fromfile(file, np.uint8).reshape(-1, 3073)[:, 1:]
        else:
            with file.open("rb") as stream:
                pixels = _ArrayUnpickler(stream, encoding="bytes").load()[b"data"]
        yield from pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads CIFAR-10's pickles of arrays, and refuses whatever else a pickle may ask for."""

    def find_class(self, module: str, name: str) -> object:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"CIFAR-10 batches hold arrays only; this file asks for {module}.{name}")
