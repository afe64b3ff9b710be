"""Model predictive control: plan, carry out the first actions, and plan again from what is left of the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from agents.planners.core import Cost, Plan, Planner, shifted
from envs import random
from envs.arguments import require_whole


@dataclass(frozen=True)
class SearchSpace:
    """Actions of an environment as planners search them: numbers within bounds, or a choice among n as one of n.

    Attributes:
        space: of a single environment.
        low, high: bounds, [A].
        fill: where nothing is known yet, [A]: the middle of the bounds, or all choices alike.

    Raises:
        ValueError: in `of`, for a space that is neither a Box of numbers with finite bounds nor Discrete.
    """

    space: gymnasium.Space
    low: Tensor
    high: Tensor
    fill: Tensor

    @classmethod
    def of(cls, space: gymnasium.Space, device: torch.device | str = "cpu") -> SearchSpace:
        """How a space is searched."""
        if isinstance(space, spaces.Discrete):
            count, device = int(space.n), torch.device(device)
            zeros = torch.zeros(count, device=device)
            return cls(space, zeros, zeros + 1, zeros + 1 / count)
        if not (isinstance(space, spaces.Box) and space.is_bounded() and np.issubdtype(space.dtype, np.floating)):
            raise ValueError(f"planning needs actions that are numbers with finite bounds, or Discrete; got {space}")
        low, high = (torch.tensor(np.ravel(x), dtype=torch.float32, device=device) for x in (space.low, space.high))
        return cls(space, low, high, (low + high) / 2)

    @property
    def choices(self) -> bool:
        """Whether an action is a choice."""
        return isinstance(self.space, spaces.Discrete)

    def taken(self, actions: Tensor) -> NDArray:
        """What environments are given: [..., A] -> [..., *space.shape]."""
        if isinstance(self.space, spaces.Discrete):
            return self.space.start + actions.argmax(dim=-1).cpu().numpy().astype(self.space.dtype)
        return actions.cpu().numpy().astype(self.space.dtype).reshape(*actions.shape[:-1], *(self.space.shape or ()))


class MPC:
    """A planner in the loop, for B environments that are always at the same step.

    What it does in an environment depends on that one alone, and on the seed: the generator of every decision is made
    of the seed and of the number of the decision.

    Args:
        planner: what searches.
        space: of actions.
        horizon: H, actions of a plan.
        executed: actions of a plan that are carried out before the next one is made.
        repeat: steps of the environment for which an action is held; costs see each action that often.
        seed: of all that is random.
        decided: told of every decision: its plan and the candidates that it judged for each environment.

    Raises:
        ValueError: a number that is not positive, more actions carried out than planned, a planner of choices for
            numbers or the other way round.
    """

    def __init__(
        self,
        planner: Planner,
        space: SearchSpace,
        horizon: int,
        executed: int = 1,
        repeat: int = 1,
        seed: int = 0,
        decided: Callable[[Plan, int], None] = lambda plan, judged: None,
    ) -> None:
        require_whole(horizon=horizon, executed=executed, repeat=repeat)
        if executed > horizon:
            raise ValueError(f"executed={executed} actions are more than a plan of horizon={horizon} has")
        if space.choices != planner.choices:
            advice = "categorical_cem for choices, and any other for numbers"
            raise ValueError(f"{type(planner).__name__} does not search {space.space}: choose planner={advice}")
        self.planner, self.space, self.horizon = planner, space, horizon
        self.executed, self.repeat, self.seed, self.decided = executed, repeat, seed, decided
        self._step, self._plan = 0, None

    _plan: Plan | None

    def act(self, batch: int, cost: Callable[[], Cost]) -> Tensor:
        """The actions of now, as vectors: [B, A].

        Args:
            batch: B.
            cost: gives the cost of candidates from where the environments are now; asked only when a plan is due.
        """
        since, decision = self._step % (self.executed * self.repeat), self._step // (self.executed * self.repeat)
        if since == 0:
            self._plan = self._planned(batch, cost(), decision)
        self._step += 1
        assert self._plan is not None
        return self._plan.actions[:, since // self.repeat]

    def _planned(self, batch: int, cost: Cost, decision: int) -> Plan:
        fill, judged = self.space.fill, 0

        def held(actions: Tensor) -> Tensor:
            nonlocal judged
            judged += actions.shape[1]
            return cost(actions.repeat_interleave(self.repeat, dim=2) if self.repeat > 1 else actions)

        start, kept = fill.expand(batch, self.horizon, -1), None
        if self._plan is not None:
            start, kept = (shifted(x, self.executed, fill) for x in (self._plan.actions, self._plan.kept))
        seed = random.fold_in(np.array([self.seed], np.uint64), decision)[0] >> np.uint64(1)  # torch takes 63 bits
        generator = torch.Generator(fill.device).manual_seed(int(seed))
        plan = self.planner.plan(held, start, self.space.low, self.space.high, generator, kept)
        self.decided(plan, judged)
        return plan
