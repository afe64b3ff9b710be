"""Crops of natural photographs: those that scikit-image ships, a folder of pictures, or CIFAR-10."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs import random
from envs.distractors.background import Source
from envs.random import Key

SHIPPED = ("camera", "coffee", "cat", "rocket", "brick", "grass", "coins", "moon")
SHIPPED_HELD_OUT = ("astronaut", "stereo_motorcycle", "gravel", "hubble_deep_field")
ZOOMS = (2.0, 4.0, 8.0)  # a picture's size in frames
SMALL = 8 / 7  # for pictures less than twice the size of a frame: the paper's crop of 28 px out of CIFAR's 32
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Photographs(Source):
    """Random crops of photographs, at random zooms and mirrored at random; grey if the frame has one channel.

    Training and held-out episodes show disjoint pictures.

    Attributes:
        path: nothing for the photographs that scikit-image ships (eight, and four held out); a folder of pictures
            (every fifth, by name, is held out); or a folder with CIFAR-10's ``data_batch_*`` and ``test_batch`` files
            (Python or binary version; the test batch is held out, as in the paper).

    Raises:
        FileNotFoundError: the path is not a folder, or holds too few pictures.
    """

    path: str | None = None

    def sample(self, key: Key, frame_shape: tuple[int, int, int], held_out: bool) -> NDArray[np.uint8]:
        height, width, _ = frame_shape
        pixels, start, size = _album(self.path, frame_shape, held_out)
        picture = random.integers(random.fold_in(key, 0), len(start))
        top = random.integers(random.fold_in(key, 1), size[picture, 0] - height + 1)
        left = random.integers(random.fold_in(key, 2), size[picture, 1] - width + 1)
        mirrored = random.integers(random.fold_in(key, 3), 2) == 1
        column = np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width))  # [n, W]
        row = (top[:, None] + np.arange(height)) * size[picture, 1][:, None]  # [n, H]
        index = (start[picture] + left)[:, None, None] + row[:, :, None] + column[:, None, :]  # [n, H, W]
        return np.ascontiguousarray(np.broadcast_to(pixels[index], (len(key), *frame_shape)))


@functools.lru_cache(maxsize=8)
def _album(
    path: str | None, frame_shape: tuple[int, int, int], held_out: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All pictures in one array: pixels [sum of H·W, 1 or 3], where each starts [m], its height and width [m, 2]."""
    pictures = _shipped(held_out) if path is None else _stored(Path(path), held_out)
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
    from PIL import Image

    if not folder.is_dir():
        raise FileNotFoundError(f"photographs: {str(folder)!r} is not a folder of pictures or of CIFAR-10")
    if any(folder.glob("data_batch_*")):
        yield from _cifar10(folder, held_out)
        return
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    chosen = [file for i, file in enumerate(files) if (i % 5 == 1) == held_out]
    if not chosen:
        raise FileNotFoundError(
            f"photographs: {str(folder)!r} has {len(files)} picture(s); at least 2 are needed, because training and "
            f"held-out episodes show different ones"
        )
    for file in chosen:
        yield np.asarray(Image.open(file).convert("RGB"))


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
