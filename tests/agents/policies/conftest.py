"""World models for the tests of policies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from agents.encoders.space_to_depth import SpaceToDepth
from agents.predictors.gru import GRUPredictor
from agents.world_models.core import WorldModel
from agents.world_models.encoder_predictor import EncoderPredictor


class Memory(WorldModel):
    """A recurrent model: z = (what is in this frame, what was in all so far, what was done), and a hidden clock.

    It notes how many worlds it is asked for, as (whether they begin, how many).
    """

    latent_dim = 3

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.arange(1.0, action_dim + 1))
        self.calls: list[tuple[bool, int]] = []
        self.eval()

    def update(self, state: Tensor | None, action: Tensor | None, frame: Tensor) -> Tensor:
        assert (frame.dtype, frame.ndim, state is None) == (torch.uint8, 4, action is None)
        self.calls.append((state is None, len(frame)))
        n = len(frame)
        last = torch.zeros(n, 4) if state is None else state
        assert last.shape == (n, 4)
        if action is not None:
            assert (action.dtype, action.shape) == (torch.float32, (n, len(self.weights)))
        clock = last[:, 3] + 1
        pixels = torch.arange(frame[0].numel()) % 97  # which pixel it was counts, and the sum is exact
        seen = (frame.flatten(1).float() * pixels).sum(1)
        done = torch.zeros(n) if action is None else (action * self.weights).sum(1)
        return torch.stack([seen, last[:, 1] / 2 + clock * seen, last[:, 2] + clock * done, clock], dim=1)

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(self, batch: object) -> dict[str, Tensor]:
        raise NotImplementedError


@pytest.fixture
def make_memory() -> Callable[..., Memory]:
    """``make_memory(action_dim)``: a recurrent model."""
    return Memory


@pytest.fixture
def make_model() -> Callable[..., EncoderPredictor]:
    """``make_model(frame_shape, frames)``: a random model of frames [H, W, C], in evaluation mode."""

    def make(frame_shape: tuple[int, int, int], frames: int = 1, dim: int = 6) -> EncoderPredictor:
        height, width, channels = frame_shape
        shape = (channels * frames, height, width)
        model = EncoderPredictor(
            SpaceToDepth(shape, dim, width=8),
            GRUPredictor(dim, 2),
            {},
            dim,
            [60.0] * channels,
            [40.0] * channels,
            [0.0, 0.0],
            [1.0, 1.0],
            frames=frames,
        )
        seen = torch.randint(0, 256, (16, 3, channels, height, width)).float()
        for _ in range(20):  # batch normalisation takes up statistics of its own
            model.encode(seen)
        return model.eval()

    return make
