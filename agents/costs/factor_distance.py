"""How far a factor, as a probe reads it off imagined latents, is from the value that it should have."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.costs.core import Imagined, Steps, Term, checked_steps, counted


class FactorDistance(Term):
    """‖probe(z_k) − aim‖, in the units of the factor.

    Args:
        factor: its name, such as ``location``.
        steps: the ``last`` step of a plan, or the ``mean`` over all of them.

    Raises:
        ValueError: other steps; later, an aim that has not as many numbers as the probe reads.
    """

    def __init__(self, factor: str, steps: Steps = "mean") -> None:
        super().__init__()
        self.factor, self.steps = factor, checked_steps(steps)
        self.needs = frozenset({f"factors.{factor}", f"readouts.{factor}"})

    def forward(self, imagined: Imagined) -> Tensor:
        read = imagined.aims.readouts[self.factor](counted(imagined.latents, self.steps))  # [B, N, H or 1, F]
        aim = imagined.aims.factors[self.factor]
        if aim.shape[-1] != read.shape[-1]:
            raise ValueError(f"{self.factor!r} has {read.shape[-1]} numbers, the aim for it {aim.shape[-1]}")
        return torch.linalg.vector_norm(read - aim[:, None, None].to(read), dim=-1).mean(dim=-1)
