"""What objectives see, and how their terms become one loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Terms = dict[str, Tensor]  # unweighted scalar losses by name


@dataclass(frozen=True)
class Views:
    """One batch of sequences as a world model sees it.

    Attributes:
        latents: [B, T, D], encoded from each frame.
        predictions: [B, T, D], rolled open-loop from the first latent; ``predictions[:, 0]`` is ``latents[:, 0]``.
        actions: [B, T−1, A], normalised.
        frames: [B, T, C, H, W], normalised.
        factors: {name: [B, T, F]}, in the units of the environment.
        predict: context [B, K, D], normalised actions [B, H, A] -> [B, H, D]: the predictor, for other actions than
            those taken; None if there is none.
        decode: [B, T, D] -> normalised frames [B, T, C, H, W]; None if the model has no decoder.
    """

    latents: Tensor
    predictions: Tensor
    actions: Tensor
    frames: Tensor
    factors: Mapping[str, Tensor]
    predict: Callable[[Tensor, Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Σ weight·term.

    Raises:
        ValueError: a term without a weight, or a weight without a term.
    """
    if terms.keys() != weights.keys():
        raise ValueError(
            f"every term needs one weight: the loss has the terms {sorted(terms)}, the configuration weights "
            f"{sorted(weights)}"
        )
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
