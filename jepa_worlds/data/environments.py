"""Vector environments from configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.envs import registration

import envs as _envs  # noqa: F401  registers the environments
from agents.policies.core import Goal
from envs.core import Factors
from envs.registry import NAMESPACE
from jepa_worlds.shared.build import TRUSTED, build
from jepa_worlds.shared.jobs import cores

AT_ONCE = 256  # native worlds, which are stepped and drawn together in this process
HELD_OUT = 1_000_000_007  # folded into seeds, so that no episode begins as one of a dataset's

Task = dict[str, Any]
"""Worlds to act in: ``env`` and ``distractor`` as in configurations, and ``episode_length`` (None: the world's own)."""


def make_vec(config: dict[str, Any], num_envs: int, **kwargs: Any) -> gymnasium.vector.VectorEnv:
    """The environments of a configuration.

    Args:
        config: ``id``, and what else its environment takes. With ``via``, the id of an environment of this package
            that wraps others, ``id`` is what it wraps and ``kwargs`` is what that takes.
        num_envs: how many.
        kwargs: added to what the environment takes.

    Raises:
        ValueError: an environment that does not exist, or does not take these arguments.
    """
    given = {**config}
    name = given.pop("id")
    wrapped = {}
    if via := given.pop("via", None):
        wrapped = {"env_id": name, **(given.pop("kwargs", None) or {})}
        if twice := sorted(wrapped.keys() & (given.keys() | kwargs.keys())):
            raise ValueError(f"env.kwargs are those of {name!r} itself, but {twice} belong to env: set env.{twice[0]}")
    elif "world" in given:
        raise ValueError(f"env.world cannot be chosen, {name!r} says which one it is; got {given['world']!r}")
    try:
        return gymnasium.make_vec(via or name, num_envs=num_envs, **wrapped, **kwargs, **given)
    except gymnasium.error.UnregisteredEnv as error:
        known = "" if via else f" Known: {', '.join(sorted(x for x in gymnasium.registry if x.startswith(NAMESPACE)))}"
        raise ValueError(f"unknown env.id={name!r}: {error}{known}") from error
    except (gymnasium.error.Error, TypeError) as error:
        hint = (
            "" if via or name.startswith(f"{NAMESPACE}/") else f"; environments of others: env=gymnasium env.id={name}"
        )
        raise ValueError(f"env.id={name!r} cannot be made with {given}: {error}{hint}") from error


def make_worlds(task: Task, num_envs: int, held_out: bool, trust: Sequence[str] = ()) -> gymnasium.vector.VectorEnv:
    """The worlds of a task; with the pictures that distractors keep for held-out episodes, or not.

    All are in this process, those of other libraries too: policies are trained side by side already.

    Args:
        task: of them.
        num_envs: how many.
        held_out: whether distractors show what they keep for held-out episodes.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: an environment that does not exist.
    """
    more = {} if task["episode_length"] is None else {"max_episode_steps": task["episode_length"]}
    if in_workers(task["env"]):
        more["processes"] = False
    layers = distractors(task["distractor"], trust)
    return make_vec(task["env"], num_envs, distractor=layers, held_out=held_out, **more)


def native_ids() -> list[str]:
    """The worlds that are drawn here, in batches."""
    return sorted(env_id for env_id, spec in registration.registry.items() if spec.entry_point == "envs.faces:WorldEnv")


def how_many(config: dict[str, Any]) -> int:
    """How many environments are stepped at once unless told otherwise: native worlds together, others one a core."""
    spec = gymnasium.registry.get(config.get("via") or config["id"])
    if spec is None or spec.vector_entry_point == "envs.vector_face:WorldVectorEnv":
        return AT_ONCE
    return cores()


def in_workers(config: dict[str, Any]) -> bool:
    """Whether environments are those of another library, which this package puts into worker processes."""
    spec = gymnasium.registry.get(config.get("via") or config["id"])
    return spec is not None and str(spec.vector_entry_point).startswith("envs.external.")


def distractors(config: dict[str, Any] | None, trust: Sequence[str] = ()) -> list[Any]:
    """The distractors of a configuration: nothing, one with ``_target_``, or several by name.

    Args:
        config: of them.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: a distractor that cannot be built.
    """
    if not config:
        return []
    layers = [config] if "_target_" in config else config.values()
    return [build(layer, (*TRUSTED, *trust)) for layer in layers]


def factors_of(env: gymnasium.vector.VectorEnv, infos: dict[str, Any]) -> Factors:
    """The factors that environments tell in ``infos``, without the masks beside them: {name: [n, ...]}."""
    return {name: infos["factors"][name] for name in env.unwrapped.factor_space}  # type: ignore[attr-defined]


def goal_of(env: gymnasium.vector.VectorEnv) -> Goal | None:
    """Where worlds are to get; None if there is no goal, or if frames show it."""
    there = env.unwrapped
    return Goal(*there.goal()) if getattr(there, "seeks_goal", False) else None  # type: ignore[attr-defined]
