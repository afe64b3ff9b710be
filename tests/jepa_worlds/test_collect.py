"""Collection: what is in a dataset, and that it is whole whatever happens while it is made."""

from __future__ import annotations

import itertools
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image

from agents.behaviours.uniform import Uniform
from jepa_worlds.data import sharding
from jepa_worlds.data.collecting import Collection, rollouts
from jepa_worlds.data.dataset import MANIFEST, SPLITS, Dataset, read_manifest
from jepa_worlds.shared.files import read_json

DOT = "jepa_worlds/MovingDot-v0"
NOISE = ("distractor=uniform", "distractor.dynamics=dynamic")


def columns(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The columns of every split, joined over shards."""
    dataset = Dataset(path)
    found = {}
    for split in SPLITS:
        shards = dataset.shards(split)
        found[split] = {name: np.concatenate([shard.columns[name] for shard in shards]) for name in shards[0].columns}
        found[split]["lengths"] = np.concatenate([shard.lengths for shard in shards])
    return found


def episodes(path: Path):
    """Frames, steps and factors of each episode, as dicts of arrays."""
    dataset = Dataset(path)
    for split in SPLITS:
        for shard in dataset.shards(split):
            for first_frame, first_step, length in zip(shard.first_frame, shard.first_step, shard.lengths, strict=True):
                frame, step = slice(first_frame, first_frame + length + 1), slice(first_step, first_step + length)
                per_frame = ("frames", *(f"factors.{name}" for name in dataset.factors))
                yield {name: x[frame if name in per_frame else step] for name, x in shard.columns.items()}


@pytest.mark.parametrize("env", ["moving_dot", "three_dots"])
def test_collect__has_one_frame_more_than_actions_in_documented_types(tmp_path, collect_to, env):
    for episode in episodes(collect_to(tmp_path / "data", f"env={env}", "episodes=10", "episode_length=7")):
        assert episode["frames"].shape == (8, 28, 28, 1 if env == "moving_dot" else 3)
        assert episode["actions"].shape == (7, 2)
        assert {len(x) for name, x in episode.items() if name.startswith("factors.")} == {8}
        assert {len(episode[name]) for name in ("rewards", "terminations", "truncations")} == {7}
        dtypes = {name: str(x.dtype) for name, x in episode.items()}
        assert dtypes == dict.fromkeys(dtypes, "float32") | {
            "frames": "uint8",
            "terminations": "bool",
            "truncations": "bool",
        }
        assert episode["truncations"].tolist() == [False] * 6 + [True]
        assert not episode["terminations"].any()


def test_collect__records_actions_that_lead_from_frame_to_frame(tmp_path, collect_to):
    replayed = 0
    for episode in episodes(collect_to(tmp_path / "data", "episodes=12", "episode_length=16")):
        env = gymnasium.make(DOT)
        frame, info = env.reset(options={"state": {"location": episode["factors.location"][0]}})
        np.testing.assert_array_equal(frame, episode["frames"][0])
        for t, action in enumerate(episode["actions"]):
            frame, reward, _, truncated, info = env.step(action)
            np.testing.assert_array_equal(frame, episode["frames"][t + 1])
            np.testing.assert_array_equal(info["factors"]["location"], episode["factors.location"][t + 1], strict=True)
            assert reward == episode["rewards"][t]
        assert truncated and t == 15
        replayed += 1
    assert replayed == 12


def test_collect__keeps_episodes_that_end_early_at_their_own_length(tmp_path, collect_to, race):
    lengths = []
    for episode in episodes(collect_to(tmp_path / "data", *race, "episodes=30", "episode_length=6", "num_envs=8")):
        env = gymnasium.make("jepa_worlds/TestRace-v0")
        state = {name: episode[f"factors.{name}"][0] for name in ("position", "goal")}
        frame, info = env.reset(options={"state": state})
        np.testing.assert_array_equal(frame, episode["frames"][0])
        for t, action in enumerate(episode["actions"]):
            frame, *outcome, info = env.step(action)
            np.testing.assert_array_equal(frame, episode["frames"][t + 1])
            assert outcome == [episode[name][t] for name in ("rewards", "terminations", "truncations")]
            for name, x in info["factors"].items():
                np.testing.assert_array_equal(episode[f"factors.{name}"][t + 1], x)
            assert any(outcome[1:]) == (t == len(episode["actions"]) - 1), "an episode ends once, at its last step"
        lengths.append(len(episode["actions"]))
        assert len(episode["frames"]) == lengths[-1] + 1
    assert len(lengths) == 30
    assert {min(lengths), max(lengths)} == {1, 6}


def test_collect__works_where_the_environment_never_truncates(race):
    env = gymnasium.make_vec("jepa_worlds/TestRace-v0", num_envs=4, max_episode_steps=-1)
    found = rollouts(env, Uniform(), 0, range(9), length=2)
    assert found["lengths"].max() == 2
    assert len(found["frames"]) == (found["lengths"] + 1).sum()
    assert not found["truncations"].any()


def test_collect__does_not_depend_on_num_envs(tmp_path, collect_to, contents):
    one, seven, all_at_once = (
        contents(collect_to(tmp_path / str(n), *NOISE, "shard_episodes=9", f"num_envs={n}")) for n in (1, 7, 256)
    )
    for found in (one, seven, all_at_once):
        found.pop("config.yaml")  # which says how many
    assert one == seven == all_at_once


def test_collect__does_not_depend_on_num_envs_where_episodes_end_early(tmp_path, collect_to, race, contents):
    one, seven = (contents(collect_to(tmp_path / str(n), *race, f"num_envs={n}")) for n in (1, 7))
    one.pop("config.yaml"), seven.pop("config.yaml")
    assert one == seven


def test_collect__does_not_depend_on_shard_episodes(tmp_path, collect_to):
    few, many = (collect_to(tmp_path / str(n), *NOISE, f"shard_episodes={n}") for n in (1024, 3))
    assert [sum(1 for _ in path.glob("shard-*")) for path in (few, many)] == [3, 6 + 1 + 1]
    for split, found in columns(few).items():
        for name, array in found.items():
            np.testing.assert_array_equal(array, columns(many)[split][name], strict=True)


def test_collect__of_unstated_shards_bounds_the_bytes_of_their_frames(tmp_path, collect_to, monkeypatch):
    frames = 6 * 28 * 28  # of an episode of 5 steps, a byte a pixel
    for name, most, shards in (("bytes", (1024, 7 * frames + 1), 3 + 1 + 1), ("episodes", (4, 2**28), 4 + 1 + 1)):
        monkeypatch.setattr(sharding, "SHARD", most)
        path = collect_to(tmp_path / name, *NOISE)
        assert sum(1 for _ in path.glob("shard-*")) == shards
        assert read_manifest(path)["shard_episodes"] == min(most[0], 7)
        assert collect_to(path, *NOISE) == path  # finished, and the same


def test_collect__depends_on_the_seed_alone(tmp_path, collect_to):
    first, again, other = (collect_to(tmp_path / name, *NOISE, f"seed={name[-1]}") for name in ("a1", "b1", "a2"))
    assert Dataset(first).content_hash == Dataset(again).content_hash != Dataset(other).content_hash
    first, again, other = columns(first)["train"], columns(again)["train"], columns(other)["train"]
    for name in ("frames", "actions", "factors.location", "factors.background"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).mean() > 0.5, name


def test_collect__draws_every_episode_anew(tmp_path, collect_to):
    starts = [episode["factors.location"][0].tolist() for episode in episodes(collect_to(tmp_path / "data"))]
    headings = [episode["actions"][0].tolist() for episode in episodes(tmp_path / "data")]
    assert len({tuple(start) for start in starts}) == len({tuple(heading) for heading in headings}) == 20


@pytest.mark.parametrize(
    ("count", "validation", "test", "sizes"),
    [(5000, 0.1, 0.1, (4000, 500, 500)), (48, 0.1, 0.1, (38, 5, 5)), (3, 0.1, 0.1, (3, 0, 0)), (7, 0, 0.5, (3, 0, 4))],
)
def test_collection__splits_by_episode(count, validation, test, sizes):
    collection = Collection({"id": DOT}, None, {}, count, 16, validation, test, seed=0, shard_episodes=32, num_envs=1)
    ranges = collection.splits()
    assert list(ranges) == list(SPLITS)
    assert tuple(end - first for first, end in ranges.values()) == sizes
    there = list(sharding.shards({"splits": ranges, "shard_episodes": 32}))
    in_split = {split: [e for _, s, found in there if s == split for e in found] for split in SPLITS}
    assert {split: list(range(*ends)) for split, ends in ranges.items()} == in_split
    assert sorted(itertools.chain(*in_split.values())) == list(range(count)), "every episode is in one split"
    assert max(len(found) for _, _, found in there) <= 32
    assert len({name for name, _, _ in there}) == sum(-(-size // 32) for size in sizes)


def test_collect__says_what_the_data_are(dataset_path):
    manifest = read_json(dataset_path / MANIFEST)
    assert manifest["env"] == {"id": DOT, "size": 28, "frame_stack": 1, "sigma": 1.3, "max_step": 4.0}
    assert manifest["splits"] == {"train": [0, 38], "validation": [38, 43], "test": [43, 48]}
    assert manifest["frame_shape"] == [28, 28, 1]
    assert manifest["action"] == {"space": "Box(-4.0, 4.0, (2,), float32)", "shape": [2], "dtype": "float32"}
    assert manifest["factors"]["location"]["shape"] == [2]
    assert manifest["behaviour"]["_target_"] == "agents.behaviours.random_walk.RandomWalk"
    assert {"seed", "versions", "statistics", "coverage", "content_hash", "render_backend"} <= manifest.keys()


def test_collect__shows_held_out_photographs_in_validation_and_test_only(tmp_path, collect_to):
    (tmp_path / "pictures").mkdir()
    for number, grey in enumerate((0, 250, 50, 100, 150)):  # every fifth, from the second, is held out
        Image.new("L", (64, 64), grey).save(tmp_path / "pictures" / f"{number}.png")
    photographs = ("distractor=photographs", f"distractor.source.path={tmp_path / 'pictures'}")
    found = columns(collect_to(tmp_path / "data", *photographs, "episodes=40"))
    backgrounds = {split: set((2 * x["frames"].min(axis=(1, 2, 3))).tolist()) for split, x in found.items()}
    assert backgrounds == {"train": {0, 50, 100, 150}, "validation": {250}, "test": {250}}


def test_collect__takes_a_number_for_a_folder(tmp_path, collect_to, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Dataset(collect_to("2024", "episodes=3")).manifest["complete"]


def test_collect__may_leave_held_out_splits_empty(tmp_path, collect_to):
    dataset = Dataset(collect_to(tmp_path / "data", "episodes=3"))
    assert sum(len(shard.lengths) for shard in dataset.shards("train")) == 3
    with pytest.raises(ValueError, match="has no test episodes: it needs more episodes"):
        dataset.shards("test")
