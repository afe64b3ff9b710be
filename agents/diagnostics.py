"""Numbers that expose a latent space gone wrong, without labels."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.world_models.core import WorldModel


def r_within(latents: Tensor) -> Tensor:
    """Var(z − mean_t z) / Var(z): the share of latent variance that moves within a sequence. [B, T, D] -> [].

    0 for latents that copy what stays the same in a sequence; rank and variance look healthy there.
    """
    within = (latents - latents.mean(dim=1, keepdim=True)).square().sum()
    total = (latents - latents.mean(dim=(0, 1))).square().sum()
    return within / total.clamp_min(torch.finfo(latents.dtype).tiny)


def rankme(latents: Tensor, epsilon: float = 1e-7) -> Tensor:
    """exp(entropy(σ / ‖σ‖₁ + ε)), σ the singular values of all latents: an effective rank. [B, T, D] -> [].

    Garrido et al. (2023). Between 1 and D.
    """
    sigma = torch.linalg.svdvals(latents.flatten(0, 1))
    p = sigma / sigma.sum().clamp_min(torch.finfo(latents.dtype).tiny) + epsilon
    return torch.exp(-(p * p.log()).sum())


def action_sensitivity(model: WorldModel, latents: Tensor, actions: Tensor) -> Tensor:
    """How much of the difference between two rollouts their actions make. [B, T, D], [B, T−1, A] -> [].

    E‖ẑ(z₀, a) − ẑ(z₀, a′)‖² / E‖ẑ(z₀, a) − ẑ(z₀′, a′)‖² with z₀′, a′ from the next sequence of the batch: 0 if the
    predictor ignores actions, 1 if nothing else matters to it.
    """
    start, others = latents[:, :1], actions.roll(1, dims=0)
    predictions = model.predict(start, actions)
    other_actions = (predictions - model.predict(start, others)).square().sum()
    other_sequence = (predictions - predictions.roll(1, dims=0)).square().sum()
    return other_actions / other_sequence.clamp_min(torch.finfo(latents.dtype).tiny)
