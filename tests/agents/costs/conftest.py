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


class Remembers(Adds):
    """z = [h, p] with p′ = p + a, and a memory h of one number, in which steps are counted."""

    latent_dim = 3

    def achieved_goal(self, latents: Tensor) -> Tensor:
        return latents[..., 1:]

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        moved = super().predict(latents[..., 1:], actions)
        count = torch.arange(1.0, 1 + actions.shape[1])[:, None].expand(len(actions), -1, -1)
        return torch.cat([latents[:, -1:, :1] + count, moved], dim=-1)


@pytest.fixture
def adds() -> WorldModel:
    """z′ = z + a."""
    return Adds().eval()


@pytest.fixture
def remembers() -> WorldModel:
    """The same, behind a memory that no goal asks for."""
    return Remembers().eval()


@pytest.fixture
def candidates() -> Callable[..., Tensor]:
    """``candidates(b, n, h)``: random actions [B, N, H, 2]."""
    return lambda b=3, n=4, h=5: torch.randn(b, n, h, 2)
