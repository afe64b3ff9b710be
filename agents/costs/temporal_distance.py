"""How long it takes from imagined latents to the goal, as a learned metric has it."""

from __future__ import annotations

from torch import Tensor

from agents.costs.core import Imagined, Steps, Term, checked_steps, counted


class TemporalDistanceCost(Term):
    """d(z_k, z_goal), the head ``temporal_distance`` (`agents.heads.temporal_distance`): for worlds in which latents
    that look alike are far apart in time, such as the two sides of a wall.

    Args:
        steps: the ``last`` step of a plan, or the ``mean`` over all of them.

    Raises:
        ValueError: other steps.
    """

    needs = frozenset({"goal", "heads.temporal_distance"})

    def __init__(self, steps: Steps = "mean") -> None:
        super().__init__()
        self.steps = checked_steps(steps)

    def forward(self, imagined: Imagined) -> Tensor:
        assert imagined.aims.goal is not None
        distance = imagined.aims.heads["temporal_distance"]
        goal = imagined.aims.goal[:, None, None].float()  # [B, 1, 1, G]
        return distance(counted(imagined.achieved, self.steps), goal).mean(dim=-1)
