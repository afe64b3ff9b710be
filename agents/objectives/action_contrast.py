"""Action contrast: the future has to tell which actions led to it, among others from the same start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.objectives.core import Terms, Views


def action_contrast_loss(latents: Tensor, candidates: Tensor, temperature: float = 0.1) -> Tensor:
    """CE over candidates of −‖z − ẑ‖² / (D·τ), the first of them being right: [..., D], [N + 1, ..., D] -> [].

    This is the negative log-probability of the actions that were taken among N + 1 that are equally likely, for a
    predictor whose errors are normal. What all candidates have in common, such as whatever stays the same in a
    sequence, drops out of their differences in distance.
    """
    logits = -(latents - candidates).square().mean(dim=-1) / temperature  # [N + 1, ...]
    return -F.log_softmax(logits, dim=0)[0].mean()


class ActionContrast(nn.Module):
    """Term ``action_contrast`` over steps 1 … T−1: z_t is nearer to the prediction under the actions that were taken
    than to predictions from the same z_0 under the actions of other sequences of the batch.

    Latents that do not depend on the actions score log(negatives + 1). Everything that the action does not move may be
    dropped. It costs as many further rollouts of the predictor.

    Args:
        negatives: number of other sequences whose actions are tried: those that follow in the (shuffled) batch.
        temperature: τ, of mean squared distances over dimensions.

    Raises:
        ValueError: an argument that is out of range; later, a model that cannot imagine, or too small a batch.
    """

    def __init__(self, negatives: int = 2, temperature: float = 0.1) -> None:
        super().__init__()
        if negatives < 1:
            raise ValueError(f"negatives must be at least 1, got {negatives!r}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        self.negatives, self.temperature = negatives, temperature

    def forward(self, views: Views) -> Terms:
        candidates = torch.cat([views.predictions[None, :, 1:], views.counterfactuals(self.negatives)])
        return {"action_contrast": action_contrast_loss(views.latents[:, 1:], candidates, self.temperature)}
