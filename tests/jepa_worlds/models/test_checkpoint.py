"""Checkpoints: what is written comes back, and nothing else does."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import jepa_worlds
from agents.world_models.core import NoDecoder, WorldModel
from jepa_worlds import train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows
from jepa_worlds.models.checkpoint import load, load_tensors, read_card, save_tensors
from jepa_worlds.shared.app import composed

TINY = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "precision=fp32", "steps=2"]


@contextmanager
def _disk_with_room_for(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes in this context; the system refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def trained(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WorldModel]:
    """A run folder, and the model that was in memory when it was written."""
    out, kept = tmp_path_factory.mktemp("runs") / "tiny", []
    with pytest.MonkeyPatch.context() as patch:
        original = train.save
        patch.setattr(train, "save", lambda model, card, run: (kept.append(model), original(model, card, run)))
        train.main(composed("train", [f"data={dataset_path}", f"out={out}", *TINY]))
    return out, kept[0]


@pytest.fixture
def run(trained: tuple[Path, WorldModel], tmp_path: Path) -> Path:
    """A copy of the run folder, to be damaged."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.fixture
def edit_card(run: Path) -> Callable[[Callable[[dict], object]], None]:
    """Change what ``model.json`` says."""

    def edit(change: Callable[[dict], object]) -> None:
        card = json.loads((run / "model.json").read_text())
        change(card)
        (run / "model.json").write_text(json.dumps(card))

    return edit


def test_load__gives_an_evaluation_model_without_gradients(trained: tuple[Path, WorldModel]) -> None:
    model = jepa_worlds.load(trained[0])
    assert isinstance(model, WorldModel)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_load__computes_what_the_trained_model_computed(trained: tuple[Path, WorldModel], dataset_path: Path) -> None:
    run, model = trained
    batch = Windows(Dataset(dataset_path), "test", 17).batch(0, 4, seed=0)
    loaded, model = load(str(run)), model.eval().requires_grad_(False)  # kernels for gradients round otherwise
    latents = model.encode(batch["frames"], batch["actions"])
    assert torch.equal(latents, loaded.encode(batch["frames"], batch["actions"]))
    rollout = model.predict(latents[:, :1], batch["actions"])
    assert torch.equal(rollout, loaded.predict(latents[:, :1], batch["actions"]))
    losses, again = model.loss(batch), loaded.loss(batch)
    assert losses.keys() == again.keys()
    assert all(torch.equal(losses[name], again[name]) for name in losses)


