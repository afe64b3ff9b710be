"""InfoNCE: a prediction has to single out its own latent among others (van den Oord et al., 2018)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.objectives.core import Terms, Views

Negatives = Literal["batch", "time", "both"]


def infonce_loss(
    predictions: Tensor, latents: Tensor, temperature: float = 0.1, negatives: Negatives = "batch"
) -> Tensor:
    """CE(q(ẑ)·q(z)ᵀ / τ, diagonal) with q the L2 norm: [B, T, D], [B, T, D] -> [].

    The positive of ẑ_bt is z_bt. Its negatives are latents of other sequences at the same step (``batch``), of the same
    sequence at other steps (``time``), or all others (``both``). What stays the same within a sequence tells batch
    negatives apart and time negatives not at all: with the first, latents may drop everything else; with the second,
    they may drop all that stays the same, such as a goal; with both, what stays the same solves most of it.
    """
    queries, keys = F.normalize(predictions, dim=-1), F.normalize(latents, dim=-1)
    if negatives == "batch":
        queries, keys = queries.transpose(0, 1), keys.transpose(0, 1)  # [T, B, D]: candidates along the batch
    elif negatives == "both":
        queries, keys = queries.flatten(0, 1).unsqueeze(0), keys.flatten(0, 1).unsqueeze(0)  # [1, B·T, D]
    logits = queries @ keys.mT / temperature  # [groups, N, N]
    target = torch.arange(logits.shape[-1], device=logits.device).expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


class InfoNCE(nn.Module):
    """Term ``infonce`` over steps 1 … T−1.

    Args:
        temperature: τ.
        negatives: ``batch``, ``time`` or ``both``; see `infonce_loss`.

    Raises:
        ValueError: in `forward`, if a sequence is to have negatives of its own and has a single prediction.
    """

    def __init__(self, temperature: float = 0.1, negatives: Negatives = "batch") -> None:
        super().__init__()
        if negatives not in get_args(Negatives):
            raise ValueError(f"negatives must be one of {get_args(Negatives)}, got {negatives!r}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        self.temperature, self.negatives = temperature, negatives

    def forward(self, views: Views) -> Terms:
        predictions, latents = views.predictions[:, 1:], views.latents[:, 1:]
        if self.negatives == "time" and latents.shape[1] < 2:
            raise ValueError(
                f"negatives of the same sequence need two predictions, got {latents.shape[1]}: take a longer window"
            )
        return {"infonce": infonce_loss(predictions, latents, self.temperature, self.negatives)}
