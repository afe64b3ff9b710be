"""Inverse dynamics: two successive latents have to tell the action between them (Agrawal et al., 2016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from agents.objectives.core import Terms, Views


class InverseDynamics(nn.Module):
    """Term ``inverse_dynamics``: MSE(a_t, f([current_t; z_{t+1}])), with normalised actions.

    Args:
        latent_dim, action_dim: sizes D and A.
        current: ``predicted`` takes ẑ_t, which trains the predictor too (Sobal et al., 2022; ẑ_0 = z_0); ``encoded``
            takes z_t (PLDM).
        hidden_dim: width of f's hidden layer; 0 makes f linear, as in the 2022 paper.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        current: Literal["predicted", "encoded"] = "predicted",
        hidden_dim: int = 0,
    ) -> None:
        super().__init__()
        if current not in ("predicted", "encoded"):
            raise ValueError(f"current must be 'predicted' or 'encoded', got {current!r}")
        self.current = current
        self.action = (
            nn.Sequential(nn.Linear(2 * latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, action_dim))
            if hidden_dim
            else nn.Linear(2 * latent_dim, action_dim)
        )

    def forward(self, views: Views) -> Terms:
        current = views.predictions if self.current == "predicted" else views.latents
        guess = self.action(torch.cat([current[:, :-1], views.latents[:, 1:]], dim=-1))  # [B, T−1, A]
        return {"inverse_dynamics": (guess - views.actions).square().mean()}
