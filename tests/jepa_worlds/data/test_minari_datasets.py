"""Datasets as Minari's, and back: nothing is lost, and others' images become frames."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.actions import described, space_of
from jepa_worlds import export_minari, import_minari
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.minari_datasets import BATCH, MANIFEST, UNFINISHED
from jepa_worlds.shared.app import composed

minari = pytest.importorskip("minari", reason='needs Minari: pip install "jepa_worlds[minari]"')
NAME = "jepa_worlds/tests/dot-v0"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's local store, empty."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    return tmp_path / "store"


def exported(data: Path, *overrides: str) -> Path:
    return export_minari.main(composed("export_minari", [f"data={data}", f"name={NAME}", *overrides]))


def imported(out: Path, *overrides: str) -> Dataset:
    return Dataset(import_minari.main(composed("import_minari", [f"name={NAME}", f"out={out}", *overrides])))


@pytest.mark.parametrize(
    "of",
    [
        ["env=moving_dot", "distractor=uniform", f"episodes={BATCH + 20}", "episode_length=2"],
        ["env=three_dots", "env.size=32", "validation=0"],  # of 32 px and three channels: JPEG, if Minari is let
        ["env=acrobot", "env.size=16", "behaviour=uniform"],  # choices
        ["env=two_rooms", "env.size=16", "behaviour=two_rooms_expert", "env.terminate=true", "episode_length=40"],
    ],
    ids=lambda of: of[0],
)
def test_datasets__come_back_from_minari_as_they_were(tmp_path: Path, collect_to: Any, of: list[str]) -> None:
    data = collect_to(tmp_path / "data", *of)
    folder = exported(data, "author=me")
    there = minari.load_dataset(NAME)
    before, after = Dataset(data), imported(tmp_path / "back")
    assert (there.total_episodes, there.storage.metadata["author"]) == (before.manifest["episodes"], {"me"})
    assert folder.parent.name == "dot-v0" and after.manifest == before.manifest
    for entry in before.manifest["shards"]:
        for file in (data / entry["name"]).iterdir():
            assert (tmp_path / "back" / entry["name"] / file.name).read_bytes() == file.read_bytes()


def test_export__shows_minari_frames_actions_and_factors(tmp_path: Path, dataset_path: Path) -> None:
    exported(dataset_path)
    dataset, there = Dataset(dataset_path), minari.load_dataset(NAME)
    [shard] = dataset.shards("train")
    assert there.observation_space == spaces.Box(0, 255, dataset.manifest["frame_shape"], np.uint8)
    assert there.action_space == spaces.Box(-4, 4, (2,), np.float32)
    second = there[1]
    assert np.array_equal(second.observations, shard.columns["frames"][17:34])
    assert np.array_equal(second.actions, shard.columns["actions"][16:32])
    assert np.array_equal(second.infos["factors"]["location"], shard.columns["factors.location"][17:34])


def no_room(*_: Any) -> None:
    raise OSError("no room")


def test_export__leaves_nothing_behind_that_is_not_whole(
    tmp_path: Path, collect_to: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = collect_to(tmp_path / "data", f"episodes={BATCH + 20}", "episode_length=1")
    storage = importlib.import_module("minari.dataset._storages.hdf5_storage").HDF5Storage
    write = storage.update_episodes
    for batch in (0, 1):
        batches = iter([write] * batch)

        def full(self: Any, episodes: Any, batches: Any = batches) -> None:
            next(batches, no_room)(self, episodes)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "update_episodes", full)
            with pytest.raises(OSError, match="no room"):
                exported(data)
        assert not list(store.rglob("*.hdf5"))
    exported(data)
    with pytest.raises(ValueError, match="Minari already has a dataset 'jepa_worlds/tests/dot-v0'"):
        exported(data)
    assert len(minari.load_dataset(NAME)) == BATCH + 20


def test_import__refuses_an_export_that_was_killed(tmp_path: Path, dataset_path: Path) -> None:
    exported(dataset_path)
    minari.load_dataset(NAME).storage.update_metadata({MANIFEST: UNFINISHED})
    with pytest.raises(ValueError, match=r"export of 'jepa_worlds/tests/dot-v0' was interrupted: `minari delete"):
        imported(tmp_path / "x")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_import__of_exports_put_together_keeps_their_factors(tmp_path: Path, dataset_path: Path) -> None:
    exported(dataset_path)
    exported(dataset_path, "name=jepa_worlds/tests/other-v0")
    minari.combine_datasets([minari.load_dataset(x) for x in (NAME, "jepa_worlds/tests/other-v0")], "both-v0")
    both, one = imported(tmp_path / "x", "name=both-v0"), Dataset(dataset_path)
    assert both.manifest["episodes"] == 2 * one.manifest["episodes"] and both.factors == one.factors


def others(observation_space: spaces.Space, observations: Any, name: str = NAME) -> None:
    """A dataset of somebody else's, of 4 episodes of 3 steps."""
    from minari.data_collector import EpisodeBuffer

    steps = {"actions": np.arange(3), "rewards": np.ones(3), "terminations": np.zeros(3, bool)}
    buffers = [
        EpisodeBuffer(observations=observations(number), truncations=np.arange(3) == 2, infos={}, **steps)
        for number in range(4)
    ]
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=observation_space, action_space=spaces.Discrete(3), jpeg_encoding=False
    )


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("shape", "frames"),
    [((8, 9), (8, 9, 1)), ((8, 9, 3), (8, 9, 3)), ((3, 8, 9), (8, 9, 3)), ((6, 8, 9), (8, 9, 6))],
    ids=str,
)
def test_import__has_the_frames_of_others_with_channels_last(
    tmp_path: Path, shape: tuple[int, ...], frames: tuple[int, ...]
) -> None:
    seen = np.random.default_rng(0).integers(0, 256, (4, 4, *shape), dtype=np.uint8)
    others(pixels(*shape), lambda number: seen[number])
    dataset = imported(tmp_path / "x", "test=0.25", "validation=0")
    assert dataset.manifest["splits"] == {"train": [0, 3], "validation": [3, 3], "test": [3, 4]}
    assert dataset.manifest["action"]["sizes"] == [3] and dataset.factors == []
    kept = dataset.shards("test")[0].columns["frames"]
    assert kept.shape == (4, *frames)
    assert np.array_equal(kept, np.moveaxis(seen[3], 1, -1) if shape[0] in (3, 6) else seen[3].reshape(kept.shape))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_import__chooses_among_observations(tmp_path: Path) -> None:
    arm = spaces.Box(-1, 1, (2,), np.float32)
    space = spaces.Dict({"camera": spaces.Dict({"front": pixels(8, 8, 3), "back": pixels(6, 6, 3)}), "arm": arm})

    def observations(number: int) -> Any:
        images = {"front": np.full((4, 8, 8, 3), number, np.uint8), "back": np.zeros((4, 6, 6, 3), np.uint8)}
        return {"camera": images, "arm": np.full((4, 2), number / 4, np.float32)}

    others(space, observations)
    with pytest.raises(ValueError, match=r"one observation must be an image, found \['camera.back', 'camera.front'\]"):
        imported(tmp_path / "x")
    with pytest.raises(ValueError, match=r"there are no observations \['camera.side'\]; there are .*'camera.front'"):
        imported(tmp_path / "x", "frames=camera.side")
    dataset = imported(tmp_path / "x", "frames=camera.front")
    [shard] = dataset.shards("train")
    assert dataset.factors == ["arm"] and dataset.manifest["frame_shape"] == [8, 8, 3]
    assert np.array_equal(shard.columns["frames"][:, 0, 0, 0], np.repeat(np.arange(len(shard.lengths)), 4))
    assert np.array_equal(shard.columns["factors.arm"][:, 1], np.repeat(np.arange(len(shard.lengths)) / 4, 4))
    assert imported(tmp_path / "y", "frames=camera.front", "factors=[]").factors == []
    with pytest.raises(ValueError, match=r"'arm' is no image, .* but Box"):
        imported(tmp_path / "z", "frames=arm")
    with pytest.raises(ValueError, match=r"factors must be a list, .* got 'arm'"):
        imported(tmp_path / "z", "frames=camera.front", "factors=arm")
    with pytest.raises(ValueError, match=r"behaviour.frames='camera.front' \(now 'camera.back'\)"):
        imported(tmp_path / "x", "frames=camera.back")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_import__refuses_what_shows_nothing_and_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not found locally"):
        imported(tmp_path / "x")
    others(spaces.Box(-1, 1, (2,), np.float32), lambda _: np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"one observation must be an image, found \[\] among \['observation'\]"):
        imported(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_minari__is_an_extra(tmp_path: Path, dataset_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    for command in (lambda: exported(dataset_path), lambda: imported(tmp_path / "x")):
        with pytest.raises(ValueError, match=r"Minari is not installed: pip install -e \"\.\[minari\]\""):
            command()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 3, (4,), np.float32),
        spaces.Box(np.array([-1, -2], np.float32), np.array([1, 0.5], np.float32)),
        spaces.Box(-np.inf, np.inf, (2,), np.float64),
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([2, 3], start=[1, 0]),
    ],
    ids=str,
)
def test_space_of__is_what_was_described(space: spaces.Space) -> None:
    assert space_of(described(space)) == space


def test_space_of__has_no_bounds_where_they_cannot_be_read() -> None:
    space = spaces.Box(np.zeros((2, 2), np.float32), np.arange(4, dtype=np.float32).reshape(2, 2))
    assert space_of(described(space)) == spaces.Box(-np.inf, np.inf, (2, 2), np.float32)
