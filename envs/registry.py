"""Registration of worlds with Gymnasium."""

from __future__ import annotations

import gymnasium

from envs.core import World

NAMESPACE = "jepa_worlds"


def register(name: str, world: type[World], max_episode_steps: int) -> None:
    """Register a world as ``jepa_worlds/<name>``, for `gymnasium.make` and `gymnasium.make_vec`.

    Keyword arguments of ``make`` go to the world; `envs.faces` says which ones every world takes beside its own.
    """
    gymnasium.register(
        id=f"{NAMESPACE}/{name}",
        entry_point="envs.faces:WorldEnv",
        vector_entry_point="envs.vector_face:WorldVectorEnv",
        max_episode_steps=max_episode_steps,
        kwargs={"world": f"{world.__module__}:{world.__qualname__}"},
    )
