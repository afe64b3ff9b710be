"""Goal-conditioned behaviour cloning (Lynch et al., 2020; Ghosh et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.heads.core import Trajectories
from agents.heads.policy import GoalPolicy
from agents.objectives.core import Terms


class GCBC(GoalPolicy):
    """−ln π(a_t | z_t, z_{t+k}), k uniform over what is left of the trajectory.

    Whatever was done on the way to something is taken for a way to get there; see `GoalPolicy` for the arguments.
    """

    def loss(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Terms:
        goals = data.goals[data.later(frames, generator)]
        return {"behaviour": self.nll(data.latents[frames], goals, data.actions[frames]).mean()}
