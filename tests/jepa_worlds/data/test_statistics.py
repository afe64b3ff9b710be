"""What a dataset says about itself."""

from __future__ import annotations

import numpy as np
import pytest

from jepa_worlds.data import statistics
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.statistics import coverage, moments


@pytest.fixture
def folder(tmp_path):
    """``folder(split=[{column: array}, …], factors={…})``: arrays in shards, and the manifest that describes them."""

    def write(factors: dict[str, dict], channels: int = 1, **splits: list[dict[str, np.ndarray]]):
        shards = []
        for split, parts in splits.items():
            for part in parts:
                name = f"shard-{len(shards):05d}"
                (tmp_path / name).mkdir()
                for column, array in part.items():
                    np.save(tmp_path / name / f"{column}.npy", array)
                shards.append({"name": name, "split": split})
        manifest = {"shards": shards, "factors": factors, "frame_shape": [2, 3, channels], "action": {"shape": [2]}}
        return tmp_path, manifest

    return write


def joined(dataset: Dataset, column: str) -> np.ndarray:
    return np.concatenate([shard.columns[column] for shard in dataset.shards("train")]).astype(np.float64)


def test_moments__are_numpys_over_the_training_split(tmp_path, collect_to):
    overrides = ("env=three_dots", "distractor=uniform", "shard_episodes=7", "episodes=30")
    dataset = Dataset(collect_to(tmp_path / "data", *overrides))
    for column in ("frames", "actions", "factors.background", "factors.location.random"):
        values = joined(dataset, column)
        values = values.reshape(-1, values.shape[-1])
        mean, std = dataset.statistics(column)
        np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-9, err_msg=column)
        np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-9, err_msg=column)
    assert len(dataset.statistics("frames")[0]) == 3


def test_moments__of_frames_are_estimated_on_a_part_of_a_large_dataset(folder, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (4000, 2, 3, 1)).astype(np.uint8)
    actions = np.zeros((10, 2), np.float32)
    out, manifest = folder({}, train=[{"frames": part, "actions": actions} for part in np.split(frames, 2)])
    exact = moments(out, manifest)["frames"]
    monkeypatch.setattr(statistics, "FRAMES", 1000)
    estimate = moments(out, manifest)["frames"]
    chosen = frames[::4].astype(np.float64)
    np.testing.assert_allclose((estimate["mean"][0], estimate["std"][0]), (chosen.mean(), chosen.std()))
    np.testing.assert_allclose((exact["mean"][0], exact["std"][0]), (frames.mean(), frames.std()))


def test_moments__of_frames_are_of_all_times_of_episodes(folder, monkeypatch):
    time = np.tile(np.arange(4, dtype=np.uint8), 1000)  # a frame is as bright as it is late
    shard = {"frames": np.broadcast_to(time[:, None, None, None], (4000, 2, 3, 1)), "actions": np.zeros((10, 2))}
    out, manifest = folder({}, train=[shard])
    monkeypatch.setattr(statistics, "FRAMES", 1000)
    found = moments(out, {**manifest, "episode_length": 3})["frames"]
    assert found["mean"] == [pytest.approx(1.5, abs=0.01)]


def test_moments__count_some_frames_at_a_time(folder, monkeypatch):
    real, counted = np.bincount, []
    monkeypatch.setattr(np, "bincount", lambda x, **given: counted.append(len(x)) or real(x, **given))
    shard = {"frames": np.full((600, 2, 3, 1), 7, np.uint8), "actions": np.zeros((10, 2))}
    assert moments(*folder({}, train=[shard]))["frames"]["mean"] == [7.0]
    assert sum(counted) == 6 * 600 and max(counted) == 6 * statistics.CHUNK


def test_moments__have_no_standard_deviation_of_zero(folder):
    constant = {"frames": np.full((5, 2, 3, 1), 7, np.uint8), "actions": np.full((4, 2), 0.3, np.float32)}
    found = moments(*folder({}, train=[constant]))
    assert found["frames"] == {"mean": [7.0], "std": [1.0]}
    assert found["actions"]["std"] == [1.0, 1.0]
    np.testing.assert_allclose(found["actions"]["mean"], 0.3, rtol=1e-6)


