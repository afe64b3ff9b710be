"""Ridge regression in closed form: the default probe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.probes.core import Probe, Samples


class Ridge(Probe):
    """w = (XᵀX + λ·tr(XᵀX)/D·I)⁻¹ Xᵀy on centred features and targets, λ chosen on validation samples.

    Each component of the targets has a λ of its own. All are solved for by one eigendecomposition, in double precision.

    Args:
        penalties: candidates for λ, relative to the mean eigenvalue.

    Raises:
        ValueError: no penalties, or one that is not a positive number.
    """

    by_column = True

    def __init__(
        self, penalties: Sequence[float] = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000)
    ) -> None:
        if not penalties or not all(isinstance(x, (int, float)) and 0 < x < float("inf") for x in penalties):
            raise ValueError(f"penalties must be positive numbers, at least one, got {penalties!r}")
        self.penalties = tuple(penalties)

    def fit(self, train: Samples, validation: Samples) -> None:
        self.feature_mean, self.target_mean = train.features.double().mean(dim=0), train.targets.double().mean(dim=0)
        x, y = train.features.double() - self.feature_mean, train.targets.double() - self.target_mean
        eigenvalues, basis = torch.linalg.eigh(x.mT @ x)  # [D], [D, D]
        projected, scale = basis.mT @ (x.mT @ y), eigenvalues.mean().clamp_min(1e-30)
        held_out = (validation.features.double() - self.feature_mean) @ basis
        wanted = validation.targets.double() - self.target_mean
        best = torch.full((y.shape[-1],), torch.inf, dtype=y.dtype, device=y.device)  # of each component
        weight = torch.zeros_like(projected)  # in the basis, as are all that are tried
        for penalty in self.penalties:
            tried = projected / (eigenvalues.clamp_min(0) + penalty * scale)[:, None]  # [D, F]
            error = (held_out @ tried - wanted).square().mean(dim=0)
            weight = torch.where(error < best, tried, weight)
            best = torch.minimum(error, best)
        self.weight = basis @ weight

    def predict(self, features: Tensor) -> Tensor:
        return ((features.double() - self.feature_mean) @ self.weight + self.target_mean).float()
