"""Datasets of one's own episodes: kept as they were, trained on like any other, and refused where they do not fit."""

from __future__ import annotations

import re
from collections import UserList
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from jepa_worlds import evaluate, probe, record, train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.importing import Episode, from_episodes
from jepa_worlds.data.windows import Windows
from jepa_worlds.policies import comparing
from jepa_worlds.shared.app import composed

TINY = ["encoder.width=8", "model.latent_dim=16", "steps=2", "batch_size=8", "window=4", "precision=fp32"]


def squares(count: int, known: bool = True, seed: int = 0) -> list[Episode]:
    """Squares that go as actions say; episodes are of 4 to 7 steps."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        at = np.cumsum(np.r_[[[10, 10]], rng.integers(-2, 3, (4 + number % 4, 2))], axis=0).clip(1, 18)
        frames = np.zeros((len(at), 20, 24, 3), np.uint8)
        for frame, (x, y) in zip(frames, at, strict=True):
            frame[y - 1 : y + 2, x - 1 : x + 2] = 255
        factors = {"location": at.astype(float), "speed": rng.normal(size=len(at))} if known else {}
        found.append(Episode(frames, np.diff(at, axis=0).astype(np.float32), factors))
    return found


def test_from_episodes__keeps_what_it_is_given(tmp_path: Path) -> None:
    given = squares(20)
    dataset = from_episodes(given, tmp_path / "mine", name="squares", validation=0.2, test=0.1)
    assert dataset.manifest["splits"] == {"train": [0, 14], "validation": [14, 18], "test": [18, 20]}
    assert dataset.manifest["frame_shape"] == [20, 24, 3] and dataset.manifest["env"] == {"id": "squares"}
    [train_shard], [test] = dataset.shards("train"), dataset.shards("test")
    for shard, episodes in ((train_shard, given[:14]), (test, given[18:])):
        for name in ("frames", "actions"):
            assert np.array_equal(shard.columns[name], np.concatenate([getattr(x, name) for x in episodes]))
        for name in ("location", "speed"):
            kept = shard.columns[f"factors.{name}"]
            assert kept.dtype == np.float32
            assert np.array_equal(kept, np.concatenate([x.factors[name] for x in episodes]).astype(np.float32))
        assert shard.lengths.tolist() == [len(x.actions) for x in episodes]
        ends = np.cumsum(shard.lengths) - 1
        assert np.flatnonzero(shard.columns["truncations"]).tolist() == ends.tolist()
        assert not shard.columns["terminations"].any() and not shard.columns["rewards"].any()


def test_from_episodes__keeps_rewards_and_ends(tmp_path: Path) -> None:
    ended = [
        replace(x, rewards=np.arange(len(x.actions)), terminations=np.arange(len(x.actions)) == len(x.actions) - 1)
        for x in squares(4)
    ]
    [shard] = from_episodes(ended, tmp_path / "x", name="x", validation=0, test=0).shards("train")
    assert np.array_equal(shard.columns["rewards"], np.concatenate([x.rewards for x in ended]))
    assert shard.columns["terminations"].sum() == 4 and not shard.columns["truncations"].any()


def test_from_episodes__goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked = squares(20), []

    class Stopping(list):
        def __getitem__(self, number):  # type: ignore[no-untyped-def]
            asked.append(number)
            if number == 17 and asked.count(17) == 1:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    monkeypatch.setattr("jepa_worlds.data.sharding.SHARD", (4, 2**28))
    episodes = Stopping(given)
    with pytest.raises(KeyboardInterrupt):
        from_episodes(episodes, tmp_path / "x", name="squares")
    with pytest.raises(ValueError, match="incomplete"):
        Dataset(tmp_path / "x")
    asked.clear()
    asked.append(17)
    again = from_episodes(episodes, tmp_path / "x", name="squares")
    assert set(asked) == {0, 16, 17, 18, 19}  # the first tells what all are like
    assert again.content_hash == from_episodes(given, tmp_path / "y", name="squares").content_hash


def test_from_episodes__knows_a_folder_by_its_episodes(tmp_path: Path) -> None:
    given = squares(20)
    dataset = from_episodes(given, tmp_path / "x", name="squares")
    assert from_episodes(tuple(given), tmp_path / "x", name="squares").content_hash == dataset.content_hash
    changed = [*given[:7], replace(given[7], actions=given[7].actions + 1), *given[8:]]
    with pytest.raises(ValueError, match=r"collected otherwise, with episodes_digest='\w+' \(now '\w+'\): choose"):
        from_episodes(changed, tmp_path / "x", name="squares")

    class Asked(UserList):
        """No list: what has changed is not looked for in all of it."""

    from_episodes(Asked(given), tmp_path / "asked", name="squares")
    from_episodes(Asked(changed), tmp_path / "asked", name="squares")
    with pytest.raises(ValueError, match="collected otherwise, with episodes_digest="):
        from_episodes(Asked([*given[:-1], given[7]]), tmp_path / "asked", name="squares")


def test_datasets_of_ones_own__are_trained_and_probed_on_and_filmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "training_curves", lambda run: None)
    monkeypatch.setattr(probe, "draw", lambda *_: None)
    from_episodes(squares(60), tmp_path / "known", name="squares")
    from_episodes(squares(60, known=False), tmp_path / "unknown", name="unknown")
    for name in ("known", "unknown"):
        run = train.main(composed("train", [f"data={tmp_path / name}", f"out={tmp_path / 'run' / name}", *TINY]))
        found = probe.main(composed("probe", [f"run={run}", "protocol.window=4"]))
        assert set(found["metrics"]) == ({"location", "speed"} if name == "known" else set())
        assert found["diagnostics"]["rankme"] >= 1
    task = comparing.chosen_task({"run": run, "env": {"id": "other"}, "distractor": None, "episode_length": None})
    assert task["distractor"] == {}
    assert evaluate._worlds({"env": {"id": "some"}, "distractor": None}) == "some"
    assert "tells no factors that change, so there is nothing to read off: " in capsys.readouterr().out
    film = record.main(
        composed(
            "record",
            [f"run={tmp_path / 'run' / 'known'}", f"out={tmp_path / 'x.gif'}", "protocol.window=4", "episodes=1"],
        )
    )
    assert film.stat().st_size > 0


def test_from_episodes__of_choices_have_one_hot_actions(tmp_path: Path) -> None:
    given = [replace(x, actions=np.arange(len(x.actions)) % 3 + 1) for x in squares(20)]
    dataset = from_episodes(given, tmp_path / "x", name="x", action_space=gymnasium.spaces.Discrete(3, start=1))
    batch = Windows(dataset, "train", 4).batch(0, 8, seed=0)
    assert batch["actions"].shape == (8, 3, 3) and (batch["actions"].sum(-1) == 1).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"frames": np.zeros((6, 20, 24, 3))},
            "episode 3: frames must be uint8 [T+1, H, W, C], got float64 [6, ",
        ),
        ({"frames": np.zeros((6, 20, 24), np.uint8)}, "frames must be uint8 [T+1, H, W, C], got uint8 [6, 20, 24]"),
        ({"frames": np.zeros((7, 20, 24, 3), np.uint8)}, "episode 3: frames must have 8 rows beside 7 actions, got 7"),
        (
            {"frames": np.zeros((8, 24, 24, 3), np.uint8)},
            "frames of each step is uint8 [24, 24, 3], that of episode 0",
        ),
        ({"actions": np.zeros((0, 2), np.float32)}, "episode 3 has no steps"),
        (
            {"actions": np.zeros((7, 3), np.float32)},
            "episode 3: actions must be of Box(-inf, inf, (2,), float32), got those of shape (3,)",
        ),
        ({"actions": np.full((7, 2), np.nan, np.float32)}, "episode 3: actions has numbers that are not finite"),
        ({"factors": {}}, "episode 3: factors.location of each step is none, that of episode 0 float32 [2]"),
        ({"factors": {"arm/x": np.zeros(8)}}, "'factors.arm/x' becomes the name of a file: use letters"),
        ({"rewards": np.zeros(8)}, "episode 3: rewards must have 7 rows beside 7 actions, got 8"),
    ],
)
def test_from_episodes__refuses_what_does_not_fit_together(tmp_path: Path, changed: dict, message: str) -> None:
    given = squares(20)
    given[3] = replace(given[3], **changed)
    with pytest.raises(ValueError, match=re.escape(message)):
        from_episodes(given, tmp_path / "x", name="squares")


@pytest.mark.parametrize(
    ("actions", "space", "message"),
    [
        (np.arange(4), None, "actions are int64: give an action_space, Discrete or MultiDiscrete for choices, or make"),
        (np.arange(4), gymnasium.spaces.Discrete(3), "episode 0 has actions that are not of Discrete(3)"),
        (np.zeros((4, 2), np.float32), gymnasium.spaces.Box(-1, 1, (3,)), "episode 0: actions must be of Box("),
        (
            np.zeros((4, 2)),
            gymnasium.spaces.MultiBinary(2),
            "must be a Box, Discrete or MultiDiscrete space, got Mul",
        ),
    ],
)
def test_from_episodes__refuses_actions_of_another_space(
    tmp_path: Path, actions: np.ndarray, space: gymnasium.Space | None, message: str
) -> None:
    given = [replace(squares(1)[0], actions=actions)] * 20
    with pytest.raises(ValueError, match=re.escape(message)):
        from_episodes(given, tmp_path / "x", name="x", action_space=space)
    assert not (tmp_path / "x").exists()


def test_from_episodes__refuses_none_and_folders_of_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no episodes"):
        from_episodes([], tmp_path / "x", name="squares")
    with pytest.raises(ValueError, match="leave no episodes to train on"):
        from_episodes(squares(2), tmp_path / "x", name="squares", validation=0.5, test=0.4)
    assert not (tmp_path / "x").exists()
    from_episodes(squares(20), tmp_path / "x", name="squares")
    with pytest.raises(ValueError, match=r"collected otherwise, with behaviour.first_episode="):
        from_episodes(squares(20, seed=1), tmp_path / "x", name="squares")
    with pytest.raises(ValueError, match=r"collected otherwise, with env.id='squares' \(now 'others'\)"):
        from_episodes(squares(20), tmp_path / "x", name="others")
