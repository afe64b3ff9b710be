"""A predictor of single steps, applied to its own predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLPPredictor(nn.Module):
    """ẑ_{k+1} = ẑ_k + MLP([LayerNorm(ẑ_k); a_k]), from the last latent of the context on.

    Hidden layers as in TD-MPC2 (linear, layer norm, Mish; Hansen et al., 2024), which predicts the latent, behind
    SimNorm; this predicts how it changes. Open loop: nothing but actions enters after the context.

    Args:
        latent_dim: size D of a latent.
        action_dim: size A of an action.
        hidden_dim: of the two hidden layers.

    Raises:
        ValueError: a width that is not positive.

    Shape: context [B, K, D], actions [B, H, A] -> [B, H, D].
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_dim: int = 256) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise ValueError(f"hidden_dim must be positive, got {hidden_dim!r}")
        self.norm = nn.LayerNorm(latent_dim)
        self.network = nn.Sequential(
            *(nn.Linear(latent_dim + action_dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.Mish()),
            *(nn.Linear(hidden_dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.Mish()),
            nn.Linear(hidden_dim, latent_dim),
        )

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        latent, predictions = context[:, -1], []
        for action in actions.unbind(dim=1):
            latent = latent + self.network(torch.cat([self.norm(latent), action], dim=1))
            predictions.append(latent)
        return torch.stack(predictions, dim=1)
