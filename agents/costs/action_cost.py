"""What actions cost by themselves."""

from __future__ import annotations

from torch import Tensor

from agents.costs.core import Imagined, Term


class ActionCost(Term):
    """mean a² over steps and components, in the environment's units."""

    def forward(self, imagined: Imagined) -> Tensor:
        return imagined.actions.float().square().mean(dim=(2, 3))
