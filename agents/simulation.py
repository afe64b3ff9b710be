"""The true world as a model: what candidates lead to, as its own transition has it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.mpc import SearchSpace
from agents.planners.core import Cost
from envs.core import State, World, merge

SEEN = ("distractor.", "stack.")  # parts of a state that change what is seen, and nothing of what happens


def inner_world(env: object) -> World | None:
    """The world that is underneath distractors and stacks; None for an environment that is none of this package's."""
    found = getattr(env, "world", None)
    while isinstance(found, World) and isinstance(getattr(found, "world", None), World):
        found = found.world  # type: ignore[attr-defined]
    return found if isinstance(found, World) else None


class Wanted(NamedTuple):
    """What a factor should be: its name, and its values in B worlds, [B, *shape]."""

    factor: str
    aim: NDArray


def simulated_cost(world: World, state: State, space: SearchSpace, wanted: Wanted | None) -> Cost:
    """The cost of candidates, from what they truly lead to; nothing is drawn, and there are no gradients.

    Args:
        world: without distractors, see `inner_world`.
        state: of B worlds, {name: [B, ...]}; that of distractors is left out.
        space: what candidates are.
        wanted: the cost is how far it is to there, `envs.core.World.distance`, in the mean over steps. None: it is
            minus the mean reward of a step. Where an episode ends, all stays as it is, and nothing more is rewarded.

    Returns:
        Actions [B, N, H, A] -> costs [B, N].
    """
    here = {name: array for name, array in state.items() if not name.startswith(SEEN)}

    def cost(actions: Tensor) -> Tensor:
        batch, count, horizon = actions.shape[:3]
        rows = np.repeat(np.arange(batch), count)  # [B·N]
        now = {name: array[rows] for name, array in here.items()}
        aim = None if wanted is None else wanted.aim[rows]
        taken = space.taken(actions.detach().flatten(0, 1))  # [B·N, H, ...]
        total, over = np.zeros(batch * count), np.zeros(batch * count, bool)
        for step in range(horizon):
            after = world.transition(now, taken[:, step])
            if over.any():
                after = merge(over, {name: array[over] for name, array in now.items()}, after)
            if wanted is None or aim is None:
                total -= np.where(over, 0, world.reward(now, taken[:, step], after))
            else:
                total += world.distance(after, wanted.factor, aim)
            over |= world.terminated(after)
            now = after
        return torch.from_numpy(total / horizon).to(actions).view(batch, count)

    return cost
