"""Inverse dynamics: two latents have to tell the action between them (Agrawal et al., 2016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from agents.objectives.core import Terms, Views


class InverseDynamics(nn.Module):
    """Term ``inverse_dynamics``: MSE(a_t, f_k([current_t; z_{t+k}])), averaged over k = 1 … K, with normalised actions.

    With K > 1 this is the multi-step inverse model of Lamb et al. (2022, AC-State), which tells the *first* of the k
    actions and knows k: the last layer of f has one output for each. They draw k at random; here all of them count. Two
    latents that look alike one step apart differ several steps apart, so it sees more of what actions control.

    Everything that actions do not move may be dropped.

    Args:
        latent_dim, action_dim: sizes D and A.
        current: ``predicted`` takes ẑ_t, which trains the predictor too (Sobal et al., 2022; ẑ_0 = z_0); ``encoded``
            takes z_t (PLDM).
        hidden_dim: width of f's hidden layer; 0 makes f linear, as in the 2022 paper.
        horizon: the most steps K between the two latents.

    Raises:
        ValueError: an argument that is out of range; later, sequences of no more than ``horizon`` steps.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        current: Literal["predicted", "encoded"] = "predicted",
        hidden_dim: int = 0,
        horizon: int = 1,
    ) -> None:
        super().__init__()
        if current not in ("predicted", "encoded"):
            raise ValueError(f"current must be 'predicted' or 'encoded', got {current!r}")
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {horizon!r}")
        self.current, self.horizon = current, horizon
        outputs = horizon * action_dim
        self.action = (
            nn.Sequential(nn.Linear(2 * latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, outputs))
            if hidden_dim
            else nn.Linear(2 * latent_dim, outputs)
        )

    def forward(self, views: Views) -> Terms:
        steps = views.latents.shape[1]
        if steps <= self.horizon:
            raise ValueError(f"horizon={self.horizon} needs longer sequences, got {steps} steps")
        current = views.predictions if self.current == "predicted" else views.latents
        losses = []
        for k in range(1, self.horizon + 1):
            pairs = torch.cat([current[:, :-k], views.latents[:, k:]], dim=-1)  # [B, T−k, 2D]
            guess = self.action(pairs).unflatten(-1, (self.horizon, -1))[..., k - 1, :]  # [B, T−k, A]
            losses.append((guess - views.actions[:, : steps - k]).square().mean())
        return {"inverse_dynamics": torch.stack(losses).mean()}
