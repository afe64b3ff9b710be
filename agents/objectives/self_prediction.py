"""Self-prediction: predictions match targets that no gradient reaches.

BYOL (Grill et al., 2020), SimSiam (Chen & He, 2021), I-JEPA (Assran et al., 2023); as world models SPR (Schwarzer et
al., 2021) and Ni et al. (2024). Nothing in the loss keeps latents apart: that they do not collapse is left to dynamics.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from agents.objectives.core import Terms, Views
from agents.objectives.vicreg import invariance_loss


def self_prediction_loss(predictions: Tensor, targets: Tensor, distance: Literal["cosine", "mse"]) -> Tensor:
    """mean ‖ẑ − sg z̄‖² / D, or mean 2 − 2·cos(ẑ, sg z̄): [..., D], [..., D] -> []."""
    if distance == "cosine":
        return (2 - 2 * cosine_similarity(predictions, targets.detach(), dim=-1)).mean()
    return invariance_loss(predictions, targets.detach())


class SelfPrediction(nn.Module):
    """Term ``self_prediction`` over steps 1 … T−1.

    Targets are those of the model's slower encoder (``model=jepa_ema``), and its own latents where it has none.

    Args:
        distance: ``mse`` (Ni et al.) or ``cosine`` (BYOL), which leaves the lengths of latents free: they may saturate
            a GRU whose state they are.

    Raises:
        ValueError: another distance.
    """

    uses_targets = True

    def __init__(self, distance: Literal["cosine", "mse"] = "mse") -> None:
        super().__init__()
        if distance not in ("mse", "cosine"):
            raise ValueError(f"distance must be 'mse' or 'cosine', got {distance!r}")
        self.distance: Literal["cosine", "mse"] = distance

    def forward(self, views: Views) -> Terms:
        targets = views.latents if views.targets is None else views.targets
        return {"self_prediction": self_prediction_loss(views.predictions[:, 1:], targets[:, 1:], self.distance)}
