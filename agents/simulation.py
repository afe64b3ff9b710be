"""The true world as a model: what candidates lead to, as its own transition has it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.mpc import SearchSpace
from agents.planners.core import Cost
from envs.core import Factors, State, World

SEEN = ("distractor.", "stack.")  # parts of a state that change what is seen, and nothing of what happens

Distance = Callable[[Factors], NDArray[np.float64]]  # factors of m worlds -> how far each is from its aim, [m]


def inner_world(env: object) -> World | None:
    """The world that is underneath distractors and stacks; None for an environment that is none of this package's."""
    found = getattr(env, "world", None)
    while isinstance(found, World) and isinstance(getattr(found, "world", None), World):
        found = found.world  # type: ignore[attr-defined]
    return found if isinstance(found, World) else None


def simulated_cost(
    world: World, state: State, space: SearchSpace, distance: Callable[[NDArray[np.int64]], Distance] | None
) -> Cost:
    """The cost of candidates, from what they truly lead to; nothing is drawn, and there are no gradients.

    Args:
        world: without distractors, see `inner_world`.
        state: of B worlds, {name: [B, ...]}; that of distractors is left out.
        space: what candidates are.
        distance: the mean over steps is the cost. It is given the number of the world that each of m rows belongs to,
            and gives what measures their factors. None: the cost is minus the mean reward of a step.

    Returns:
        Actions [B, N, H, A] -> costs [B, N].
    """
    here = {name: array for name, array in state.items() if not name.startswith(SEEN)}

    def cost(actions: Tensor) -> Tensor:
        batch, count, horizon = actions.shape[:3]
        rows = np.repeat(np.arange(batch), count)  # [B·N]
        now = {name: array[rows] for name, array in here.items()}
        measure = None if distance is None else distance(rows)
        taken = space.taken(actions.detach().flatten(0, 1))  # [B·N, H, ...]
        total = np.zeros(batch * count)
        for step in range(horizon):
            after = world.transition(now, taken[:, step])
            if measure is None:
                total -= world.reward(now, taken[:, step], after)
            else:
                total += measure(world.factors(after))
            now = after
        return torch.from_numpy(total / horizon).to(actions).view(batch, count)

    return cost
