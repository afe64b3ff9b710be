"""Worlds unlike a dot that moves: discrete actions, scalar factors, no position to show, several frames to a latent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.diagnostics import action_sensitivity
from jepa_worlds import probe, record, train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows
from jepa_worlds.models.training import diagnose
from jepa_worlds.pictures.figures import component
from jepa_worlds.pictures.video import Clip
from jepa_worlds.probe import table
from jepa_worlds.probing.opening import open_probe
from jepa_worlds.shared.app import composed, plain

TINY = ["encoder.width=8", "encoder.patch=2", "decoder.width=4", "decoder.patch=2", "model.latent_dim=8"]
TINY += ["model=gru_autoencoder", "batch_size=16", "precision=fp32", "window=4", "steps=20"]


@pytest.fixture
def run(
    race: list[str], collect_to: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Train a tiny model on races."""
    monkeypatch.setattr(train, "training_curves", lambda run: None)
    data = collect_to(tmp_path / "data", *race, "episodes=150", "episode_length=6")
    return lambda *overrides: train.main(
        composed("train", [f"data={data}", f"out={tmp_path / 'run'}", *TINY, *overrides])
    )


def test_pipeline__takes_discrete_actions_and_scalar_factors(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    trained = run("objective=supervised", "objective.terms.supervised.factor=goal", "steps=150")
    card = json.loads((trained / "model.json").read_text())
    assert (card["spec"]["action_dim"], card["spec"]["action_sizes"]) == (3, [3])
    assert (card["spec"]["action_mean"], card["spec"]["action_std"]) == ([0.0] * 3, [1.0] * 3)
    found = probe.main(composed("probe", [f"run={trained}"]))
    assert found["metrics"].keys() == {"goal", "position"}
    assert found["metrics"]["goal"]["r2"] > 0.9 and found["metrics"]["goal"]["r2_per_component"] == [
        pytest.approx(found["metrics"]["goal"]["r2"])
    ]
    pictures = {file.name for file in (trained / "probe").glob("*.png")}
    assert pictures == {f"{kind}_{name}.png" for kind in ("per_step", "trace") for name in ("goal", "position")}
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("|")] == table(found)
    assert printed[-1] == str(trained / "probe" / "results.json")


@pytest.fixture
def filmed(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """The clips that would have been written."""
    clips: list[Clip] = []

    def write(scenes: Sequence[Sequence[Clip]], columns: int, fps: float, file: Path) -> None:
        clips.extend(clip for scene in scenes for clip in scene)

    monkeypatch.setattr(record, "write_video", write)
    return clips


@pytest.mark.parametrize("frames", [1, 2])
def test_record__shows_gauges_of_what_has_no_place_beside_the_frames_of_their_steps(
    run: Callable[..., Path], filmed: list[Clip], frames: int
) -> None:
    trained = run(f"model.frames={frames}")
    record.main(composed("record", [f"run={trained}", "out=video.mp4"]))
    probe_, _, _ = open_probe(plain(composed("record", [f"run={trained}", "out=x.mp4"])))
    scores = probe_.score_shown()
    assert len(filmed) == 8
    for number, clip in enumerate(filmed):
        assert clip.truth == clip.readout == {}
        assert clip.imagined is not None and clip.imagined.shape == clip.frames.shape == (5 - frames, 4, 6, 3)
        gauges = {gauge.label: gauge for gauge in clip.gauges}
        assert gauges.keys() == {"goal", "position"}
        for channel, name in enumerate(("position", "goal")):  # which are the levels of red and green in the frame
            np.testing.assert_array_equal(gauges[name].truth, clip.frames[:, 0, 0, channel])
            np.testing.assert_array_equal(gauges[name].readout, scores[name].predictions[number, :, 0])
        assert (gauges["goal"].low, gauges["goal"].high) == (1, 9)


def test_latents__that_are_made_of_unseen_frames_count_nowhere(run: Callable[..., Path]) -> None:
    trained = run("model.frames=2", "objective=reconstruction", "steps=0")
    card = json.loads((trained / "model.json").read_text())
    assert (card["spec"]["frame_shape"], card["spec"]["input_shape"]) == ([3, 4, 6], [6, 4, 6])
    probe_, _, dataset = open_probe(plain(composed("probe", [f"run={trained}"])))
    model, batch = probe_.model, Windows(dataset, "test", 4, stride=4).batch(0, 6, seed=0)
    blind = {**batch, "frames": batch["frames"].clone()}
    blind["frames"][:, 0] += 100  # seen by the latent of step 1 alone, beside step 0's
    here, there = (model.encode(some["frames"]) for some in (batch, blind))
    assert torch.equal(here[:, 2:], there[:, 2:]) and not torch.allclose(here[:, 1], there[:, 1])
    windows = Windows(dataset, "validation", 4, stride=4)
    expected, held_out = diagnose(model, windows, 16), windows.batch(0, len(windows), seed=0)
    seen = model.encode(held_out["frames"])[:, 1:]
    sensitivity = float(action_sensitivity(model, seen, held_out["actions"][:, 1:]))
    assert expected["action_sensitivity"] == pytest.approx(sensitivity, rel=1e-4)
    encode = model.encode
    model.encode = lambda *given: encode(*given).index_fill(1, torch.tensor([0]), 1e6)  # type: ignore[method-assign]
    assert diagnose(model, windows, 16) == expected


def test_bounds__are_the_range_of_the_data(run: Callable[..., Path]) -> None:
    probe_, _, dataset = open_probe(plain(composed("probe", [f"run={run('steps=0')}"])))
    low, high = probe_.bounds("goal")
    assert (low.tolist(), high.tolist()) == ([1], [9])
    assert isinstance(dataset, Dataset) and probe_.quantities == ["goal", "position"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [([2], r"choices among \[3\], dataset .* has \[2\]"), (None, r"choices among \[3\], dataset .* has \[\] ")],
)
def test_probe__refuses_actions_of_another_kind(
    run: Callable[..., Path], sizes: list[int] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, before = run("steps=0"), Dataset.__init__

    def changed(self: Dataset, *given: Any) -> None:
        before(self, *given)
        del self.manifest["action"]["sizes"]
        self.manifest["action"] |= {"sizes": sizes} if sizes else {}

    monkeypatch.setattr(Dataset, "__init__", changed)
    with pytest.raises(ValueError, match=message):
        probe.main(composed("probe", [f"run={trained}"]))


def test_table__has_a_line_a_factor_with_the_background_last() -> None:
    metrics = {"rollout_rmse": 1.2345, "rollout_rmse_ci95": [1.0, 2], "encoder_rmse": 3, "r2": 0.5, "encoder_r2": -0.1}
    floors = {"chance": 10.0, "pixels": 0.001234, "untrained": 5, "untrained_encoder": 6}
    names = ("background", "angle", "location")
    lines = table({"metrics": dict.fromkeys(names, metrics), "floors": dict.fromkeys(names, floors)})
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[0] for row in cells[2:]] == ["angle", "location", "background"]
    assert cells[2][1:] == ["1.23 [1, 2]", "3", "0.50", "-0.10", "10", "0.00123", "5"]
    assert cells[0][5:] == ["chance", "pixels", "untrained"] and len({len(line) for line in lines}) == 1


def test_component__has_a_number_where_there_are_several() -> None:
    assert (component("wall", 0, 1), component("angle", 1, 2)) == ("wall", "angle[1]")
