"""Drawing of batches of pictures: anti-aliased discs, capsules, boxes and polygons, one of each kind a world.

A shape covers a pixel by ½ − d, clipped to [0, 1], where d is the signed distance in px from the pixel's centre to the
shape's edge (negative inside; formulas after Inigo Quilez). Only a window around each shape is visited. Boxes are
exact; outside a polygon's corner d is the largest distance to the lines of its edges and to its bounding box.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from envs.core import State, World

Floats = NDArray[np.float32]

CHUNK = 64  # worlds drawn at a time, so that what is in hand stays in the processor's cache


class Canvas:
    """A batch of pictures of one size to draw on, later shapes over earlier ones.

    Points are (x, y) in px: x the column, y the row, whole numbers at the centres of pixels. A point or a number is
    one for all pictures, or one each ([n, 2], [n]); so is a colour ((r, g, b), or [n, 3]).

    Args:
        pixels: uint8 [n, H, W, 3] to draw on; or [n, H, W, 1] for a mask: whatever the colour, shapes are 255.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def disc(self, centre: ArrayLike, radius: ArrayLike, colour: ArrayLike) -> None:
        """All points within ``radius`` of ``centre``."""
        self.capsule(centre, centre, radius, colour)

    def capsule(self, start: ArrayLike, end: ArrayLike, radius: ArrayLike, colour: ArrayLike) -> None:
        """All points within ``radius`` of the line from ``start`` to ``end``."""
        a, b, r = self._points(start), self._points(end), self._numbers(radius)
        self._fill(np.minimum(a, b) - r[:, None], np.maximum(a, b) + r[:, None], colour, _capsule, a, b - a, r)

    def box(self, low: ArrayLike, high: ArrayLike, colour: ArrayLike) -> None:
        """The upright rectangle from corner ``low`` to corner ``high``; pixels are covered by exact area."""
        a, b = self._points(low), self._points(high)
        self._fill(a, b, colour, _upright, a, b)

    def polygon(self, corners: ArrayLike, colour: ArrayLike) -> None:
        """The convex polygon with these corners, in either direction: [k, 2], or [n, k, 2]; corners may repeat."""
        points = np.asarray(corners, np.float32)
        points = np.broadcast_to(points, (len(self.pixels), *points.shape[-2:]))
        edge = np.roll(points, -1, axis=1) - points  # [n, k, 2]
        spoke = points - points[:, :1]
        area = (spoke[..., 0] * edge[..., 1] - spoke[..., 1] * edge[..., 0]).sum(axis=1)  # [n], its sign the direction
        turn = np.where(area < 0, np.float32(-1), np.float32(1))[:, None]  # [n, 1]
        length = np.sqrt(edge[..., 0] ** 2 + edge[..., 1] ** 2)  # [n, k]
        outward = np.stack([edge[..., 1], -edge[..., 0]], axis=-1)
        outward *= (turn / np.maximum(length, np.float32(1e-6)))[..., None]  # [n, k, 2], unit
        reach = (outward * points).sum(axis=-1)  # [n, k]: a point p is inside where outward·p ≤ reach for all k
        reach[length < 1e-3] = np.inf  # corners in one place: the line between them has no direction to speak of
        low, high = points.min(axis=1), points.max(axis=1)
        self._fill(low, high, colour, _convex, low, high, outward, reach)

    def _points(self, points: ArrayLike) -> Floats:
        return np.broadcast_to(np.asarray(points, np.float32), (len(self.pixels), 2))

    def _numbers(self, numbers: ArrayLike) -> Floats:
        return np.broadcast_to(np.asarray(numbers, np.float32), len(self.pixels))

    def _fill(
        self, low: Floats, high: Floats, colour: ArrayLike, coverage: Callable[..., Floats], *shape: Floats
    ) -> None:
        """Blend a colour in, by the ``coverage`` of a shape that lies between two corners [n, 2]."""
        n, height, width, channels = self.pixels.shape
        colours = np.broadcast_to(np.asarray(255 if channels == 1 else colour, np.float32), (n, channels))
        for part in (slice(i, i + CHUNK) for i in range(0, n, CHUNK)):
            frames = self.pixels[part]
            columns = _window(low[part, 0], high[part, 0], width)
            rows = _window(low[part, 1], high[part, 1], height)
            x, y = columns.astype(np.float32)[:, None, :], rows.astype(np.float32)[:, :, None]  # [n, 1, w], [n, h, 1]
            share = coverage(x, y, *(array[part] for array in shape))[..., None]  # [n, h, w, 1]
            windows = np.lib.stride_tricks.sliding_window_view(
                frames, (rows.shape[1], columns.shape[1]), axis=(1, 2), writeable=True
            )  # [n, top, left, C, h, w]
            at = (np.arange(len(frames)), rows[:, 0], columns[:, 0])
            under = np.moveaxis(windows[at], 1, -1).astype(np.float32)  # [n, h, w, C]
            under += (colours[part, None, None] - under) * share
            under += np.float32(0.5)
            windows[at] = np.moveaxis(under.astype(np.uint8), -1, 1)


