"""The moving dot, with somewhere to go: a goal that is shown by an image of the dot being there."""

from __future__ import annotations

from numpy.typing import NDArray

from envs import random
from envs.core import State
from envs.goals import GoalWorld, Reward
from envs.random import Key
from envs.registry import register
from envs.worlds.moving_dot import MovingDot


class MovingDotReach(GoalWorld, MovingDot):
    """`MovingDot`, frame for frame, with a goal drawn as its start is: anywhere, and independently of it.

    Frames never show the goal, so that whatever was trained on MovingDot sees nothing new; `at_goal` does.

    Action and factor ``location``: as in `MovingDot`.

    Args:
        size, sigma, max_step: as in `MovingDot`.
        reach: how near the goal counts as there, in px.
        reward, terminate: as in `envs.goals.GoalWorld`.

    Raises:
        ValueError: what `MovingDot` or `envs.goals.GoalWorld` refuses.
    """

    def __init__(
        self,
        size: int = 28,
        sigma: float = 1.3,
        max_step: float = 4.0,
        reach: float = 2.0,
        reward: Reward = "dense",
        terminate: bool = False,
    ) -> None:
        MovingDot.__init__(self, size, sigma, max_step)
        GoalWorld.__init__(self, reach, reward, terminate, show_goal=False)

    def initial(self, key: Key) -> State:
        return {**super().initial(key), "goal": self.dots.place(random.fold_in(key, 0))}

    def transition(self, state: State, action: NDArray) -> State:
        return {**state, **super().transition(state, action)}


register("MovingDotReach-v0", MovingDotReach, max_episode_steps=16)
