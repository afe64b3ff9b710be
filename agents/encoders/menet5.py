"""The encoder of the 2022 paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.encoders.checks import require_frames


class MeNet5(nn.Sequential):
    """Three convolutions, an average pool and a linear layer (Sobal et al., 2022).

    Args:
        frame_shape: (C, H, W); at least 8×8.
        latent_dim: size D of a latent. The paper's best runs use 512.
        width: channels are 16, 32, 32 times this. The paper's best runs use 2.

    Raises:
        ValueError: a frame smaller than 8×8; later, frames of another shape.

    Shape: [N, C, H, W] -> [N, D].
    """

    def __init__(self, frame_shape: Sequence[int], latent_dim: int = 512, width: int = 2) -> None:
        channels, *size = frame_shape
        if min(size) < 8:
            raise ValueError(f"MeNet5 needs frames of at least 8×8 px, got {size[0]}×{size[1]}")
        height, width_px = (((side + 1) // 2 + 1) // 2 // 2 for side in size)
        super().__init__(
            nn.Conv2d(channels, 16 * width, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.BatchNorm2d(16 * width),
            nn.Conv2d(16 * width, 32 * width, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.BatchNorm2d(32 * width),
            nn.Conv2d(32 * width, 32 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(32 * width),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * width * height * width_px, latent_dim),
        )
        self.frame_shape = tuple(frame_shape)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the faster layout of convolutions

    def forward(self, frames: Tensor) -> Tensor:
        require_frames(frames, self.frame_shape)
        return super().forward(frames.contiguous(memory_format=torch.channels_last))
