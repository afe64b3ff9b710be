"""Action repeat."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium

from envs.arguments import require_whole


class ActionRepeat(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Every action is taken several times, or until the episode ends; the rewards are added up.

    Only the last of the observations is returned, so what is rendered in between is never drawn.

    Raises:
        ValueError: a number of times that is no integer of at least 1.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], times: int) -> None:
        require_whole(action_repeat=times)
        super().__init__(env)
        self.times = times

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info
