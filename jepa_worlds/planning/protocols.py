"""Protocols of planning: which episodes, where they are to get, how long they take, and what counts as having arrived.

One yaml each in ``configs/protocol/plan``. Numbers may be compared where the id and the hash of a protocol agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.arguments import require_whole
from envs.core import Factors, apart
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import protocol_id

SCORES = ("success", "return")
DISTRACTORS = ("none", "data")


@dataclass(frozen=True)
class Goals:
    """Where episodes are to get. With none of these, it is where the world says (`envs.core.World.at_goal`).

    Attributes:
        state: {name: value}, variables of the state that is the goal; the others stay as an episode begins.
        ahead: the goal is what is seen so many steps later, if ``behaviour`` acts.
        behaviour: its configuration.

    Raises:
        ValueError: more than one of them, a behaviour without steps or the other way round.
    """

    state: Mapping[str, Any] | None = None
    ahead: int | None = None
    behaviour: Plain | None = None

    def __post_init__(self) -> None:
        if self.state is not None and self.ahead is not None:
            raise ValueError("goals are a state, or what is so many steps ahead; got both: set one of them to null")
        if (self.ahead is None) != (self.behaviour is None):
            raise ValueError(
                f"goals.ahead says how many steps goals.behaviour acts, so both are given or neither; got "
                f"{self.ahead!r} and {self.behaviour!r}"
            )
        if self.ahead is not None:
            require_whole(**{"goals.ahead": self.ahead})
        if self.state is not None and not (isinstance(self.state, Mapping) and self.state):
            raise ValueError(
                f"goals.state must be variables of a state, as in {{angle: 0, velocity: 0}}: {self.state!r}"
            )


@dataclass(frozen=True)
class Success:
    """When an episode is where it should be: ‖factor − its aim‖ ≤ within.

    Attributes:
        factor: its name, such as ``location``. The aim is its value at the goal.
        within: the distance that counts as there.
        unit: of the distance, such as px; empty if it has none.

    Raises:
        ValueError: a distance that is not positive.
    """

    factor: str
    within: float
    unit: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.within, bool) or not isinstance(self.within, (int, float)) or not 0 < self.within < np.inf:
            raise ValueError(f"protocol.success.within must be a positive number, got {self.within!r}")


@dataclass(frozen=True)
class Protocol:
    """How planning is evaluated.

    Attributes:
        id: name and version.
        env: the worlds, as ``env`` is in configurations.
        distractor: ``none``; ``data``: that of the dataset which the model was trained on, with held-out pictures.
        goals, success: see there.
        score: what counts, ``success`` or ``return``. A planner on the true simulator minimises the distance of
            ``success``, or maximises the return.
        budget: steps of an episode.
        horizon: actions of a plan.
        executed: actions that are carried out before the next plan is made.
        action_repeat: steps for which an action of a plan is held.
        episodes: of each seed.
        seeds: of episodes, planners and heads.

    Raises:
        ValueError: a value that is out of range.
    """

    id: str
    env: Plain
    distractor: str
    goals: Goals
    success: Success
    score: str
    budget: int
    horizon: int
    executed: int
    action_repeat: int
    episodes: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, known in {"score": SCORES, "distractor": DISTRACTORS}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"protocol.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        counts = ("budget", "horizon", "executed", "action_repeat", "episodes")
        require_whole(**{f"protocol.{name}": getattr(self, name) for name in counts})
        if self.executed > self.horizon:
            raise ValueError(
                f"protocol.executed={self.executed} actions are more than a plan of protocol.horizon={self.horizon} has"
            )
        if not (isinstance(self.env, Mapping) and isinstance(self.env.get("id"), str)):
            raise ValueError(f"protocol.env must have an id, such as jepa_worlds/TwoRooms-v0; got {self.env!r}")
        seeds = self.seeds
        if not seeds or len({*seeds}) < len(seeds) or not all(type(x) is int and 0 <= x < 2**32 for x in seeds):
            raise ValueError(f"protocol.seeds must be different integers from 0 to 2**32 - 1, got {list(seeds)!r}")

    @classmethod
    def of(cls, settings: Plain) -> Protocol:
        """The protocol of a configuration.

        Raises:
            ValueError: a key that is missing or unknown, or a value that is out of range.
        """
        parts: dict[str, type[Goals] | type[Success]] = {"goals": Goals, "success": Success}
        made = {name: _made(part, settings.get(name), f"protocol.{name}") for name, part in parts.items()}
        if not isinstance(settings.get("seeds"), (list, tuple)):
            raise ValueError(f"protocol.seeds must be a list of integers, got {settings.get('seeds')!r}")
        return _made(cls, {**settings, **made, "seeds": tuple(settings["seeds"])}, "protocol")

    def settled(self, distractor: Plain) -> dict[str, str]:
        """Id and hash, with what the protocol leaves open: the distractor that there is."""
        return protocol_id({**asdict(self), "distractor": distractor})

    def distance(self, factors: Factors, goal: Factors) -> NDArray[np.float64]:
        """How far worlds are from their goals: {name: [n, ...]}, {name: [n, ...]} -> [n].

        Raises:
            ValueError: worlds that do not tell the factor.
        """
        name = self.success.factor
        if name not in factors or name not in goal:
            raise ValueError(
                f"protocol.success.factor={name!r} is none of the factors of the worlds: {sorted(factors)}"
            )
        return apart(factors[name], goal[name])


def _made(kind: type[Any], settings: Any, where: str) -> Any:
    """An instance of a dataclass.

    Raises:
        ValueError: a key that is missing or unknown.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where} must have keys and values, got {settings!r}")
    known = {field.name for field in fields(kind)}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"unknown keys {unknown} in {where}; known are {sorted(known)}")
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
