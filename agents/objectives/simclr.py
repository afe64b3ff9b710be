"""SimCLR for sequences: a prediction and its latent find each other among all others of their step.

Chen et al. (2020); as a JEPA over sequences, without a projector: Sobal et al. (2022). The one-way variant is
`agents.objectives.infonce`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.objectives.core import Terms, Views


def nt_xent_loss(predictions: Tensor, latents: Tensor, temperature: float = 0.5, normalise: bool = True) -> Tensor:
    """NT-Xent over the 2B vectors {ẑ_b, z_b}: [..., B, D], [..., B, D] -> [], averaged over leading axes.

    mean_i −log( exp(v_i·v_p(i) / τ) / Σ_{k≠i} exp(v_i·v_k / τ) ), where p(i) is the other vector of the same sequence:
    both directions count, and the other 2B − 2 vectors are negatives.
    """
    vectors = torch.cat([predictions, latents], dim=-2)  # [..., 2B, D]
    if normalise:
        vectors = F.normalize(vectors, dim=-1)
    count = vectors.shape[-2]
    itself = torch.eye(count, dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.mT / temperature).masked_fill(itself, -torch.inf)  # [..., 2B, 2B]
    partner = torch.arange(count, device=vectors.device).roll(count // 2).expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, -2), partner.flatten())


class SimCLR(nn.Module):
    """Term ``simclr``: NT-Xent at each of the steps 1 … T−1, averaged over them.

    Its negatives come from other sequences, so whatever stays the same within a sequence solves it.

    Args:
        temperature: τ.
        normalise: compare directions (the L2 norm) rather than vectors. Lengths are free then, and may grow until the
            gates of a GRU saturate and its predictions stand still.

    Raises:
        ValueError: a temperature that is not positive.
    """

    def __init__(self, temperature: float = 0.5, normalise: bool = True) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        self.temperature, self.normalise = temperature, normalise

    def forward(self, views: Views) -> Terms:
        predictions, latents = (x[:, 1:].transpose(0, 1) for x in (views.predictions, views.latents))  # [T−1, B, D]
        return {"simclr": nt_xent_loss(predictions, latents, self.temperature, self.normalise)}
