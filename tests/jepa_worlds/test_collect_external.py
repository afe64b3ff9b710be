"""Datasets from environments of other libraries."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from envs.external import gl
from jepa_worlds.data import collecting
from jepa_worlds.data.collecting import Collection
from jepa_worlds.data.dataset import MANIFEST, Dataset
from jepa_worlds.data.environments import AT_ONCE, how_many, make_vec
from jepa_worlds.shared.files import versions

TINY = ("behaviour=uniform", "episodes=6", "episode_length=4", "validation=0", "env.size=16")
CARTPOLE = ("env=gymnasium", "env.id=CartPole-v1", *TINY, "distractor=uniform", "test=0")


def only_shard(path) -> dict[str, np.ndarray]:
    (shard,) = Dataset(path).shards("train")
    return shard.columns


def test_collect__from_gymnasium_does_not_depend_on_num_envs(tmp_path, collect_to, contents, pygame):
    alone, together = (contents(collect_to(tmp_path / n, *CARTPOLE, f"num_envs={n}")) for n in ("1", "4"))
    alone.pop("config.yaml"), together.pop("config.yaml")  # which say how many
    assert alone == together


def test_collect__from_gymnasium_says_what_the_data_are(tmp_path, collect_to, pygame):
    path = collect_to(tmp_path / "data", *CARTPOLE, "num_envs=1")
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["env"]["id"] == "CartPole-v1"
    assert manifest["frame_shape"] == [16, 16, 3]
    assert manifest["factors"]["state"] == {
        "shape": [4],
        "low": [pytest.approx(-4.8), None, pytest.approx(-0.41887903), None],
        "high": [pytest.approx(4.8), None, pytest.approx(0.41887903), None],
    }
    assert manifest["factors"].keys() == {"state", "background"}
    assert manifest["render_backend"] == "rgb_array"
    columns = only_shard(path)
    assert columns["frames"].shape == (6 * 5, 16, 16, 3)
    assert columns["factors.state"].shape == (6 * 5, 4)
    assert columns["actions"].shape == (6 * 4,)
    assert columns["actions"].dtype.kind == "i"
    assert (columns["rewards"] == 1).all()


def begun(path, **changes) -> None:
    """A dataset that lacks its last shard, whose manifest says something else."""
    manifest = json.loads((path / MANIFEST).read_text())
    for key in ("statistics", "coverage", "content_hash"):
        del manifest[key]
    shutil.rmtree(path / manifest["shards"].pop()["name"])
    (path / MANIFEST).write_text(json.dumps({**manifest, "complete": False, **changes}))
    (path / "config.yaml").unlink()


def test_collect__from_gymnasium_goes_on_where_it_stopped(tmp_path, collect_to, contents, pygame):
    arguments = (*CARTPOLE, "num_envs=1", "shard_episodes=2")
    whole = collect_to(tmp_path / "whole", *arguments)
    half = shutil.copytree(whole, tmp_path / "half")
    begun(half)
    found, expected = contents(collect_to(half, *arguments)), contents(whole)
    found.pop("config.yaml"), expected.pop("config.yaml")  # which say where
    assert found == expected


def test_collect__goes_on_with_what_drew_before_alone(tmp_path, collect_to, pygame, monkeypatch):
    arguments = (*CARTPOLE, "num_envs=1", "shard_episodes=2")
    data, other = (collect_to(tmp_path / name, *arguments) for name in ("data", "other"))
    native = collect_to(tmp_path / "native", "shard_episodes=5")
    now = {**versions(), "python": "9", "torch": "9", "gymnasium": "9"}
    monkeypatch.setattr(collecting, "versions", lambda: now)
    collect_to(data, *arguments)  # where nothing is left to draw
    for path in (data, native):
        begun(path)
    begun(other, versions=now, render_backend="egl")
    collect_to(native, "shard_episodes=5")
    with pytest.raises(ValueError, match=r"otherwise, with versions\.gymnasium='\S+' \(now '9'\): choose another"):
        collect_to(data, *arguments)
    with pytest.raises(ValueError, match=r"otherwise, with render_backend='egl' \(now 'rgb_array'\): choose another"):
        collect_to(other, *arguments)


@pytest.mark.parametrize(
    ("domain", "task", "factors"),
    [
        ("reacher", "easy", {"position": 2, "to_target": 2, "velocity": 2}),
        ("walker", "walk", {"height": 1, "orientations": 14, "velocity": 9}),
    ],
)
def test_collect__from_dm_control(tmp_path, collect_to, dm_control, domain, task, factors):
    behind = ("distractor=uniform", "distractor.dynamics=static", "distractor.blend=behind")
    arguments = ("env=dm_control", f"env.domain={domain}", f"env.task={task}", *TINY, *behind, "test=0.5", "num_envs=1")
    path = collect_to(tmp_path / "data", *arguments)
    dataset = Dataset(path)
    assert dataset.manifest["render_backend"] in (*gl.BACKENDS, "default")
    assert {name: found["shape"] for name, found in dataset.manifest["factors"].items()} == {
        **{name: [size] for name, size in factors.items()},
        "background": [8],
    }
    for split in ("train", "test"):
        (shard,) = dataset.shards(split)
        frames = shard.columns["frames"].reshape(3, 5, 16, 16, 3)
        assert shard.lengths.tolist() == [4, 4, 4]
        still = (frames == frames[:, :1]).all(axis=(1, 4))
        assert still.mean() > 0.5, "a static background stays within an episode"
        assert (frames[0, 0] == frames[1, 0]).all(axis=-1).mean() < 0.5, "and is another one in the next"
        assert np.isfinite(shard.columns["rewards"]).all()


def test_collect__from_pusht(tmp_path, collect_to):
    pytest.importorskip("gym_pusht", reason='needs gym-pusht: pip install "jepa_worlds[pusht]"')
    arguments = ("env=pusht", *TINY, "distractor=uniform", "distractor.blend=behind", "test=0", "num_envs=1")
    columns = only_shard(collect_to(tmp_path / "data", *arguments))
    assert {name: x.shape for name, x in columns.items() if name.startswith("factors.")} == {
        "factors.background": (30, 8),
        "factors.block_pose": (30, 3),
        "factors.pos_agent": (30, 2),
        "factors.vel_agent": (30, 2),
    }
    assert 0 <= columns["actions"].min() < columns["actions"].max() <= 512


def test_how_many__is_256_native_worlds_or_one_of_others_on_every_core(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    assert how_many({"id": "jepa_worlds/MovingDot-v0"}) == AT_ONCE == 256
    assert how_many({"id": "CartPole-v1", "via": "jepa_worlds/Gymnasium-v0"}) == 3
    assert how_many({"id": "jepa_worlds/DMControl-v0"}) == 3


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"id": "CartPol-v1", "via": "jepa_worlds/Gymnasium-v0"}, "unknown env.id='CartPol-v1': .*mean: `CartPole`"),
        ({"id": "jepa_worlds/Nowhere-v0"}, "unknown env.id='jepa_worlds/Nowhere-v0'.*Known: .*MovingDot"),
        (
            {"id": "jepa_worlds/MovingDot-v0", "world": "envs.worlds.three_dots:ThreeDots"},
            "env.world cannot be chosen, 'jepa_worlds/MovingDot-v0' says which one it is; got 'envs.worlds.three_dots",
        ),
        ({"id": "CartPole-v1"}, "environments of others: env=gymnasium env.id=CartPole-v1"),
        (
            {"id": "CartPole-v1", "via": "jepa_worlds/Gymnasium-v0", "size": 9, "kwargs": {"size": 8}},
            r"env.kwargs are those of 'CartPole-v1' itself, but \['size'\] belong to env: set env.size",
        ),
        ({"id": "CartPole-v1", "via": "jepa_worlds/Gymnasium-v0", "kwargs": {"g": 1}}, "unexpected keyword .*'g'"),
    ],
)
def test_make_vec__says_what_is_wrong(env, message):
    with pytest.raises(ValueError, match=message):
        make_vec(env, 1, distractor=[])


@pytest.mark.parametrize("value", [0, 1.5, "many"])
def test_collection__takes_a_number_of_environments_or_nothing(value):
    def collection(num_envs):
        return Collection({"id": "jepa_worlds/MovingDot-v0"}, None, {}, 4, 4, 0, 0, 0, 4, num_envs)

    assert collection(None).make("train").num_envs == 4
    with pytest.raises(ValueError, match="num_envs must be an integer of at least 1"):
        collection(value)


def test_collect_command__says_what_is_wrong(run_command, tmp_path):
    arguments = ("env=dm_control", "behaviour=uniform", "episodes=3", f"out={tmp_path / 'data'}")
    ran = run_command("collect", *arguments, env={"MUJOCO_GL": "bogus"})
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert "MUJOCO_GL='bogus' does not render" in ran.stderr or 'pip install "jepa_worlds[control]"' in ran.stderr
    assert not (tmp_path / "data").exists()
