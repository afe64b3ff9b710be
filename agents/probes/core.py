"""What a probe is, and how it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """Features and targets of one split.

    Attributes:
        features: [N, D].
        targets: [N, F].
    """

    features: Tensor
    targets: Tensor


class Probe(ABC):
    """A readout of targets from features. It is fitted once, on training samples.

    Attributes:
        by_column: whether every column of the targets is fitted as if it were the only one.
    """

    by_column = False

    @abstractmethod
    def fit(self, train: Samples, validation: Samples) -> None:
        """Fit on the training samples; validation samples choose what has to be chosen."""

    @abstractmethod
    def predict(self, features: Tensor) -> Tensor:
        """Targets of features: [N, D] -> [N, F]."""


def rmse(predictions: Tensor, targets: Tensor) -> Tensor:
    """√(mean ‖prediction − target‖²), the paper's error, in the units of the targets: [..., F], [..., F] -> []."""
    return (predictions - targets).square().sum(dim=-1).mean().sqrt()


def r2(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ‖prediction − target‖² / Σ‖target − mean‖², over all targets together: [..., F], [..., F] -> []."""
    residual = (predictions - targets).square().sum()
    return 1 - residual / (targets - targets.flatten(0, -2).mean(dim=0)).square().sum()


def moments(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every column: [N, D] -> [D], [D]; a constant column gets 1."""
    mean, std = samples.mean(dim=0), samples.std(dim=0)
    varies = (samples != samples[:1]).any(dim=0)  # rounding can leave a constant column a small std
    return mean, torch.where(varies & (std > 1e-8 * std.max()), std, 1.0)
