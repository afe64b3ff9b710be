"""Every task goes through the whole pipeline: collect, train, probe, record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jepa_worlds import probe, record, train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.pictures import figures
from jepa_worlds.shared.app import CONFIGS, composed

FOREIGN = ("dm_control", "gymnasium", "pusht")
NATIVE = sorted(file.stem for file in (CONFIGS / "env").glob("*.yaml") if file.stem not in FOREIGN)
SMALL = ["env.size=32", "episodes=30", "episode_length=4", "behaviour=correlated"]
TINY = ["model=gru_autoencoder", "encoder.width=8", "decoder.width=4", "model.latent_dim=8", "model.frames=2"]
TINY += ["window=5", "steps=2", "batch_size=8", "precision=fp32"]


@pytest.fixture(autouse=True)
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, and not turned into PNGs: that would take most of the time."""
    monkeypatch.setattr(figures, "save_figure", lambda figure, file: file.touch())


def through_all(overrides: list[str], collect_to: Callable[..., Path], out: Path) -> dict:
    """What the probe found, after everything has run."""
    data = collect_to(out / "data", *overrides, *SMALL)
    run = train.main(composed("train", [f"data={data}", f"out={out / 'run'}", *TINY]))
    found = probe.main(composed("probe", [f"run={run}"]))
    film = record.main(composed("record", [f"run={run}", f"out={out / 'film.gif'}", "episodes=1"]))
    assert film.stat().st_size > 1000
    assert found["metrics"].keys() <= set(Dataset(data).factors)
    return found


@pytest.mark.parametrize("env", NATIVE)
def test_native_world__is_collected_trained_on_probed_and_filmed(env, collect_to, tmp_path):
    found = through_all([f"env={env}", "distractor=medium"], collect_to, tmp_path)
    assert {"background", "camera", "colour"} < found["metrics"].keys()
    own = found["metrics"].keys() - {"background", "camera", "colour"}
    assert own and all(found["metrics"][name]["rollout_rmse"] > 0 for name in own)


@pytest.mark.parametrize("task", ["reacher easy", "walker walk"])
def test_dm_control__is_collected_trained_on_probed_and_filmed(task, collect_to, tmp_path, dm_control):
    domain, name = task.split()
    found = through_all(
        ["env=dm_control", f"env.domain={domain}", f"env.task={name}", "distractor=photographs", "num_envs=1"],
        collect_to,
        tmp_path,
    )
    assert {"velocity", "background"} < found["metrics"].keys()
