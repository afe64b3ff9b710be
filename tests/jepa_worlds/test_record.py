"""The command `jepa_worlds.record`: a film of what a model makes of held-out episodes."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jepa_worlds import collect, record, train
from jepa_worlds.pictures.video import Clip
from jepa_worlds.probing.opening import open_probe
from jepa_worlds.shared.app import composed, plain

TINY = ["model.latent_dim=16", "batch_size=8", "precision=fp32", "steps=2"]


@pytest.fixture(scope="module")
def trained(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train a tiny model of a kind."""

    @functools.cache
    def run(model: str) -> Path:
        out = tmp_path_factory.mktemp("runs") / model
        narrow = ["encoder.width=8", *(["decoder.width=8"] if model == "gru_autoencoder" else [])]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "training_curves", lambda run: None)
            return train.main(
                composed("train", [f"data={dataset_path}", f"out={out}", f"model={model}", *TINY, *narrow])
            )

    return run


@pytest.fixture(params=["jepa", "gru_autoencoder"])
def run(request: pytest.FixtureRequest, trained: Callable[[str], Path]) -> Path:
    return trained(request.param)


@pytest.fixture
def jepa(trained: Callable[[str], Path]) -> Path:
    return trained("jepa")


@pytest.fixture
def filmed(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Sequence[Clip]]]:
    """The scenes that would have been written."""
    films: list[Sequence[Sequence[Clip]]] = []
    monkeypatch.setattr(record, "write_video", lambda scenes, columns, fps, file: films.append(scenes))
    return films


def test_record__writes_a_film_of_held_out_episodes(run: Path, tmp_path: Path) -> None:
    from moviepy.video.io.VideoFileClip import VideoFileClip

    file = record.main(composed("record", [f"run={run}", f"out={tmp_path / 'new' / 'video.mp4'}", "episodes=3"]))
    with VideoFileClip(str(file), audio=False) as movie:
        images = [*movie.iter_frames()]
        assert movie.fps == 5
    assert len(images) == 17 + 5  # an episode, all three side by side, and a second on its end
    panels = 3 if run.name == "gru_autoencoder" else 2
    height, width = images[0].shape[:2]
    assert (width % 2, height % 2) == (0, 0)
    assert 2 * panels * 196 < width < 2 * panels * 210
    assert 2 * 196 < height < 2 * 260
    assert np.abs(images[0].astype(int) - images[16]).max() > 100  # it moves
    assert [*file.parent.iterdir()] == [file]


def test_record__writes_a_gif_if_out_ends_so(jepa: Path, tmp_path: Path) -> None:
    file = record.main(composed("record", [f"run={jepa}", f"out={tmp_path / 'video.gif'}", "episodes=1", "fps=10"]))
    with Image.open(file) as gif:
        assert gif.format == "GIF"
        assert gif.info["duration"] == 100
        assert gif.n_frames == 17  # type: ignore[attr-defined]  # the last of them stays


def test_record__shows_true_and_probed_places_and_what_the_model_imagines(
    run: Path, filmed: list[Sequence[Sequence[Clip]]], dataset_path: Path
) -> None:
    record.main(composed("record", [f"run={run}", "out=video.mp4", "episodes=4", "at_once=3"]))
    [scenes] = filmed
    assert [len(scene) for scene in scenes] == [3, 1]
    clips = [clip for scene in scenes for clip in scene]
    test = [s for s in json.loads((dataset_path / "dataset.json").read_text())["shards"] if s["split"] == "test"]
    episodes = np.load(dataset_path / test[0]["name"] / "frames.npy").reshape(-1, 17, 28, 28, 1)
    places = np.load(dataset_path / test[0]["name"] / "factors.location.npy").reshape(-1, 17, 2)
    probe, _, _ = open_probe(plain(composed("record", [f"run={run}", "out=x.mp4"])))
    predictions = probe.score_shown()["location"].predictions.numpy()
    for number, clip in enumerate(clips):
        assert clip.title == f"{run.name}, held-out episode {number}"
        np.testing.assert_array_equal(clip.frames, episodes[number])
        np.testing.assert_array_equal(clip.truth["location"], places[number])
        np.testing.assert_array_equal(clip.readout["location"], predictions[number])
        assert not clip.gauges  # background is a number only
        if run.name == "jepa":
            assert clip.imagined is None
        else:
            assert clip.imagined is not None and clip.imagined.shape == clip.frames.shape
            drawn = probe.model.decode(probe.features["test"].rollouts[number : number + 1])[0].permute(0, 2, 3, 1)
            np.testing.assert_allclose(clip.imagined, drawn.numpy(), atol=0.51)