def test_load__needs_two_files_and_no_configuration_library(trained: tuple[Path, WorldModel], tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        shutil.copy(trained[0] / name, tmp_path)
    code = """
        import sys
        sys.modules |= {name: None for name in ("hydra", "omegaconf", "yaml", "tensorboard", "matplotlib", "moviepy")}
        import torch, jepa_worlds
        model = jepa_worlds.load(".")
        latents = model.encode(torch.zeros(8, 17, 1, 28, 28, dtype=torch.uint8))
        futures = model.predict(latents[:, :1], torch.zeros(8, 16, 2))
        print(tuple(latents.shape), tuple(futures.shape))
    """
    lines = "\n".join(line.strip() for line in code.strip().splitlines())
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(8, 17, 16) (8, 16, 16)", done.stderr


def test_load__says_that_a_jepa_does_not_draw(trained: tuple[Path, WorldModel]) -> None:
    with pytest.raises(NoDecoder, match="no decoder"):
        load(trained[0]).decode(torch.zeros(1, 1, 16))


@pytest.mark.parametrize(
    "target", ["os.mkdir", "pathlib.Path", "torch.nn.Linear", "jepa_worlds.data.dataset.Dataset", "agentsmith.Model"]
)
@pytest.mark.parametrize("place", ["model", "encoder"])
def test_load__builds_no_class_outside_agents(
    run: Path, edit_card: Callable, tmp_path: Path, target: str, place: str
) -> None:
    made = tmp_path / "made"
    evil = {"_target_": target, "path": str(made)}
    edit_card(lambda card: card.update(model=evil) if place == "model" else card["model"].update(encoder=evil))
    with pytest.raises(ValueError, match=f"'{target}' is not in agents"):
        load(run)
    assert not made.exists()


@pytest.mark.parametrize("target", ["agents.world_models.core.nn.Linear", "agents.world_models.core.ABC"])
def test_load__builds_nothing_that_agents_merely_imports(run: Path, edit_card: Callable, target: str) -> None:
    edit_card(lambda card: card.update(model={"_target_": target}))
    with pytest.raises(ValueError, match=r"does not exist|is not a class defined in agents"):
        load(run)


def test_load__builds_classes_of_packages_that_the_caller_trusts(
    run: Path, edit_card: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package_of_models.py").write_text(
        "from agents.world_models.encoder_predictor import EncoderPredictor\n\nclass Mine(EncoderPredictor): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    edit_card(lambda card: card["model"].update(_target_="my_package_of_models.Mine"))
    with pytest.raises(ValueError, match="is not in agents"):
        load(run)
    assert "my_package_of_models" not in sys.modules
    assert type(load(run, trust=("my_package_of_models",))).__name__ == "Mine"


@pytest.mark.parametrize("model", [{"_target_": "agents.probes.ridge.Ridge"}, {"encoder": 3}, "agents"])
def test_load__refuses_what_is_no_world_model(run: Path, edit_card: Callable, model: object) -> None:
    edit_card(lambda card: card.update(model=model))
    with pytest.raises(ValueError, match="which is not a WorldModel"):
        load(run)


@pytest.mark.parametrize("latent_dim", ["many", -1, None])
def test_load__says_which_file_describes_a_model_that_cannot_be_built(
    run: Path, edit_card: Callable, latent_dim: object
) -> None:
    edit_card(lambda card: card["model"]["encoder"].update(latent_dim=latent_dim))
    with pytest.raises(ValueError, match=r"model\.json|SpaceToDepth"):
        load(run)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_load__refuses_truncated_weights(run: Path, share: float) -> None:
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(weights[: int(len(weights) * share)])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: .*train again"):
        load(run)


def test_load__refuses_what_is_no_safetensors_file(run: Path) -> None:
    (run / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load(run)


def test_load__names_a_missing_weights_file(run: Path) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing; .*train again"):
        load(run)


def test_load__refuses_weights_of_another_shape_in_one_line(run: Path, edit_card: Callable) -> None:
    edit_card(lambda card: card["model"]["encoder"].update(width=16))
    with pytest.raises(
        ValueError, match=r"does not fit model\.json: size mismatch for encoder\.\S+: .*\(?train again"
    ) as caught:
        load(run)
    assert len(str(caught.value).splitlines()) == 1


def test_load__refuses_weights_with_other_names(run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    tensors["another"] = tensors.pop("frame_mean")
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(ValueError, match=r'does not fit model\.json: Missing key\(s\) in state_dict: "frame_mean"'):
        load(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "does not describe a model"),
        ('{"model": {}}', "should hold 'model' and 'spec'"),
        ('{"model": {}, "spec": {}}', "not a model of format 'jepa_worlds/model/1': its format is None"),
        ('{"model": {}, "spec": {}, "format": "jepa_worlds/model/9"}', "its format is 'jepa_worlds/model/9'; load it"),
    ],
)
def test_load__refuses_a_card_that_is_none(run: Path, content: str, message: str) -> None:
    (run / "model.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load(run)


def test_read_card__tells_an_unfinished_training_from_a_foreign_folder(run: Path, tmp_path: Path) -> None:
    (run / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"its training has not finished; make one with jepa_worlds\.train"):
        read_card(run)
    for foreign in (tmp_path, tmp_path / "nowhere", run / "config.yaml"):
        with pytest.raises(FileNotFoundError, match=r"it is not a training run; make one with jepa_worlds\.train"):
            read_card(foreign)


def test_save__leaves_no_pickle_in_the_run_folder(trained: tuple[Path, WorldModel]) -> None:
    files = [file for file in trained[0].rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"model.safetensors", "training.safetensors", "model.json"}
    for file in files:
        known = file.suffix in (".json", ".jsonl", ".png", ".safetensors", ".yaml") or "tfevents" in file.name
        assert known, file
        assert not file.read_bytes().startswith((b"\x80", b"PK")), f"{file} begins as pickles or torch.save's zips do"


def test_save__keeps_no_temporary_files_and_the_usual_permissions(trained: tuple[Path, WorldModel]) -> None:
    names = {file.name for file in trained[0].iterdir()}
    assert not {name for name in names if name.startswith(".") or "tmp" in name}
    umask = os.umask(0)
    os.umask(umask)
    for name in ("model.safetensors", "training.safetensors", "model.json"):
        assert (trained[0] / name).stat().st_mode & 0o777 == 0o666 & ~umask, name


def test_save_tensors__brings_back_views_ties_and_every_layout(tmp_path: Path) -> None:
    base = torch.randn(2, 3, 4, 5)
    tensors = {
        "base": base,
        "tied": base,
        "part": base[:, 1:],
        "transposed": base.transpose(0, 3),
        "channels_last": base.to(memory_format=torch.channels_last),
        "number": torch.tensor(7),
        "half": base.bfloat16(),
    }
    save_tensors(tensors, tmp_path / "x.safetensors")
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype, name
        assert torch.equal(loaded[name], tensor), name


def test_save_tensors__keeps_the_old_file_when_the_disk_is_full(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_tensors({"x": torch.ones(3)}, file)
    with _disk_with_room_for(10_000), pytest.raises(OSError, match=r"x\.safetensors"):
        save_tensors({"x": torch.zeros(100_000)}, file)
    assert [*tmp_path.iterdir()] == [file]
    assert torch.equal(load_tensors(file)["x"], torch.ones(3))


def test_save_tensors__names_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_tensors({"x": torch.ones(3)}, tmp_path / "file" / "x.safetensors")
    assert (tmp_path / "file").read_text() == "in the way"
