"""What encoders refuse."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def require_frames(frames: Tensor, frame_shape: Sequence[int]) -> None:
    """Refuse frames of a shape that an encoder was not made for: some would pass through it, and mean nothing.

    Raises:
        ValueError: ``frames`` [N, C, H, W] are not of ``frame_shape`` (C, H, W).
    """
    if tuple(frames.shape[1:]) != tuple(frame_shape):
        raise ValueError(f"expected frames of shape {tuple(frame_shape)} (C, H, W), got {tuple(frames.shape[1:])}")
