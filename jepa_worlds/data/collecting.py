"""Collection of datasets: environments are stepped under a behaviour."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.actions import described
from agents.behaviours.core import Behaviour
from envs import random
from envs.arguments import require_whole, require_whole_or_none
from jepa_worlds.data.dataset import FORMAT, Split
from jepa_worlds.data.environments import distractors, factors_of, goal_of, how_many, make_vec
from jepa_worlds.data.sharding import Columns, shard_episodes, split_episodes, write_dataset
from jepa_worlds.shared.files import versions


@dataclass(frozen=True)
class Collection:
    """What to collect. See ``python -m jepa_worlds.collect --help``.

    Raises:
        ValueError: a number that is out of range, an environment without an id.
    """

    env: dict[str, Any]
    distractor: dict[str, Any] | None
    behaviour: dict[str, Any]
    episodes: int
    episode_length: int
    validation: float
    test: float
    seed: int
    shard_episodes: int | None
    num_envs: int | None

    def __post_init__(self) -> None:
        if not (isinstance(self.env, dict) and isinstance(self.env.get("id"), str)):
            raise ValueError(f"env must have an id, such as jepa_worlds/MovingDot-v0; got {self.env!r}")
        require_whole(episodes=self.episodes, episode_length=self.episode_length)
        require_whole_or_none(shard_episodes=self.shard_episodes, num_envs=self.num_envs)
        if type(self.seed) is not int or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, got {self.seed!r}")
        self.splits()

    @classmethod
    def of(cls, settings: Mapping[Any, Any]) -> Collection:
        """The collection of a configuration; what it lacks is None.

        Raises:
            ValueError: a value that is out of range.
        """
        wanted: dict[str, Any] = {field.name: settings.get(field.name) for field in fields(cls)}
        return cls(**wanted)

    def splits(self) -> dict[Split, tuple[int, int]]:
        """First episode of each split, and the one after its last."""
        return split_episodes(self.episodes, self.validation, self.test)

    def make(self, split: Split, trust: Sequence[str] = ()) -> gymnasium.vector.VectorEnv:
        """The environment that a split is collected from: distractors show their held-out pictures outside train.

        Args:
            split: of the episodes.
            trust: packages beside `agents` and `envs` whose classes may be built.

        Raises:
            ValueError: an environment that does not exist, or does not take these arguments.
        """
        return make_vec(
            self.env,
            min(self.num_envs or how_many(self.env), self.shard_episodes or self.episodes, self.episodes),
            max_episode_steps=self.episode_length,
            distractor=distractors(self.distractor, trust),
            held_out=split != "train",
        )


def collect(collection: Collection, behaviour: Behaviour, out: Path, trust: tuple[str, ...] = ()) -> dict[str, Any]:
    """Collect a dataset into a folder, or go on with one that was begun; returns its manifest.

    Args:
        collection: what to collect.
        behaviour: who acts, as ``collection.behaviour`` says.
        out: the folder.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: the folder holds something else, or a dataset collected otherwise.
    """
    header = _header(collection, behaviour, trust)
    collection = replace(collection, shard_episodes=header["shard_episodes"])
    made: dict[Split, gymnasium.vector.VectorEnv] = {}

    def columns(split: Split, episodes: range) -> Columns:
        if split not in made:
            _close(made)
            made[split] = collection.make(split, trust)
        return rollouts(made[split], behaviour, collection.seed, episodes, collection.episode_length)

    try:
        return write_dataset(header, (*Collection.__dataclass_fields__, "pictures"), out, columns, "collect")
    finally:
        _close(made)


def _close(made: dict[Split, gymnasium.vector.VectorEnv]) -> None:
    while made:
        made.popitem()[1].close()


def rollouts(env: gymnasium.vector.VectorEnv, behaviour: Behaviour, seed: int, episodes: range, length: int) -> Columns:
    """The columns of a range of episodes. Episode e depends on (seed, e) only, not on what is collected beside it."""
    parts = [
        _batch(env, behaviour, seed, np.arange(start, min(start + env.num_envs, episodes.stop)), length)
        for start in range(episodes.start, episodes.stop, env.num_envs)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batch(
    env: gymnasium.vector.VectorEnv, behaviour: Behaviour, seed: int, episodes: NDArray[np.int64], length: int
) -> Columns:
    """One episode a world; worlds beyond the number of episodes run along unrecorded."""
    n, count = env.num_envs, len(episodes)
    key = random.fold_in(np.full(n, seed, np.uint64), np.resize(episodes, n))
    frames, infos = env.reset(seed=[int(word) for word in random.fold_in(key, 0)])  # type: ignore[arg-type]
    factors = factors_of(env, infos)
    state = behaviour.start(random.fold_in(key, 1), env.single_action_space)
    state = behaviour.look(state, frames, factors, goal_of(env))
    at_frames: Columns = {"frames": np.empty((count, length + 1, *frames.shape[1:]), frames.dtype)}
    at_frames |= {
        f"factors.{name}": np.empty((count, length + 1, *x.shape[1:]), x.dtype) for name, x in factors.items()
    }
    at_steps: Columns = {
        "actions": np.empty((count, length, *(env.single_action_space.shape or ())), env.single_action_space.dtype),
        "rewards": np.empty((count, length), np.float32),
        "terminations": np.empty((count, length), bool),
        "truncations": np.empty((count, length), bool),
    }
    lengths = np.zeros(count, np.int64)
    for t in range(length + 1):
        at_frames["frames"][:, t] = frames[:count]
        for name, x in factors.items():
            at_frames[f"factors.{name}"][:, t] = x[:count]
        if t == length or (lengths > 0).all():
            break
        actions, state = behaviour.act(state, frames, factors)
        frames, rewards, terminations, truncations, infos = env.step(actions)
        factors = factors_of(env, infos)
        for name, x in zip(at_steps, (actions, rewards, terminations, truncations), strict=True):
            at_steps[name][:, t] = x[:count]
        over = (terminations | truncations)[:count]
        lengths = np.where((lengths == 0) & over, t + 1, lengths)
    lengths[lengths == 0] = length
    in_step = np.arange(length) < lengths[:, None]
    in_frame = np.arange(length + 1) <= lengths[:, None]
    return {
        **{name: x[in_frame] for name, x in at_frames.items()},
        **{name: x[in_step] for name, x in at_steps.items()},
        "lengths": lengths,
    }


def _header(collection: Collection, behaviour: Behaviour, trust: tuple[str, ...]) -> dict[str, Any]:
    """What the manifest says before anything is collected.

    A step is tried in every split, so that whatever may be wrong comes out before anything is written.
    """
    for split, (first, end) in collection.splits().items():
        if end > first:
            env = replace(collection, num_envs=1).make(split, trust)
            rollouts(env, behaviour, collection.seed, range(1), length=1)
            env.close()
    factor_space: gymnasium.spaces.Dict = env.unwrapped.factor_space  # type: ignore[attr-defined]
    splits = {name: [first, end] for name, (first, end) in collection.splits().items()}
    frame_shape = env.single_observation_space.shape or ()
    pictures = _pictures(collection.distractor)
    return {
        "format": FORMAT,
        "complete": False,
        **{name: value for name, value in asdict(collection).items() if name not in ("num_envs", "validation", "test")},
        "shard_episodes": collection.shard_episodes or shard_episodes(collection.episode_length, frame_shape),
        "splits": splits,
        "frame_shape": list(frame_shape),
        "action": described(env.single_action_space),
        "factors": {
            name: {"shape": list(space.shape), "low": _finite(space.low), "high": _finite(space.high)}
            for name, space in factor_space.spaces.items()
            if isinstance(space, gymnasium.spaces.Box)
        },
        **({"pictures": pictures} if pictures else {}),
        "render_backend": getattr(env.unwrapped, "render_backend", "numpy"),
        "versions": versions(),
        "shards": [],
    }


def _pictures(distractor: object) -> dict[str, str]:
    """Digests of the names and sizes of the files that distractors show, by each ``path`` in their configuration."""
    found: dict[str, str] = {}
    for name, value in distractor.items() if isinstance(distractor, dict) else ():
        if name == "path" and isinstance(value, str):
            path = Path(value)
            files = [file for file in (path, *path.glob("*"), *path.glob("*/*")) if file.is_file()]
            told = sorted(f"{file.relative_to(path)} {file.stat().st_size}" for file in files)
            found[value] = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
        else:
            found |= _pictures(value)
    return found


def _finite(bound: NDArray) -> Any:
    """A bound as JSON has it, with null for what is unbounded."""
    found = bound.astype(object)
    found[~np.isfinite(bound)] = None
    return found.tolist()
