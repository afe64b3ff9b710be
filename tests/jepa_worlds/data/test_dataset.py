"""Datasets on disk, opened for reading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jepa_worlds.data.dataset import MANIFEST, SPLITS, Dataset
from jepa_worlds.shared.files import read_json


@pytest.fixture
def path(dataset_path, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(dataset_path, tmp_path / "copy")


def open_files():
    return len([*Path("/proc/self/fd").iterdir()])


def edited(path, **changes):
    manifest = read_json(path / MANIFEST) | changes
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path


def test_dataset__opens_what_was_collected(dataset_path):
    dataset = Dataset(dataset_path)
    (shard,) = dataset.shards("train")
    assert dataset.factors == ["background", "location"]
    assert set(shard.columns) == {
        *("frames", "actions", "rewards", "terminations", "truncations"),
        *("factors.background", "factors.location"),
    }
    assert shard.columns["frames"].shape == (38 * 17, 28, 28, 1)
    assert shard.columns["actions"].shape == (38 * 16, 2)
    np.testing.assert_array_equal(shard.lengths, np.full(38, 16))
    np.testing.assert_array_equal(shard.first_frame, 17 * np.arange(38))
    np.testing.assert_array_equal(shard.first_step, 16 * np.arange(38))


def test_dataset__maps_its_arrays_and_cannot_change_them(dataset_path):
    columns = Dataset(str(dataset_path)).shards("test")[0].columns
    assert isinstance(columns["frames"], np.memmap)
    for name in ("frames", "actions"):
        with pytest.raises(ValueError, match="read-only"):
            columns[name][0] = 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_dataset__holds_no_more_open_files_than_shards_in_use(tmp_path, collect_to):
    path, before = collect_to(tmp_path / "data", "episodes=60", "shard_episodes=4"), open_files()
    dataset = Dataset(path)
    assert open_files() == before
    shards = dataset.shards("train")
    assert dataset.shards("train")[0] is shards[0] and len(shards) > 5
    assert open_files() == before + len(shards)


def test_dataset__finds_episodes_of_different_lengths(tmp_path, collect_to, race):
    dataset = Dataset(collect_to(tmp_path / "data", *race, "episodes=30", "episode_length=6", "shard_episodes=9"))
    seen = 0
    for split in SPLITS:
        for shard in dataset.shards(split):
            position, ends = shard.columns["factors.position"], shard.columns["terminations"]
            assert len(position) == (shard.lengths + 1).sum()
            assert len(ends) == shard.lengths.sum()
            assert (position[shard.first_frame] == 0).all(), "races begin at 0"
            goal = shard.columns["factors.goal"][shard.first_frame]
            at_end = position[shard.first_frame + shard.lengths]
            np.testing.assert_array_equal(at_end >= goal, ends[shard.first_step + shard.lengths - 1])
            seen += len(shard.lengths)
    assert seen == 30


def test_dataset__gives_each_split_its_own_shards(tmp_path, collect_to):
    dataset = Dataset(collect_to(tmp_path / "data", "shard_episodes=3"))
    lengths = {split: [len(shard.lengths) for shard in dataset.shards(split)] for split in SPLITS}
    assert lengths == {"train": [3, 3, 3, 3, 3, 1], "validation": [2], "test": [2]}


def test_dataset__refuses_an_unknown_split(dataset_path):
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'valid'"):
        Dataset(dataset_path).shards("valid")


def test_dataset__says_that_there_is_none(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no dataset at '.*': it lacks dataset\.json; make one with"):
            Dataset(place)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"no dataset at '.*file'"):
        Dataset(tmp_path / "file")


@pytest.mark.parametrize("content", ['{"format": "minari"}', "{}", "[]", "3"])
def test_dataset__says_that_it_is_of_another_format(path, content):
    (path / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"dataset\.json is not a dataset of format 'jepa_worlds/dataset/1'"):
        Dataset(path)


@pytest.mark.parametrize("content", ["", "hello", '{"format": "jepa_worlds/dataset/1", "complete": tr'])
def test_dataset__says_that_its_manifest_is_not_json(path, content):
    (path / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"dataset\.json is not JSON"):
        Dataset(path)


def test_dataset__says_how_much_of_it_is_there(path):
    manifest = read_json(path / MANIFEST)
    edited(path, complete=False, shards=manifest["shards"][:2])
    with pytest.raises(ValueError, match="is incomplete: 43 of 48 episodes; run what made it once more"):
        Dataset(path)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "file", ["shard-00000/frames.npy", "shard-00001/lengths.npy", "shard-00002/factors.location.npy"]
)
def test_dataset__names_a_file_that_is_missing_or_truncated(path, file, verify):
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[:-1])
    expected = rf"damaged: {file} has {len(content) - 1} bytes instead of {len(content)}; copy it again from where"
    with pytest.raises(ValueError, match=expected):
        Dataset(path, verify)
    (path / file).unlink()
    with pytest.raises(
        ValueError, match=f"damaged: {file} is missing; copy it again from where it is whole, or remove"
    ):
        Dataset(path, verify)


def test_dataset__names_a_file_in_which_a_bit_has_flipped(path):
    file = path / "shard-00001" / "actions.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: shard-00001/actions\.npy does not match its checksum; copy it"):
        Dataset(path)
    assert Dataset(path, verify=False).shards("train"), "without verify only sizes are compared"


def test_dataset__has_a_hash_that_changes_with_its_content(tmp_path, collect_to):
    overrides = {
        "same": [],
        "seed": ["seed=1"],
        "behaviour": ["behaviour.kappa=0.3"],
        "noise": ["distractor=uniform"],
        "splits": ["test=0.2"],
        "episodes": ["episodes=21"],
        "length": ["episode_length=6"],
    }
    hashes = {name: Dataset(collect_to(tmp_path / name, *more)).content_hash for name, more in overrides.items()}
    assert len(set(hashes.values())) == len(hashes)
    assert hashes["same"] == Dataset(collect_to(tmp_path / "again", "num_envs=4")).content_hash
    assert all(len(found) == 64 for found in hashes.values())


def test_dataset__knows_the_moments_of_its_columns(dataset_path):
    dataset = Dataset(dataset_path)
    mean, std = dataset.statistics("factors.location")
    location = dataset.shards("train")[0].columns["factors.location"].astype(np.float64)
    np.testing.assert_allclose(mean, location.mean(axis=0))
    np.testing.assert_allclose(std, location.std(axis=0))
    with pytest.raises(ValueError, match=r"has no column 'factors\.place'; it has \['actions', 'factors\.background'"):
        dataset.statistics("factors.place")
