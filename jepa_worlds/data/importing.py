"""Datasets of one's own episodes, however they were recorded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.actions import described
from jepa_worlds.data.dataset import FORMAT, Dataset, Split
from jepa_worlds.data.sharding import Columns, shard_episodes, split_episodes, write_dataset
from jepa_worlds.shared.files import Plain, versions

SETTINGS = ("env", "distractor", "behaviour", "episodes", "episodes_digest", "episode_length", "seed", "shard_episodes")


@dataclass(frozen=True)
class Episode:
    """What was seen and done. ``actions[t]`` moves ``frames[t]`` to ``frames[t + 1]``.

    Attributes:
        frames: uint8 [T+1, H, W, C].
        actions: [T, ...].
        factors: {name: [T+1, ...]}, numbers that a probe is to read off latents, where they are known. ``location`` and
            ``location.<name>`` are positions, (x, y) in px, and are drawn into films.
        rewards: [T]; None: zeros.
        terminations, truncations: bool [T]; None: no step terminates; the last one truncates if it does not terminate.
    """

    frames: NDArray
    actions: NDArray
    factors: Mapping[str, NDArray] = field(default_factory=dict)
    rewards: NDArray | None = None
    terminations: NDArray | None = None
    truncations: NDArray | None = None

    @property
    def columns(self) -> Columns:
        """Its arrays as a dataset keeps them."""
        steps = len(self.actions)
        at_end = np.arange(1, steps + 1) == steps
        terminations = np.zeros(steps, bool) if self.terminations is None else np.asarray(self.terminations, bool)
        truncations = at_end & ~terminations if self.truncations is None else self.truncations
        return {
            "frames": np.asarray(self.frames),
            **{f"factors.{name}": np.asarray(x, np.float32) for name, x in self.factors.items()},
            "actions": np.asarray(self.actions),
            "rewards": np.zeros(steps, np.float32) if self.rewards is None else np.asarray(self.rewards, np.float32),
            "terminations": terminations,
            "truncations": np.asarray(truncations, bool),
        }


def from_episodes(
    episodes: Sequence[Episode],
    out: str | Path,
    name: str,
    action_space: gymnasium.Space | None = None,
    validation: float = 0.1,
    test: float = 0.1,
) -> Dataset:
    """Write a dataset of one's own episodes, to train and probe on like any other; killed and run again, it goes on.

    The last episodes are held out: shuffle them first if they differ from the others. A folder holds other episodes if
    any of a list or tuple has changed; of anything else, only the first and the last are compared.

    Args:
        episodes: anything with a length and indices; an episode is asked for when it is written, and up to 1024 of them
            (fewer that are as long as the first one, if they are large) are in memory at a time.
        out: the folder.
        name: what these episodes are called, others otherwise: models are not scored on what they learned from.
        action_space: a Discrete or MultiDiscrete one makes choices of actions; None: they are numbers.
        validation, test: shares of the episodes that are held out.

    Raises:
        ValueError: no episodes, arrays that do not fit together, or a folder that holds something else.
    """
    if not len(episodes):
        raise ValueError("there are no episodes")
    first = episodes[0].columns
    actions = first["actions"]
    if action_space is None and actions.dtype.kind != "f":
        raise ValueError(
            f"actions are {actions.dtype}: give an action_space, Discrete or MultiDiscrete for choices, or make them "
            f"floats"
        )
    space = action_space or spaces.Box(-np.inf, np.inf, actions.shape[1:], actions.dtype)
    splits = split_episodes(len(episodes), validation, test)
    known = episodes if isinstance(episodes, (list, tuple)) else (episodes[0], episodes[len(episodes) - 1])
    told = {"splits": splits, "episodes_digest": _digest(episode.columns for episode in known)}
    return write_episodes(episodes, Path(out), space, imported(name, first) | told)


def imported(name: str, first: Columns) -> Plain:
    """What a manifest says of where episodes are from, of which the first has these columns."""
    behaviour = {"imported": name, "first_episode": _digest([first])}
    return {"env": {"id": name}, "distractor": None, "behaviour": behaviour, "seed": 0}


def _digest(episodes: Iterable[Columns]) -> str:
    hashed = hashlib.sha256()
    for columns in episodes:
        for column, x in sorted(columns.items()):
            hashed.update(column.encode() + np.ascontiguousarray(x).tobytes())
    return hashed.hexdigest()[:16]


def write_episodes(episodes: Sequence[Episode], out: Path, space: gymnasium.Space, told: Plain) -> Dataset:
    """Write a dataset of episodes, whose manifest says what is told, at least ``splits`` and where they are from.

    Raises:
        ValueError: arrays that do not fit together, or a folder that holds something else.
    """
    if not isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)):
        raise ValueError(f"actions must be a Box, Discrete or MultiDiscrete space, got {space}")
    first = _checked(episodes[0].columns, None, 0, space)
    shape = first["frames"].shape[1:]
    header = {
        "format": FORMAT,
        "complete": False,
        "episodes": len(episodes),
        "episode_length": None,
        "shard_episodes": shard_episodes(len(first["actions"]), shape),
        "frame_shape": list(shape),
        "action": described(space),
        "factors": {
            column.removeprefix("factors."): {"shape": list(x.shape[1:]), "low": None, "high": None}
            for column, x in first.items()
            if column.startswith("factors.")
        },
        "render_backend": None,
        "versions": versions(),
        **told,
        "splits": {split: list(ends) for split, ends in told["splits"].items()},
        "shards": [],
    }

    def columns(split: Split, numbers: range) -> Columns:
        found = [_checked(episodes[number].columns, first, number, space) for number in numbers]
        joined = {name: np.concatenate([one[name] for one in found]) for name in first}
        return joined | {"lengths": np.array([len(one["actions"]) for one in found], np.int64)}

    write_dataset(header, SETTINGS, out, columns, "import")
    return Dataset(out, verify=False)


def _checked(columns: Columns, like: Columns | None, number: int, space: gymnasium.Space) -> Columns:
    """The columns of an episode, as long as they should be, shaped as those of the first, its actions of the space.

    Raises:
        ValueError: they are not.
    """
    frames, steps = columns["frames"], len(columns["actions"])
    where = f"episode {number}"
    if frames.dtype != np.uint8 or frames.ndim != 4:
        raise ValueError(f"{where}: frames must be uint8 [T+1, H, W, C], got {frames.dtype} {list(frames.shape)}")
    if not steps:
        raise ValueError(f"{where} has no steps")
    if columns["actions"].shape[1:] != space.shape:
        raise ValueError(f"{where}: actions must be of {space}, got those of shape {columns['actions'].shape[1:]}")
    if not isinstance(space, spaces.Box) and not all(map(space.contains, columns["actions"])):
        raise ValueError(f"{where} has actions that are not of {space}")
    for name, x in columns.items():
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(f"{where}: {name!r} becomes the name of a file: use letters, digits, _, ., + and - alone")
        wanted = steps + (name == "frames" or name.startswith("factors."))
        if len(x) != wanted:
            raise ValueError(f"{where}: {name} must have {wanted} rows beside {steps} actions, got {len(x)}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ValueError(f"{where}: {name} has numbers that are not finite")
    for name in sorted(columns.keys() | (like or columns).keys()):
        mine, first = columns.get(name), (like or columns).get(name)
        if mine is None or first is None or (mine.shape[1:], mine.dtype) != (first.shape[1:], first.dtype):
            said = ["none" if x is None else f"{x.dtype} {list(x.shape[1:])}" for x in (mine, first)]
            raise ValueError(f"{where}: {name} of each step is {said[0]}, that of episode 0 {said[1]}")
    return columns
