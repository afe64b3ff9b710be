"""Ctrl-C in the commands that have no state of their own: one message, status 130, nothing half-written."""

from __future__ import annotations

import sys

import pytest

from jepa_worlds import demo, probe, record, train
from jepa_worlds.pictures import video
from jepa_worlds.probing import scoring
from jepa_worlds.shared.app import command, composed


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset_path):
    run = tmp_path_factory.mktemp("interrupted") / "run"
    small = ["model.latent_dim=8", "encoder.width=8", "batch_size=8", "steps=1"]
    train.main(composed("train", [f"data={dataset_path}", f"out={run}", *small]))
    return run


def interrupt(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "main", "place"),
    [
        ("probe", probe.main, (scoring, "scores")),
        ("record", record.main, (video, "_tile")),
        ("demo", demo.main, (train, "main")),
    ],
)
def test_command__interrupted_leaves_nothing_half_written(name, main, place, trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / ("video.mp4" if name == "record" else "out")
    arguments = ["episodes=20"] if name == "demo" else [f"run={trained}"]
    monkeypatch.setattr(*place, interrupt)
    monkeypatch.setattr(sys, "argv", [name, *arguments, f"out={out}"])
    with pytest.raises(SystemExit) as stopped:
        command(name)(main)()
    assert stopped.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: interrupted")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.name == "results.json"]
    assert not list(tmp_path.rglob("*.mp4"))
