"""Worlds in which something is to get somewhere."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.core import State, World, apart

Reward = Literal["sparse", "dense"]


class GoalWorld(World):
    """A world whose state has ``location`` and ``goal``, both [n, 2], (x, y) in px of the frame.

    A goal is given with ``reset(options={"state": {"goal": …}})``; `at_goal` is the state whose frame is the picture of
    the goal. Inherit from this class first, and then from that of what moves and is drawn:
    ``class TwoRooms(GoalWorld, DrawnWorld)``.

    Args:
        reach: how near the goal counts as there, in px.
        reward: ``"sparse"``: 1 for a step that ends at the goal, else 0; ``"dense"``: minus the distance to it in px.
        terminate: whether an episode ends at the goal. Data without rewards go on.
        show_goal: whether the goal is drawn, and a factor.

    Raises:
        ValueError: a reach that is not positive, an unknown reward.
    """

    def __init__(self, reach: float, reward: Reward, terminate: bool, show_goal: bool) -> None:
        if not 0 < reach < np.inf:
            raise ValueError(f"reach must be positive and finite, got {reach!r}")
        if reward not in ("sparse", "dense"):
            raise ValueError(f"reward must be 'sparse' or 'dense', got {reward!r}")
        self.reach, self.dense, self.terminate, self.show_goal = reach, reward == "dense", terminate, show_goal
        self.seeks_goal = not show_goal

    def at_goal(self, state: State) -> State:
        """The state of having arrived."""
        return {**state, "location": state["goal"].copy()}

    def reward(self, state: State, action: NDArray, next_state: State) -> NDArray[np.float64]:
        distance = self._distance(next_state)
        return -distance if self.dense else (distance <= self.reach).astype(np.float64)

    def terminated(self, state: State) -> NDArray[np.bool_]:
        return (self._distance(state) <= self.reach) & self.terminate

    def _distance(self, state: State) -> NDArray[np.float64]:
        return apart(state["goal"], state["location"])
