"""Whether a model is planned with in the worlds that it knows: those of a protocol beside those of its dataset."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from envs.core import World
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import differing

NAMES = ("via", "id", "domain", "task")  # what says which world it is; all else are settings of it
STEPS, WORLDS = 4, 8  # of those that are played to see whether two worlds look the same


def other_settings(run: str, there: Plain, here: Plain) -> list[str]:
    """Settings in which the worlds of a dataset are not those of a protocol, such as ``env.max_step=2.0 (now 4.0)``.

    What is not given is as the worlds have it by default; what one of them does not have at all is left out.

    Args:
        run: the name of what was trained on the dataset.
        there: the worlds of the dataset, as ``env`` is in configurations.
        here: those of the protocol.

    Raises:
        ValueError: they are other worlds, and differ in more than goals, rewards and where episodes begin.
    """
    before, now = _settings(there), _settings(here)
    names = [" ".join(str(x[name]) for name in NAMES if x.get(name) is not None) for x in (before, now)]
    if names[0] != names[1] and not _look_the_same(there, here):
        raise ValueError(
            f"the data of {run} are from {names[0]}, and the protocol is of another world, {names[1]}: choose the "
            f"protocol of the worlds that it was trained on"
        )
    shared = [name for name in before if name in now and name not in NAMES]
    return [text for name in shared for text in differing(f"env.{name}", before[name], now[name])]


def _creator(env: Plain) -> Callable[..., Any] | None:
    """What makes the world of a configuration; None if it is not registered."""
    spec = gymnasium.registry.get(env.get("via") or env["id"])
    if spec is None:
        return None
    creator = spec.kwargs.get("world") or spec.entry_point
    return load_env_creator(creator) if isinstance(creator, str) else creator


def _parameters(creator: Callable[..., Any] | None) -> dict[str, inspect.Parameter]:
    return {} if creator is None else dict(inspect.signature(creator).parameters)


def _settings(env: Plain) -> Plain:
    """All settings of a configuration, those that it leaves open as they are by default; as JSON has them."""
    given = {x.name: x.default for x in _parameters(_creator(env)).values() if x.default is not x.empty}
    return dict(json.loads(json.dumps({**given, **env}, default=str)))


def _look_the_same(there: Plain, here: Plain) -> bool:
    """Whether one world is made of the other, and all that is done looks the same in both, with the same settings."""
    one, other = _creator(there), _creator(here)
    if not (inspect.isclass(one) and inspect.isclass(other) and issubclass(one, World) and issubclass(other, World)):
        return False
    if not (issubclass(one, other) or issubclass(other, one)):
        return False
    settings = {**there, **here}
    derived, base = (
        kind(**{name: x for name, x in settings.items() if name in _parameters(kind)})
        for kind in ((one, other) if issubclass(one, other) else (other, one))
    )
    if derived.action_space != base.action_space or derived.frame_shape != base.frame_shape:
        return False
    derived.action_space.seed(0)
    first = second = derived.initial(np.arange(WORLDS, dtype=np.uint64))
    for _ in range(STEPS):
        actions = np.stack([derived.action_space.sample() for _ in range(WORLDS)])
        first, second = derived.transition(first, actions), base.transition(second, actions)
        if not np.array_equal(derived.render(first), base.render(second)):
            return False
    return True
