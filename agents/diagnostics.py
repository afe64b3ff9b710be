"""Numbers that expose a latent space gone wrong, without labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.objectives.core import Terms
from agents.world_models.core import Batch, WorldModel


@torch.no_grad()
def mean_terms(loss: Callable[[Batch], Terms], windows: Batch, batch_size: int) -> dict[str, float]:
    """The terms of a loss, averaged over batches of the training's size, because statistics over a batch depend on it.

    Windows that fill no batch are left out, unless there are fewer than one batch.
    """
    parts = max(1, len(windows["frames"]) // batch_size)
    sums: dict[str, float] = {}
    for part in range(parts):
        piece = {name: x[part * batch_size : (part + 1) * batch_size] for name, x in windows.items()}
        for name, term in loss(piece).items():
            sums[name] = sums.get(name, 0.0) + float(term) / parts
    return sums


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


def covariance_spectrum(latents: Tensor) -> Tensor:
    """The eigenvalues of the covariance of all latents as shares of their sum, descending: [B, T, D] -> [D].

    Latents that are all the same have no covariance, and zeros for a spectrum.
    """
    samples = latents.flatten(0, 1)
    variances = torch.linalg.svdvals(samples - samples.mean(dim=0)).square()  # [min(B·T, D)], up to a factor
    shares = variances / variances.sum().clamp_min(torch.finfo(latents.dtype).tiny)
    return F.pad(shares, (0, samples.shape[1] - len(shares)))


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
