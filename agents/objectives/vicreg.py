"""VICReg for sequences: predictions match latents, and latents neither shrink nor repeat themselves across a batch.

Bardes, Ponce & LeCun (2022); as a JEPA over sequences: Sobal et al. (2022). Variance and covariance are taken over the
batch at each time step, then averaged over steps.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views


def invariance_loss(predictions: Tensor, latents: Tensor) -> Tensor:
    """mean ‖ẑ − z‖² / D, gradients through both: [..., D], [..., D] -> []."""
    return (predictions - latents).square().mean()


def variance_loss(latents: Tensor, gamma: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """mean_j relu(γ − √(Var_b z_bj + ε)): [..., B, D] -> [], averaged over leading axes."""
    return torch.relu(gamma - (latents.var(dim=-2) + epsilon).sqrt()).mean()


def covariance_loss(latents: Tensor) -> Tensor:
    """Σ_{i≠j} Cov(z_i, z_j)² / D over the batch: [..., B, D] -> [], averaged over leading axes.

    ‖ZᵀZ‖_F = ‖ZZᵀ‖_F: the smaller of the two Gram matrices, [D, D] or [B, B], is enough.
    """
    batch, dim = latents.shape[-2:]
    centred = latents - latents.mean(dim=-2, keepdim=True)
    gram = centred @ centred.mT if batch < dim else centred.mT @ centred
    variances = centred.square().sum(dim=-2)  # [..., D]
    off_diagonal = gram.square().sum(dim=(-2, -1)) - variances.square().sum(dim=-1)
    return (off_diagonal / ((batch - 1) ** 2 * dim)).mean()


class VICReg(nn.Module):
    """Terms ``invariance`` (steps 1 … T−1), ``variance`` and ``covariance`` (of the encoder's latents).

    Args:
        steps: latents whose statistics count: ``future`` (steps 1 … T−1, the paper) or ``first`` (step 0, as PLDM).
        per_pair: divide the sum of squared covariances by D·(D − 1), as PLDM, instead of D.
        gamma: standard deviation that every dimension should reach.
        epsilon: added to variances before the root.
    """

    def __init__(
        self,
        steps: Literal["future", "first"] = "future",
        per_pair: bool = False,
        gamma: float = 1.0,
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__()
        if steps not in ("future", "first"):
            raise ValueError(f"steps must be 'future' or 'first', got {steps!r}")
        self.steps, self.per_pair, self.gamma, self.epsilon = steps, per_pair, gamma, epsilon

    def forward(self, views: Views) -> Terms:
        counted = views.latents[:, 1:] if self.steps == "future" else views.latents[:, :1]
        counted = counted.transpose(0, 1)  # [T, B, D]
        covariance = covariance_loss(counted)
        return {
            "invariance": invariance_loss(views.predictions[:, 1:], views.latents[:, 1:]),
            "variance": variance_loss(counted, self.gamma, self.epsilon),
            "covariance": covariance / (counted.shape[-1] - 1) if self.per_pair else covariance,
        }


def vicreg_bound(batch: int, dim: int, variance: float = 25.0, covariance: float = 1.0) -> float:
    """The least value of variance·V + covariance·C that any latents can have in a batch (with γ = 1, ε = 0).

    A batch of B < D + 1 latents spans B − 1 dimensions, so their covariances cannot all vanish: with standard deviation
    s everywhere, C ≥ k·s⁴ where k = D/(B−1) − 1, reached when the non-zero eigenvalues are equal. The best s trades
    variance·(1 − s) against covariance·k·s⁴. Invariance can be zero, so this bounds the whole loss.

    Where variance < 8·covariance, unequal standard deviations can do better: there the bound is the one for
    covariance = variance / 8, which holds but is not reached.
    """
    covariance = min(covariance, variance / 8)
    k = max(0.0, dim / (batch - 1) - 1)
    s = min(1.0, (variance / (4 * covariance * k)) ** (1 / 3)) if k > 0 and covariance > 0 else 1.0
    return variance * (1 - s) + covariance * k * s**4