def test_record__shows_no_more_episodes_than_there_are(jepa: Path, filmed: list[Sequence[Sequence[Clip]]]) -> None:
    record.main(composed("record", [f"run={jepa}", "out=video.mp4", "episodes=100"]))
    assert sum(len(scene) for scene in filmed[0]) == 5


def test_record__of_another_dataset(jepa: Path, filmed: list[Sequence[Sequence[Clip]]], tmp_path: Path) -> None:
    other = collect.main(composed("collect", ["episodes=30", "seed=9", f"out={tmp_path / 'plain'}"]))
    record.main(composed("record", [f"run={jepa}", "out=video.mp4", f"data={other}", "episodes=1"]))
    frames = filmed[0][0][0].frames
    assert (frames == 0).mean() > 0.5  # black: this one has no noise


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out=video.avi"], r"a video is written as \.mp4 or \.gif, got out='video\.avi'"),
        (["episodes=0"], "episodes must be an integer of at least 1, got 0"),
        (["at_once=0"], "at_once must be an integer of at least 1, got 0"),
        (["fps=0"], "fps must be positive, got 0"),
        (["data=nowhere"], "no dataset at 'nowhere'"),
        (["run=nowhere"], r"no model in 'nowhere': it is not a training run; make one with jepa_worlds\.train"),
        (["protocol.window=40"], "windows of 40 frames do not fit dataset"),
    ],
)
def test_record__refuses_bad_input_before_anything_is_written(
    jepa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        record.main(composed("record", [f"run={jepa}", "out=video.mp4", *overrides]))
    assert not [*tmp_path.iterdir()]


def test_record__refuses_an_out_that_cannot_be_written_before_it_probes(
    jepa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "open_probe", lambda settings: pytest.fail("worked for nothing"))
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.gif").mkdir()
    for out, message in {"file/video.mp4": "not a folder that can be written to", "folder.gif": "is a folder"}.items():
        with pytest.raises(OSError, match=message):
            record.main(composed("record", [f"run={jepa}", f"out={tmp_path / out}"]))
    assert (tmp_path / "file").read_text() == "in the way"


def test_record__says_so_if_there_is_nothing_to_show(jepa: Path, dataset_path: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(dataset_path, tmp_path / "data"))
    manifest = json.loads((data / "dataset.json").read_text())
    del manifest["factors"]["location"]
    (data / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"there is nothing to show: the factors are \['background'\]"):
        record.main(composed("record", [f"run={jepa}", f"data={data}", f"out={tmp_path / 'video.mp4'}"]))
    assert not (tmp_path / "video.mp4").exists()


def test_record__without_an_encoder_ends_in_one_message(
    run_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    missing = {"IMAGEIO_FFMPEG_EXE": os.fspath(tmp_path / "no-ffmpeg")}
    done = run_command("record", "run=nowhere", "out=video.mp4", env=missing)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: there is no ffmpeg at '{tmp_path}/no-ffmpeg', and MP4 needs it: point IMAGEIO_FFMPEG_EXE to one, or "
        f"unset it and pip install imageio-ffmpeg; or write a GIF, out='video.gif'"
    ]
    assert not [*tmp_path.iterdir()]
