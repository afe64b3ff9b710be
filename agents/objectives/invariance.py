"""Invariance alone: predictions match latents. Latents collapse unless another objective keeps them apart."""

from __future__ import annotations

from torch import nn

from agents.objectives.core import Terms, Views
from agents.objectives.vicreg import invariance_loss


class Invariance(nn.Module):
    """Term ``invariance``: mean ‖ẑ − z‖² / D over steps 1 … T−1, gradients through both."""

    def forward(self, views: Views) -> Terms:
        return {"invariance": invariance_loss(views.predictions[:, 1:], views.latents[:, 1:])}
