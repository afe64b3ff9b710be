"""Supervision: every prediction has to tell a factor of its step. A reference, not a competitor: it sees the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views


class Supervised(nn.Module):
    """Term ``supervised``: mean squared error of a linear readout of ẑ_t, t = 0 … T−1, on a normalised factor.

    Args:
        latent_dim: size D.
        factor: name of the factor, or of a kind: ``location`` is ``location.action``, ``location.random``, … as well.
        statistics: of the factors in the training data: {name: {"mean": [F], "std": [F]}}.

    Raises:
        ValueError: the data have no such factor.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, latent_dim: int, factor: str, statistics: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        super().__init__()
        self.factors = [name for name in statistics if name == factor or name.startswith(f"{factor}.")]
        if not self.factors:
            raise ValueError(f"the data have no factor {factor!r}; they have {sorted(statistics)}")
        for moment in ("mean", "std"):
            self.register_buffer(moment, torch.cat([torch.tensor(statistics[name][moment]) for name in self.factors]))
        self.readout = nn.Linear(latent_dim, len(self.mean))

    def forward(self, views: Views) -> Terms:
        truth = torch.cat([views.factors[name] for name in self.factors], dim=-1)
        target = (truth - self.mean) / self.std  # [B, T, F]
        return {"supervised": (self.readout(views.predictions) - target).square().mean()}
