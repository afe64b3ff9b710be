"""What the tests of costs share: a world model whose imagination is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agents.objectives.core import Terms
from agents.world_models.core import Batch, WorldModel


class Adds(WorldModel):
    """z′ = z + a, of two numbers each."""

    latent_dim = 2

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return frames.flatten(2)[..., :2].float()

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return latents[:, -1:] + actions.cumsum(dim=1)

    def loss(self, batch: Batch) -> Terms:
        return {}


@pytest.fixture
def adds() -> WorldModel:
    """z′ = z + a."""
    return Adds().eval()


@pytest.fixture
def candidates() -> Callable[..., Tensor]:
    """``candidates(b, n, h)``: random actions [B, N, H, 2]."""
    return lambda b=3, n=4, h=5: torch.randn(b, n, h, 2)
