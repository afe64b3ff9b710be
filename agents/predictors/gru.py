"""The predictor of the 2022 paper."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GRUPredictor(nn.Module):
    """A one-layer GRU whose state is the latent and whose input is the action (Sobal et al., 2022).

    h_0 = the last latent of the context, h_k = GRU(a_{k−1}, h_{k−1}); the prediction for step k is h_k. Open loop:
    nothing but actions enters after the context.

    Shape: context [B, K, D], actions [B, H, A] -> [B, H, D].
    """

    def __init__(self, latent_dim: int, action_dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(action_dim, latent_dim, batch_first=True)

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        start = context[:, -1].unsqueeze(0).contiguous()  # [1 layer, B, D]
        if actions.is_cuda:  # autocast runs cuDNN's recurrent networks in float16, whatever it was asked for
            with torch.autocast(actions.device.type, enabled=False):
                return self.gru(actions.float(), start.float())[0]
        return self.gru(actions, start)[0]
