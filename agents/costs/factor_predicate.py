"""Whether a factor, as a probe reads it off imagined latents, is where it should be: say, x > 20."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.costs.core import Imagined, Steps, Term, checked_steps, counted
from envs.arguments import require_whole


class FactorPredicate(Term):
    """relu(above − x_k) + relu(x_k − below) for one component x of a factor: 0 where it holds, else how far it is off.

    Args:
        factor: its name, such as ``location``.
        component: which of its numbers.
        above, below: bounds of it, in the units of the factor; null for none.
        steps: the ``last`` step of a plan, or the ``mean`` over all of them.

    Raises:
        ValueError: no bound, bounds that nothing is between, a component below 0, or other steps; later, a component
            that the probe does not read.
    """

    def __init__(
        self,
        factor: str,
        component: int = 0,
        above: float | None = None,
        below: float | None = None,
        steps: Steps = "mean",
    ) -> None:
        super().__init__()
        self.low, self.high = float("-inf") if above is None else above, float("inf") if below is None else below
        if (above is None and below is None) or not self.low < self.high:
            raise ValueError(
                f"above, below or both must be given, with room between them, got above={above!r}, below={below!r}"
            )
        require_whole(0, component=component)
        self.factor, self.component, self.steps = factor, component, checked_steps(steps)
        self.needs = frozenset({f"readouts.{factor}"})

    def forward(self, imagined: Imagined) -> Tensor:
        read = imagined.aims.readouts[self.factor](counted(imagined.latents, self.steps))  # [B, N, H or 1, F]
        if self.component >= read.shape[-1]:
            raise ValueError(f"{self.factor!r} has {read.shape[-1]} numbers, there is no component {self.component}")
        x = read[..., self.component]
        return (torch.relu(self.low - x) + torch.relu(x - self.high)).mean(dim=-1)
