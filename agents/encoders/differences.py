"""Frame differences: an encoder that sees what changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.encoders.checks import require_frames


class Differences(nn.Module):
    """Another encoder, of the newest of two frames minus the older one.

    Whatever is added to both frames, such as static noise, is gone exactly; noise that moves or changes is not. A goal
    or a dot that stands still is gone too.

    Args:
        encoder: [N, C, H, W] -> [N, D]; with ``keep_newest`` it sees 2C channels, the difference and the newest frame.
        frame_shape: (C, H, W) of one frame.
        frames: how many the model sees at a time: 2.
        keep_newest: give the encoder the newest frame as well.

    Raises:
        ValueError: a number of frames other than 2; later, frames of another shape.

    Shape: [N, 2C, H, W], the newest in the last C channels, -> [N, D].
    """

    def __init__(
        self, encoder: nn.Module, frame_shape: Sequence[int], frames: int = 2, keep_newest: bool = False
    ) -> None:
        super().__init__()
        if frames != 2:
            raise ValueError(f"frame differences need two frames at a time: set model.frames=2, got {frames!r}")
        channels, height, width = frame_shape
        self.encoder, self.frame_shape, self.keep_newest = encoder, (2 * channels, height, width), keep_newest

    def forward(self, frames: Tensor) -> Tensor:
        require_frames(frames, self.frame_shape)
        older, newest = frames.chunk(2, dim=1)  # [N, C, H, W] each
        seen = newest - older
        return self.encoder(torch.cat([seen, newest], dim=1) if self.keep_newest else seen)
