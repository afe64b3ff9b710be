"""Windows of consecutive frames, as whole batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows, require_room

COLUMNS = {"frames", "actions", "factors.background", "factors.location"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, collect_to):
    """Two shards and a half of training episodes: 16 of 5 steps."""
    path = tmp_path_factory.mktemp("windows") / "data"
    return Dataset(collect_to(path, "distractor=uniform", "shard_episodes=6"))


@pytest.fixture
def races(tmp_path, collect_to, race):
    """Episodes of 1 to 6 steps."""
    return Dataset(
        collect_to(tmp_path / "races", *race, "episodes=40", "episode_length=6", "shard_episodes=9", "seed=1")
    )


def cut(dataset, split, length, stride=1):
    """All windows, cut in the plainest way."""
    for shard in dataset.shards(split):
        for frame, step, steps in zip(shard.first_frame, shard.first_step, shard.lengths, strict=True):
            for offset in range(0, steps + 2 - length, stride):
                start = {name: step if name == "actions" else frame for name in shard.columns}
                yield {
                    name: shard.columns[name][start[name] + offset :][: length - (name == "actions")]
                    for name in ("frames", "actions", *(f"factors.{factor}" for factor in dataset.factors))
                }


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_windows__tell_which_episode_they_are_from(races):
    lengths = [steps for shard in races.shards("train") for steps in shard.lengths]
    expected = [episode for episode, steps in enumerate(lengths) for _ in range(0, steps + 2 - 2, 2)]
    assert Windows(races, "train", 2, stride=2).episode.tolist() == expected


def test_windows__are_batches_of_frames_actions_and_factors(dataset):
    batch = Windows(dataset, "train", 4).batch(0, 7, seed=0)
    assert batch.keys() == COLUMNS
    assert {name: tuple(x.shape) for name, x in batch.items()} == {
        "frames": (7, 4, 1, 28, 28),
        "actions": (7, 3, 2),
        "factors.background": (7, 4, 8),
        "factors.location": (7, 4, 2),
    }
    assert batch["frames"].dtype == torch.uint8
    assert {batch[name].dtype for name in COLUMNS - {"frames"}} == {torch.float32}


def test_windows__have_factors_of_any_shape_in_rows(dataset):
    rows = Windows(dataset, "train", 4).take(np.arange(9))["factors.background"]
    tables = Dataset(dataset.path)
    for shard in tables.shards("train"):
        shard.columns["factors.background"] = shard.columns["factors.background"].reshape(-1, 2, 2, 2)
    assert torch.equal(Windows(tables, "train", 4).take(np.arange(9))["factors.background"], rows)


def test_windows__put_channels_before_rows(tmp_path, collect_to):
    dataset = Dataset(collect_to(tmp_path / "data", "env=three_dots", "episodes=4"))
    frames = Windows(dataset, "train", 6).take(np.arange(4))["frames"]
    stored = dataset.shards("train")[0].columns["frames"].reshape(4, 6, 28, 28, 3)
    np.testing.assert_array_equal(frames.numpy(), stored.transpose(0, 1, 4, 2, 3))


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(("length", "stride"), [(2, 1), (6, 1), (3, 2), (3, 3), (2, 100)])
def test_windows__equal_slices_of_the_memory_map(dataset, length, stride, resident):
    windows = Windows(dataset, "train", length, resident=resident, stride=stride)
    expected = list(cut(dataset, "train", length, stride))
    assert len(windows) == len(expected) == 16 * ((6 - length) // stride + 1)
    found = windows.take(np.arange(len(windows)))
    for name, x in found.items():
        x = x.permute(0, 1, 3, 4, 2) if name == "frames" else x
        np.testing.assert_array_equal(x.numpy(), np.stack([window[name] for window in expected]), strict=True)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(("length", "stride"), [(2, 1), (4, 1), (3, 2), (7, 1)])
def test_windows__stay_within_episodes_of_different_lengths(races, length, stride, resident):
    windows = Windows(races, "train", length, resident=resident, stride=stride)
    expected = list(cut(races, "train", length, stride))
    assert len({int(steps) for shard in races.shards("train") for steps in shard.lengths}) > 3
    assert len(windows) == len(expected) > 0
    found = windows.take(np.arange(len(windows)))
    for name, x in found.items():
        stored = np.stack([window[name] for window in expected])
        if name == "actions":
            stored = np.eye(3, dtype=np.float32)[stored]  # one-hot vectors
        elif name != "frames":
            stored = stored.reshape(*stored.shape[:2], -1)  # scalars are rows of one number
        x = x.permute(0, 1, 3, 4, 2) if name == "frames" else x
        np.testing.assert_array_equal(x.numpy(), stored, strict=True)
    steps = found["factors.position"].diff(dim=1)
    moved = found["actions"] @ torch.tensor([[0.0], [1.0], [2.0]])
    assert torch.equal(steps, moved), "an action moves a frame to the next"
    assert (found["factors.goal"] == found["factors.goal"][:, :1]).all(), "a window shows a single race"


def numbered(windows):
    """``windows`` whose batches say which windows were taken."""
    windows.take = lambda chosen: chosen.tolist()
    return windows


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_windows__visit_each_window_once_an_epoch(dataset, size):
    windows = numbered(Windows(dataset, "train", 3))  # 64 of them
    drawn = [number for step in range(-(-3 * 64 // size)) for number in windows.batch(step, size, seed=5)]
    epochs = [drawn[start : start + 64] for start in (0, 64, 128)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(64))] * 3
    assert epochs[0] != epochs[1] != epochs[2], "in an order of its own"


def test_windows__are_a_function_of_seed_and_step(dataset):
    straight, jumping = Windows(dataset, "train", 3), Windows(dataset, "train", 3)
    in_order = [straight.batch(step, 10, seed=1) for step in range(15)]
    for step in (14, 3, 3, 9, 0):
        jumping.batch(step + 1, 4, seed=2)  # whatever was asked before
        assert_equal(jumping.batch(step, 10, seed=1), in_order[step])
    assert not torch.equal(in_order[0]["frames"], in_order[1]["frames"])
    assert not torch.equal(in_order[0]["frames"], jumping.batch(0, 10, seed=2)["frames"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_windows__of_all_ranks_together_are_those_of_a_single_one(dataset, ranks):
    windows = numbered(Windows(dataset, "train", 3))
    for step in range(12):
        parts = [windows.batch(step, 8, seed=0, rank=rank, ranks=ranks) for rank in range(ranks)]
        together = list(itertools.chain(*parts))
        assert together == windows.batch(step, 8 * ranks, seed=0)
        if step == 0:
            assert len(set(together)) == 8 * ranks, "disjoint"


@pytest.mark.parametrize("rank", [-1, 2])
def test_windows__refuse_a_rank_that_does_not_exist(dataset, rank):
    with pytest.raises(ValueError, match=f"rank must be from 0 to 1, below ranks=2; got {rank}"):
        Windows(dataset, "train", 3).batch(0, 4, seed=0, rank=rank, ranks=2)


def test_windows__are_the_same_from_the_device_and_from_the_memory_map(dataset):
    mapped, resident = (Windows(dataset, "train", 3, resident=resident) for resident in (False, True))
    for step in range(9):
        assert_equal(mapped.batch(step, 10, seed=3), resident.batch(step, 10, seed=3))


def test_windows__are_copies(dataset):
    for resident in (False, True):
        windows = Windows(dataset, "train", 3, resident=resident)
        first = windows.batch(0, 4, seed=0)
        kept = {name: x.clone() for name, x in first.items()}
        for x in first.values():
            x.zero_()
        assert_equal(windows.batch(0, 4, seed=0), kept)


def test_windows__come_from_the_split_that_was_asked_for(dataset):
    sizes = {split: len(Windows(dataset, split, 6)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 16, "validation": 2, "test": 2}
    held_out = Windows(dataset, "test", 6).take(np.arange(2))["factors.location"]
    stored = dataset.shards("test")[0].columns["factors.location"].reshape(2, 6, 2)
    np.testing.assert_array_equal(held_out.numpy(), stored)


def test_windows__refuse_a_length_that_no_episode_has(dataset, races):
    with pytest.raises(
        ValueError, match=r"windows of 7 frames do not fit dataset '.*': its longest train episode has 6"
    ):
        Windows(dataset, "train", 7)
    with pytest.raises(ValueError, match="its longest train episode has 7"):
        Windows(races, "train", 8)


@pytest.mark.parametrize("length", [1, 0, -3, 2.5, "two", None])
def test_windows__refuse_a_length_without_a_step(dataset, length):
    with pytest.raises(ValueError, match=f"a window needs at least 2 frames, got {length!r}"):
        Windows(dataset, "train", length)


def test_windows__refuse_a_stride_that_goes_nowhere(dataset):
    with pytest.raises(ValueError, match="the stride between windows must be at least 1, got 0"):
        Windows(dataset, "train", 3, stride=0)


def test_windows__refuse_an_empty_split(tmp_path, collect_to):
    dataset = Dataset(collect_to(tmp_path / "data", "episodes=3"))
    with pytest.raises(ValueError, match="has no validation episodes"):
        Windows(dataset, "validation", 3)


def test_require_room__refuses_windows_in_which_nothing_is_left_to_predict() -> None:
    require_room(4, 5)
    for length in (2, 3, 4):
        with pytest.raises(ValueError, match=rf"more frames than the 4 that a latent is made of .*, got {length}"):
            require_room(4, length)
