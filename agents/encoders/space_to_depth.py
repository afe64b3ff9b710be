"""The default encoder: a patch becomes channels first, so that every convolution runs on a small grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.encoders.checks import require_frames


class SpaceToDepth(nn.Module):
    """Patches of 4×4 px to channels, three 3×3 convolutions, the second with stride 2, and a linear layer.

    A convolution costs in proportion to the pixels it visits; on a grid of patches there are sixteen times fewer, and
    nothing of the frame is lost on the way. Convolution, batch norm and ReLU follow in this order.

    Args:
        frame_shape: (C, H, W); height and width divisible by the patch.
        latent_dim: size D of a latent.
        width: channels of the convolutions; the first has half as many.
        patch: side of a patch in px.

    Raises:
        ValueError: a frame that cannot be cut into patches; later, frames of another shape.

    Shape: [N, C, H, W] -> [N, D].
    """

    def __init__(self, frame_shape: Sequence[int], latent_dim: int = 512, width: int = 64, patch: int = 4) -> None:
        super().__init__()
        channels, height, width_px = frame_shape
        if patch < 1 or height % patch or width_px % patch:
            raise ValueError(f"frames of {height}×{width_px} px cannot be cut into patches of {patch}×{patch}")
        rows, columns = ((side // patch + 1) // 2 for side in (height, width_px))
        self.frame_shape = tuple(frame_shape)
        self.patch = patch
        self.body = convolutions(channels * patch**2, width)
        self.head = nn.Linear(width * rows * columns, latent_dim)

    def forward(self, frames: Tensor) -> Tensor:
        require_frames(frames, self.frame_shape)
        return self.head(self.body(space_to_depth(frames, self.patch)).flatten(1))


def space_to_depth(frames: Tensor, patch: int) -> Tensor:
    """`torch.pixel_unshuffle` with channels last, which is faster on a CPU: 18 against 51 ms for 1344 frames of 64 px.

    Shape: [N, C, H, W] -> [N, C·patch², H/patch, W/patch].
    """
    count, channels, height, width = frames.shape
    cells = frames.permute(0, 2, 3, 1).reshape(count, height // patch, patch, width // patch, patch, channels)
    grid = cells.permute(0, 1, 3, 5, 2, 4).flatten(3).permute(0, 3, 1, 2)
    return grid.contiguous(memory_format=torch.channels_last)


def convolutions(inputs: int, width: int) -> nn.Sequential:
    """Those of the encoder: [N, inputs, H, W] -> [N, width, ⌈H/2⌉, ⌈W/2⌉]."""
    layers = nn.Sequential(
        *_convolution(inputs, width // 2), *_convolution(width // 2, width, stride=2), *_convolution(width, width)
    )
    # The faster layout of convolutions, on CPUs and GPUs alike.
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
