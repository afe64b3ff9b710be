"""An encoder for larger pictures: what is in a small cell is told apart before a large patch is summed up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from agents.encoders.checks import require_frames
from agents.encoders.space_to_depth import convolutions

CELL = 2  # px


class NestedPatches(nn.Module):
    """Cells of 2×2 px through two linear layers, then patches of them to channels, as `SpaceToDepth`.

    A convolution of large patches is cheap, and sums over pixels at once: it cannot tell the colour of a small thing
    from the sum of those around it. Here each cell is looked at by itself first. Its numbers are clipped to ±1, so that
    colours that were never seen lead no further than those that were.

    Args:
        frame_shape: (C, H, W); height and width divisible by the patch.
        latent_dim: size D of a latent.
        width: channels of the convolutions; the first has half as many.
        patch: side of a patch in px, a multiple of 2.
        cell_dim: numbers that are made of a cell.

    Raises:
        ValueError: a frame that cannot be cut into patches, or a patch that cannot be cut into cells; later, frames of
            another shape.

    Shape: [N, C, H, W] -> [N, D].
    """

    def __init__(
        self, frame_shape: Sequence[int], latent_dim: int = 512, width: int = 32, patch: int = 8, cell_dim: int = 8
    ) -> None:
        super().__init__()
        channels, height, width_px = frame_shape
        if patch < CELL or patch % CELL or height % patch or width_px % patch:
            raise ValueError(
                f"frames of {height}×{width_px} px cannot be cut into patches of {patch}×{patch}, and those into cells "
                f"of {CELL}×{CELL}"
            )
        rows, columns = ((side // patch + 1) // 2 for side in (height, width_px))
        self.frame_shape = tuple(frame_shape)
        self.patch = patch
        self.cell = nn.Sequential(
            nn.Linear(channels * CELL**2, cell_dim), nn.Hardtanh(), nn.Linear(cell_dim, cell_dim), nn.Hardtanh()
        )
        self.body = convolutions(cell_dim * (patch // CELL) ** 2, width)
        self.head = nn.Linear(width * rows * columns, latent_dim)

    def forward(self, frames: Tensor) -> Tensor:
        require_frames(frames, self.frame_shape)
        grid = self.cell(nested_patches(frames, self.patch)).flatten(3)  # [N, H/patch, W/patch, cells·cell_dim]
        return self.head(self.body(grid.permute(0, 3, 1, 2)).flatten(1))


def nested_patches(frames: Tensor, patch: int) -> Tensor:
    """Patches, each as its cells, row by row: [N, C, H, W] -> [N, H/patch, W/patch, (patch/2)², 4·C]."""
    count, channels, height, width = frames.shape
    rows, columns, cells = height // patch, width // patch, patch // CELL
    split = frames.permute(0, 2, 3, 1).reshape(count, rows, cells, CELL, columns, cells, CELL, channels)
    return split.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(count, rows, columns, cells**2, CELL**2 * channels)
