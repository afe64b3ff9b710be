"""The episodes that a report shows, of real runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jepa_worlds import probe, report, train
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.shared.app import composed
from jepa_worlds.studies.scenes import scene
from jepa_worlds.studies.study import Condition, Study

TINY = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "precision=fp32", "steps=2"]
STATIC = Condition("static", 1)


@pytest.fixture(scope="module")
def study_path(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, one seed, on static noise; one sees two frames at a time."""
    out, rows = tmp_path_factory.mktemp("study"), []
    (out / "data").symlink_to(dataset_path.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        patch.setattr(probe, "draw", lambda *_: None)
        for method, overrides in {"vicreg": [], "random": ["model=random"], "pairs": ["model.frames=2"]}.items():
            run = out / "runs" / method
            train.main(composed("train", [f"data={dataset_path}", f"out={run}", *overrides, *TINY]))
            found = probe.main(composed("probe", [f"run={run}"]))
            kept = {key: found[key] for key in ("metrics", "floors", "diagnostics", "protocol", "dataset")}
            cell = {"method": method, "panel": "static", "level": 1, "seed": 0}
            where = {"run": f"runs/{method}", "data": f"data/{dataset_path.name}", "commands": ["a", "b", "c"]}
            more = {"config": read_card(run), "explained": None, "seconds": {"train": 1.0}}
            rows.append({"name": method, "cell": cell, **where, **kept, **more})
    experiment = {"name": "x", "title": "X", "preset": "debug", "score": ["location"]}
    experiment |= {"methods": {"vicreg": "VICReg", "random": "untrained", "pairs": "of two frames"}, "seeds": [0]}
    experiment |= {"panels": {"static": {"title": "fixed noise", "levels": [1], "score": ["location"]}}}
    (out / "results.json").write_text(json.dumps({"experiment": experiment, "rows": rows, "failed": []}))
    return out


def test_scene__shows_one_held_out_episode_as_the_probe_scored_it(study_path):
    study = Study(study_path)
    found = scene(study, ["vicreg", "random"], STATIC, "cpu", [])
    assert found.missing == [] and list(found.clips) == ["vicreg", "random"]
    clips = list(found.clips.values())
    np.testing.assert_array_equal(clips[0].frames, clips[1].frames)
    np.testing.assert_array_equal(clips[0].truth["location"], clips[1].truth["location"])
    assert not np.allclose(clips[0].readout["location"], clips[1].readout["location"])


def test_scene__aligns_models_that_see_several_frames_with_those_that_see_one(study_path):
    one, two = scene(Study(study_path), ["vicreg", "pairs"], STATIC, "cpu", []).clips.values()
    whole = scene(Study(study_path), ["vicreg"], STATIC, "cpu", []).clips["vicreg"]
    assert (whole.start, one.start, two.start) == (0, 1, 1) and one.end == two.end == whole.end
    assert len(one.frames) == len(two.frames) == len(whole.frames) - 1
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.truth["location"], two.truth["location"])
    np.testing.assert_array_equal(one.readout["location"], whole.readout["location"][1:])


def test_scene__says_what_has_changed_since_it_was_probed(study_path):
    study = Study(study_path)
    study.rows[0]["dataset"]["hash"] = "another"
    found = scene(study, ["vicreg", "random"], STATIC, "cpu", [])
    assert list(found.clips) == ["random"]
    assert len(found.missing) == 1 and "is not the one that was probed" in found.missing[0]


def test_report__embeds_frames_and_films(study_path):
    text = report.main(composed("report", [f"run={study_path}"])).read_text()
    assert {"frames-fixed-noise-level-1.png", "film-fixed-noise-level-1.mp4"} <= {
        file.name for file in (study_path / "report").iterdir()
    }
    assert 'src="data:video/mp4;base64,' in text and "Not shown" not in text