def test_moments__rescale_no_one_hot_vectors(folder):
    stored = {"frames": np.zeros((5, 2, 3, 1), np.uint8), "actions": np.array([[7, 1], [9, 0], [7, 1]])}
    out, manifest = folder({}, train=[stored])
    manifest["action"] = {"shape": [2], "sizes": [3, 2], "start": [7, 0]}
    assert moments(out, manifest)["actions"] == {"mean": [0.0] * 5, "std": [1.0] * 5}


def test_moments__leave_held_out_episodes_aside(folder):
    part = {"frames": np.zeros((5, 2, 3, 1), np.uint8), "actions": np.zeros((4, 2), np.float32)}
    other = {name: array + 100 for name, array in part.items()}
    found = moments(*folder({}, validation=[other], train=[part, part], test=[other]))
    assert found["frames"]["mean"] == [0.0]
    assert found["actions"]["mean"] == [0.0, 0.0]


def test_coverage__counts_the_cells_that_are_visited(folder):
    plane = {"low": [0, -1], "high": [10, 1]}
    corner = np.array([[0.5, -0.95], [0.6, -0.99], [9.5, 0.95], [10.0, 1.0]], np.float32)  # two cells of a hundred
    out, manifest = folder({"place": plane}, train=[{"factors.place": corner}])
    assert coverage(out, manifest)["place"] == {
        "min": pytest.approx([0.5, -0.99]),
        "max": pytest.approx([10.0, 1.0]),
        "visited": 0.02,
    }


def test_coverage__is_whole_where_every_cell_is_visited(folder):
    grid = np.stack(np.meshgrid(np.arange(10) + 0.5, np.arange(10) + 0.5), axis=-1).reshape(-1, 2)
    line = np.arange(5, dtype=np.float32)
    out, manifest = folder(
        {"place": {"low": [0, 0], "high": [10, 10]}, "angle": {"low": 0, "high": 10}},
        train=[{"factors.place": part, "factors.angle": line} for part in np.split(grid, 4)],
        test=[{"factors.place": grid + 99, "factors.angle": line + 99}],
    )
    found = coverage(out, manifest)
    assert found["place"]["visited"] == 1
    assert found["angle"] == {"min": [0.0], "max": [4.0], "visited": 0.5}


def test_coverage__of_an_unbounded_factor_is_of_the_range_of_the_data(folder):
    values = np.array([[-300.0, 5.0], [700.0, 5.0]], np.float32)
    out, manifest = folder({"speed": {"low": [None, 0], "high": [None, 10]}}, train=[{"factors.speed": values}])
    assert coverage(out, manifest)["speed"] == {"min": [-300.0, 5.0], "max": [700.0, 5.0], "visited": 0.02}


def test_coverage__of_a_factor_that_never_changes_is_a_single_cell(folder):
    values = np.full((9, 1), 3.0, np.float32)
    out, manifest = folder({"size": {"low": [None], "high": [None]}}, train=[{"factors.size": values}])
    assert coverage(out, manifest)["size"]["visited"] == 0.1


def test_coverage__of_a_random_walk_is_nearly_whole(tmp_path, collect_to):
    few = Dataset(collect_to(tmp_path / "few", "episodes=2")).manifest["coverage"]["location"]
    many = Dataset(collect_to(tmp_path / "many", "episodes=200", "episode_length=16")).manifest["coverage"]["location"]
    assert few["visited"] < 0.15
    assert many["visited"] > 0.95
    assert many["min"] == pytest.approx([2.6, 2.6])  # walks end at the walls, 2σ from the edge
    assert many["max"] == pytest.approx([24.4, 24.4])


def test_coverage__of_unbounded_factors_is_stored_by_collect(tmp_path, collect_to, race):
    manifest = Dataset(collect_to(tmp_path / "data", *race, "episode_length=6")).manifest
    assert manifest["factors"]["position"] == {"shape": [], "low": 0.0, "high": None}
    assert manifest["factors"]["goal"] == {"shape": [], "low": 1.0, "high": 9.0}
    assert manifest["coverage"]["position"]["min"] == [0.0]
    assert 0.5 <= manifest["coverage"]["position"]["visited"] <= 1
