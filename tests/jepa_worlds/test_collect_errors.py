"""Collection: bad input is refused in words, and leaves everything as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepa_worlds.collect import main
from jepa_worlds.data.dataset import MANIFEST, Dataset
from jepa_worlds.shared.app import composed

DOT = "jepa_worlds/MovingDot-v0"


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(f.relative_to(folder)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in folder.rglob("*")}


def test_collect__does_not_touch_a_finished_dataset(tmp_path, collect_to):
    path = collect_to(tmp_path / "data")
    before = stamps(tmp_path)
    collect_to(path)
    collect_to(path, "num_envs=3")
    assert stamps(tmp_path) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1"], r"with seed=0 \(now 1\): choose another folder, or remove it"),
        (["env.size=32", "env.sigma=1.0"], r"with env\.size=28 \(now 32\), env\.sigma=1\.3 \(now 1\.0\): choose"),
        (["distractor=uniform"], r"with distractor\._target_=None \(now 'envs\.distractors\.background\.Background'\)"),
        (["behaviour.kappa=1.5"], r"with behaviour\.kappa=0\.2 \(now 1\.5\): choose"),
        (["validation=0.2"], r"with splits\.train=\[0, 16\] \(now \[0, 14\]\)"),
        (["episode_length=6"], r"with episode_length=5 \(now 6\): choose"),
        (["shard_episodes=7"], r"with shard_episodes=1024 \(now 7\): choose"),
        (["env=three_dots"], r"with env\.id='jepa_worlds/MovingDot-v0' \(now 'jepa_worlds/ThreeDots-v0'\)"),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)
def test_collect__refuses_another_configuration_and_names_what_differs(
    contents, tmp_path, collect_to, overrides, message
):
    path = collect_to(tmp_path / "data")
    before = stamps(tmp_path), contents(path)
    with pytest.raises(ValueError, match="holds a dataset collected otherwise, " + message):
        collect_to(path, *overrides)
    assert (stamps(tmp_path), contents(path)) == before


def test_collect__refuses_folders_and_files_that_are_something_else(contents, tmp_path, collect_to):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".hidden").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / MANIFEST).write_text('{"data_format": "hdf5"}')
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / MANIFEST).write_text("a list of datasets")
    before = stamps(tmp_path), contents(tmp_path)
    for name in ("file", "folder"):
        with pytest.raises(ValueError, match=f"out='.*{name}' exists and is not a dataset: choose another folder"):
            collect_to(tmp_path / name)
    with pytest.raises(ValueError, match="is not a dataset of format 'jepa_worlds/dataset/1': its format is None"):
        collect_to(tmp_path / "foreign")
    with pytest.raises(ValueError, match=r"text/dataset\.json is not JSON"):
        collect_to(tmp_path / "text")
    assert (stamps(tmp_path), contents(tmp_path)) == before


def test_collect__refuses_a_damaged_dataset_and_leaves_it(tmp_path, collect_to):
    path = collect_to(tmp_path / "data")
    with (path / "shard-00001" / "frames.npy").open("r+b") as stream:
        stream.truncate(500)
    before = stamps(tmp_path)
    with pytest.raises(
        ValueError, match=r"damaged: shard-00001/frames\.npy has 500 bytes instead of \d+; copy it again"
    ):
        collect_to(path)
    assert stamps(tmp_path) == before


def test_collect__uses_an_empty_folder(tmp_path, collect_to):
    (tmp_path / "data").mkdir()
    assert Dataset(collect_to(tmp_path / "data")).manifest["complete"]


def test_collect__says_where_it_cannot_write(contents, tmp_path, collect_to):
    (tmp_path / "file").write_text("mine")
    for out in (Path("/proc/nothing"), tmp_path / "file" / "data"):
        with pytest.raises(
            OSError, match=rf"cannot write '{out}/dataset\.json': .*; choose a place that can be written"
        ):
            collect_to(out)
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["episodes=0"], "episodes must be an integer of at least 1, got 0"),
        (["episodes=1e3"], "episodes must be an integer of at least 1, got 1000.0"),
        (["episodes=true"], "episodes must be an integer of at least 1, got True"),
        (["episode_length=0"], "episode_length must be an integer of at least 1, got 0"),
        (["shard_episodes=-1"], "shard_episodes must be an integer of at least 1, or null, got -1"),
        (["num_envs=many"], "num_envs must be an integer of at least 1, or null, got 'many'"),
        (["seed=-1"], r"seed must be an integer from 0 to 2\*\*64 - 1, got -1"),
        (["seed=18446744073709551616"], r"seed must be an integer from 0 to 2\*\*64 - 1, got 18446744073709551616"),
        (["seed=null"], "seed must be an integer .*, got None"),
        (["validation=0.5", "test=0.5"], "shares .*, from 0 and below 1 in all; got validation=0.5, test=0.5"),
        (["validation=-0.1"], "shares .* got validation=-0.1, test=0.1"),
        (["test=nan"], "shares .* test=nan"),
        (["test=some"], "shares .* test='some'"),
        (["episodes=1", "test=0.8"], "validation=0.1 and test=0.8 leave no episodes to train on: collect more"),
        (["~env"], "env must have an id, such as jepa_worlds/MovingDot-v0; got None"),
        (["env.id=jepa_worlds/MovingDo-v0"], f"unknown env.id='jepa_worlds/MovingDo-v0'.* Known: .*{DOT}"),
        (["env.id=MovingDot-v0"], f"unknown env.id='MovingDot-v0'.* Known: .*{DOT}"),
        (["env.id=nowhere/Dot-v0"], f"unknown env.id='nowhere/Dot-v0'.* Known: .*{DOT}"),
        (["env.id=jepa_worlds/MovingDot-v7"], f"unknown env.id='jepa_worlds/MovingDot-v7'.* Known: .*{DOT}"),
        (["env.id=CartPole-v1"], r"env.id='CartPole-v1' cannot be made with \{'size': 28, .*'distractor'"),
        (["+env.colour=red"], r"cannot be made with \{.*'colour': 'red'\}: .*unexpected keyword argument 'colour'"),
        (["env.size=big"], "MovingDot: size must be an integer, got 'big'"),
        (["env.size=5"], "needs size > 6.2 px, got size=5"),
        (["~behaviour"], "behaviour must be an agents.behaviours.core.Behaviour, got None"),
        (["behaviour._target_=os.system"], "_target_ 'os.system' is not in agents or envs"),
        (["behaviour={_target_:agents.diagnostics.rankme}"], "is not a class defined in agents or envs"),
        (["behaviour._target_=envs.distractors.uniform.UniformNoise", "~behaviour.kappa"], "got UniformNoise"),
        (["behaviour.kappa=-1"], "kappa must be finite and at least 0, got -1"),
        (["distractor=uniform", "distractor.dynamics=wild"], "dynamics must be one of .*, got 'wild'"),
        (["behaviour=maze_expert"], "maze_expert needs the actions of PointMaze"),
        (["distractor=photographs", "distractor.source.path=3"], "Photographs: path must be a string or null, got 3"),
        (["distractor=uniform", "distractor.level=loud"], "Background: level must be a number, got 'loud'"),
        (["distractor=photographs", "distractor.source.path=/nowhere"], "'/nowhere' is not a folder of pictures"),
        (["out=null"], "out must be the folder that the dataset goes to, got None"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_collect__refuses_bad_input_before_anything_is_written(tmp_path, collect_to, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    config = composed("collect", ["out=data", "episodes=20", *overrides])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(config)
    assert list(tmp_path.iterdir()) == []


def test_collect__refuses_a_behaviour_that_cannot_act_here(tmp_path, collect_to, race):
    with pytest.raises(ValueError, match=r"random_walk moves in the plane.*got Discrete\(3\)"):
        collect_to(tmp_path / "data", *race[:-1], "behaviour=random_walk")
    assert list(tmp_path.iterdir()) == []
