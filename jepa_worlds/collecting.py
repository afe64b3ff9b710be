"""Collection of datasets: sharded, atomic, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.actions import described
from agents.behaviours.core import Behaviour
from envs import random
from jepa_worlds.bars import bar
from jepa_worlds.behaviours import identified, make_behaviour
from jepa_worlds.dataset import FORMAT, MANIFEST, SPLITS, Split, check_shard, read_manifest
from jepa_worlds.environments import distractors, factors_of, goal_of, how_many, make_vec
from jepa_worlds.files import digest, temporary_name, versions, write_array, write_json, writing
from jepa_worlds.runs import differing
from jepa_worlds.statistics import coverage, moments

Columns = dict[str, NDArray]
OPTIONAL = ("shard_episodes", "num_envs")
SHARD = 1024, 2**28  # episodes, and bytes of their frames, in a shard of unstated size at most


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
        for name in ("episodes", "episode_length", "shard_episodes", "num_envs"):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and not (name in OPTIONAL and value is None):
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, got {self.seed!r}")
        shares = self.validation, self.test
        if not (all(isinstance(x, (int, float)) and x >= 0 for x in shares) and sum(shares) < 1):
            raise ValueError(
                f"validation and test are shares of the episodes, from 0 and below 1 in all; got "
                f"validation={self.validation!r}, test={self.test!r}"
            )
        if not self.splits()["train"][1]:
            raise ValueError(
                f"episodes={self.episodes}, validation={self.validation} and test={self.test} leave no episodes to "
                f"train on: collect more, or lower these shares"
            )

    def splits(self) -> dict[Split, tuple[int, int]]:
        """First episode of each split, and the one after its last."""
        test = round(self.episodes * self.test)
        validation = round(self.episodes * self.validation)
        ends = (self.episodes - validation - test, self.episodes - test, self.episodes)
        return dict(zip(SPLITS, zip((0, *ends), ends, strict=False), strict=True))

    def shards(self) -> Iterator[tuple[str, Split, range]]:
        """Name, split and episodes of each shard."""
        assert self.shard_episodes is not None
        number = 0
        for split, (first, end) in self.splits().items():
            for start in range(first, end, self.shard_episodes):
                yield f"shard-{number:05d}", split, range(start, min(start + self.shard_episodes, end))
                number += 1

    def make(self, split: Split) -> gymnasium.vector.VectorEnv:
        """The environment that a split is collected from: distractors show their held-out pictures outside train.

        Raises:
            ValueError: an environment that does not exist, or does not take these arguments.
        """
        return make_vec(
            self.env,
            min(self.num_envs or how_many(self.env), self.shard_episodes or self.episodes, self.episodes),
            max_episode_steps=self.episode_length,
            distractor=distractors(self.distractor),
            held_out=split != "train",
        )


def collect(collection: Collection, out: Path, trust: tuple[str, ...] = ()) -> dict[str, Any]:
    """Collect a dataset into a folder, or go on with one that was begun; returns its manifest.

    A shard counts once it is in the manifest. Killed at any point and started again, collection ends byte-identical to
    one that was never interrupted.

    Args:
        collection: what to collect.
        out: the folder.
        trust: packages beside `agents` whose world models a saved policy may see through.

    Raises:
        ValueError: the folder holds something else, or a dataset collected otherwise.
    """
    header = _header(collection, trust)
    collection = replace(collection, shard_episodes=header["shard_episodes"])
    manifest = _resumed(header, out)
    if manifest["complete"]:
        return manifest
    done = {entry["name"] for entry in manifest["shards"]}
    split_env: tuple[Split, gymnasium.vector.VectorEnv] | None = None
    behaviour = make_behaviour(collection.behaviour, trust)
    with bar(total=collection.episodes, unit="episode", desc=f"collect {out}", smoothing=0) as progress:
        for name, split, episodes in collection.shards():
            if name not in done:
                if split_env is None or split_env[0] != split:
                    if split_env is not None:
                        split_env[1].close()
                    split_env = (split, collection.make(split))
                columns = rollouts(split_env[1], behaviour, collection.seed, episodes, collection.episode_length)
                manifest["shards"].append(_write_shard(out, name, split, episodes, columns))
                write_json(out / MANIFEST, manifest)
            progress.update(len(episodes))
    if split_env is not None:
        split_env[1].close()
    manifest |= {
        "complete": True,
        "statistics": moments(out, manifest),
        "coverage": coverage(out, manifest),
        "content_hash": _content_hash(manifest),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


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
    actions_like = np.zeros((), env.single_action_space.dtype)
    at_frames: Columns = {"frames": np.empty((count, length + 1, *frames.shape[1:]), frames.dtype)}
    at_frames |= {
        f"factors.{name}": np.empty((count, length + 1, *x.shape[1:]), x.dtype) for name, x in factors.items()
    }
    at_steps: Columns = {
        "actions": np.empty((count, length, *(env.single_action_space.shape or ())), actions_like.dtype),
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


def _header(collection: Collection, trust: tuple[str, ...]) -> dict[str, Any]:
    """What the manifest says before anything is collected.

    A step is tried in every split, so that whatever may be wrong comes out before anything is written.
    """
    behaviour = make_behaviour(collection.behaviour, trust)
    for split, (first, end) in collection.splits().items():
        if end > first:
            env = replace(collection, num_envs=1).make(split)
            rollouts(env, behaviour, collection.seed, range(1), length=1)
            env.close()
    factor_space: gymnasium.spaces.Dict = env.unwrapped.factor_space  # type: ignore[attr-defined]
    splits = {name: [first, end] for name, (first, end) in collection.splits().items()}
    frame_shape = env.single_observation_space.shape or ()
    episode_bytes = (collection.episode_length + 1) * int(np.prod(frame_shape))
    return {
        "format": FORMAT,
        "complete": False,
        **{name: value for name, value in asdict(collection).items() if name not in ("num_envs", "validation", "test")},
        "behaviour": identified(collection.behaviour),
        "shard_episodes": collection.shard_episodes or max(1, min(SHARD[0], SHARD[1] // episode_bytes)),
        "splits": splits,
        "frame_shape": list(frame_shape),
        "action": described(env.single_action_space),
        "factors": {
            name: {"shape": list(space.shape), "low": _finite(space.low), "high": _finite(space.high)}
            for name, space in factor_space.spaces.items()
            if isinstance(space, gymnasium.spaces.Box)
        },
        "render_backend": getattr(env.unwrapped, "render_backend", "numpy"),
        "versions": versions(),
        "shards": [],
    }


def _finite(bound: NDArray) -> Any:
    """A bound as JSON has it, with null for what is unbounded."""
    found = bound.astype(object)
    found[~np.isfinite(bound)] = None
    return found.tolist()


def _resumed(header: dict[str, Any], out: Path) -> dict[str, Any]:
    """The manifest to go on from: the header, or one begun under the same header."""
    if not (out / MANIFEST).is_file():
        killed_at_once = {temporary_name(out / MANIFEST)}
        if out.exists() and not (out.is_dir() and set(out.iterdir()) <= killed_at_once):
            raise ValueError(f"out={str(out)!r} exists and is not a dataset: choose another folder, or remove it")
        write_json(out / MANIFEST, header)
        return header
    manifest = read_manifest(out)

    def differences(*keys: str) -> list[str]:
        return [text for key in keys for text in differing(key, manifest.get(key), header[key])]

    settings = [key for key in header if key in Collection.__dataclass_fields__]
    found = differences(*settings, "splits") or differences(
        "frame_shape", "action", "factors"
    )  # these follow from those
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(
            f"out={str(out)!r} holds a dataset collected otherwise, with {', '.join(found[:4])}{more}: choose "
            f"another folder, or remove it"
        )
    for entry in manifest["shards"]:
        check_shard(out, entry, verify=True)
    return manifest


def _write_shard(out: Path, name: str, split: Split, episodes: range, columns: Columns) -> dict[str, Any]:
    """Write a shard under a temporary name, move it into place, and return its entry for the manifest."""
    temporary, final = out / f".{name}.tmp", out / name
    for leftover in (temporary, final):
        shutil.rmtree(leftover, ignore_errors=True)
    with writing(final):
        try:
            temporary.mkdir()
            for column, array in columns.items():
                write_array(temporary / f"{column}.npy", array)
            files = {
                file.name: {"bytes": file.stat().st_size, "sha256": digest(file)}
                for file in sorted(temporary.iterdir())
            }
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return {"name": name, "split": split, "episodes": [episodes.start, episodes.stop], "files": files}


def _content_hash(manifest: dict[str, Any]) -> str:
    named = {key: manifest[key] for key in ("env", "distractor", "behaviour", "seed", "splits", "shards")}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