class View:
    """Where world coordinates (x to the right, y up) are in pictures.

    Args:
        shape: (H, W) of the pictures in px.
        centre: the point of the world that is in the middle.
        width: of what is seen, in units of the world.

    Raises:
        ValueError: a side of the pictures that is not a whole number of px.
    """

    def __init__(self, shape: tuple[int, int], centre: tuple[float, float], width: float) -> None:
        if not all(type(side) is int and side > 0 for side in shape):
            raise ValueError(f"the sides of a frame must be whole numbers of px, at least 1, got {shape!r}")
        self.scale = shape[1] / width  # px a unit
        self.middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
        self.centre = np.array(centre)

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (x, y) [..., 2] of the world in px."""
        return self.middle + (np.asarray(points) - self.centre) * [self.scale, -self.scale]

    def space(self, low: tuple[float, float], high: tuple[float, float]) -> spaces.Box:
        """The px (x, y) of points between two corners of the world; they may be outside the pictures."""
        (left, bottom), (right, top) = self([low, high]).astype(np.float32)  # rounded as the points will be
        return spaces.Box(np.array([left, top]), np.array([right, bottom]), dtype=np.float32)


class DrawnWorld(World):
    """A world whose frames are drawn on a `Canvas`.

    The scene is whatever is drawn; `backdrop` is seen where nothing is, and backgrounds can be blended in there.
    """

    def scenery(self, canvas: Canvas) -> None:
        """Draw what is the same in all worlds at all times, on one picture: it is drawn once."""

    @abstractmethod
    def draw(self, canvas: Canvas, state: State) -> None:
        """Draw the rest of the scene."""

    def render(self, state: State) -> NDArray[np.uint8]:
        return self._drawn(self._scenery, state)

    def coverage(self, state: State) -> NDArray[np.float32]:
        return self._drawn(self._scenery_mask, state) * np.float32(1 / 255)

    def _drawn(self, scenery: NDArray[np.uint8], state: State) -> NDArray[np.uint8]:
        canvas = Canvas(np.repeat(scenery, len(next(iter(state.values()))), axis=0))
        self.draw(canvas, state)
        return canvas.pixels

    @cached_property
    def _scenery(self) -> NDArray[np.uint8]:
        canvas = Canvas(np.full((1, *self.frame_shape), self.backdrop, np.uint8))
        self.scenery(canvas)
        return canvas.pixels

    @cached_property
    def _scenery_mask(self) -> NDArray[np.uint8]:
        canvas = Canvas(np.zeros((1, *self.frame_shape[:2], 1), np.uint8))
        self.scenery(canvas)
        return canvas.pixels


def _window(low: Floats, high: Floats, size: int) -> NDArray[np.int64]:
    """The pixels between two bounds [n] along an axis, as many for all: [n, w], moved into the picture."""
    first, last = np.floor(low), np.ceil(high)  # a pixel is touched up to ½ px beyond its centre
    count = int(min(size, max(1, (last - first).max() + 1)))
    return np.clip(first, 0, size - count).astype(np.int64)[:, None] + np.arange(count)


def _capsule(x: Floats, y: Floats, start: Floats, along: Floats, radius: Floats) -> Floats:
    dx, dy = x - start[:, :1, None], y - start[:, 1:, None]  # [n, 1, w], [n, h, 1]
    length2 = (along**2).sum(axis=1)[:, None, None]
    if length2.any():
        step = along[:, :, None, None] / np.maximum(length2, np.float32(1e-12))[:, None]
        share = np.clip(dx * step[:, 0] + dy * step[:, 1], 0, 1)  # [n, h, w], where the nearest point of the line is
        dx, dy = dx - share * along[:, :1, None], dy - share * along[:, 1:, None]
    distance = np.sqrt(dx * dx + dy * dy)
    return _clipped(radius[:, None, None] + np.float32(0.5) - distance)


def _upright(x: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
    half = np.float32(0.5)
    columns, rows = (
        np.maximum(np.minimum(c + half, high[:, i, None, None]) - np.maximum(c - half, low[:, i, None, None]), 0)
        for i, c in enumerate((x, y))
    )
    return rows * columns


def _convex(x: Floats, y: Floats, low: Floats, high: Floats, outward: Floats, reach: Floats) -> Floats:
    beside, above = (
        np.maximum(low[:, i, None, None] - c, c - high[:, i, None, None]) for i, c in enumerate((x, y))
    )  # a sharp corner would reach out of the window
    distance = np.maximum(beside, above)  # [n, h, w]
    for k in range(reach.shape[1]):
        plane = x * outward[:, k, :1, None] + (y * outward[:, k, 1:, None] - reach[:, k, None, None])
        np.maximum(distance, plane, out=distance)
    return _clipped(np.float32(0.5) - distance)


def _clipped(share: Floats) -> Floats:
    return np.minimum(np.maximum(share, 0, out=share), 1, out=share)
