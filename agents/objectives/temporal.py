"""Temporal statistics: what a latent does within a sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views


def temporal_variance_loss(latents: Tensor, gamma: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """std_t: mean_{b,j} relu(γ − √(Var_t z_btj + ε)): [B, T, D] -> [].

    Every dimension has to move within every sequence. A latent that copies what stays the same pays the whole hinge,
    so the solution that fools VICReg under static noise is no solution here (PLDM, Sobal et al., 2025). No dimension is
    left for what stays the same and may matter, such as a goal or an object at rest: latents may drop it.
    """
    return torch.relu(gamma - (latents.var(dim=1) + epsilon).sqrt()).mean()


def temporal_similarity_loss(latents: Tensor) -> Tensor:
    """sim_t: mean ‖z_{t+1} − z_t‖² / D: [B, T, D] -> []. Rewards slowness (PLDM, Sobal et al., 2025)."""
    return (latents[:, 1:] - latents[:, :-1]).square().mean()


class TemporalVariance(nn.Module):
    """Term ``temporal_variance`` of the encoder's latents.

    Args:
        gamma: standard deviation that every dimension should reach within a sequence.
        epsilon: added to variances before the root.
    """

    def __init__(self, gamma: float = 1.0, epsilon: float = 1e-4) -> None:
        super().__init__()
        self.gamma, self.epsilon = gamma, epsilon

    def forward(self, views: Views) -> Terms:
        return {"temporal_variance": temporal_variance_loss(views.latents, self.gamma, self.epsilon)}


class TemporalSimilarity(nn.Module):
    """Term ``temporal_similarity`` of the encoder's latents."""

    def forward(self, views: Views) -> Terms:
        return {"temporal_similarity": temporal_similarity_loss(views.latents)}
