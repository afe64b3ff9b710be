"""The mirror image of the `SpaceToDepth` encoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class DepthToSpace(nn.Module):
    """A linear layer onto a grid of patches, 3×3 convolutions there, and channels back to patches of px.

    Args:
        frame_shape: (C, H, W); height and width divisible by the patch.
        latent_dim: size D of a latent.
        width: channels of the grid.
        patch: side of a patch in px.

    Raises:
        ValueError: a frame that cannot be cut into patches.

    Shape: [N, D] -> [N, C, H, W].
    """

    def __init__(self, frame_shape: Sequence[int], latent_dim: int = 512, width: int = 32, patch: int = 4) -> None:
        super().__init__()
        channels, height, width_px = frame_shape
        if patch < 1 or height % patch or width_px % patch:
            raise ValueError(f"frames of {height}×{width_px} px cannot be cut into patches of {patch}×{patch}")
        grid = (width, height // patch, width_px // patch)
        self.body = nn.Sequential(
            nn.Linear(latent_dim, grid[0] * grid[1] * grid[2]),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, grid),
            nn.Conv2d(width, channels * patch**2, kernel_size=3, padding=1),
            nn.PixelShuffle(patch),
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.body(latents)
