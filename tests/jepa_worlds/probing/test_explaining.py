"""Why objectives are fooled: their losses for a trained model, and for what it might have come to instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from agents.objectives.vicreg import vicreg_bound
from jepa_worlds import collect, train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import split_windows
from jepa_worlds.models.checkpoint import load, read_card
from jepa_worlds.probing import explaining
from jepa_worlds.probing.explaining import explain
from jepa_worlds.shared.app import composed

BATCH, DIM = 32, 48
SMALL = ["encoder.width=8", f"model.latent_dim={DIM}", f"batch_size={BATCH}", "window=9", "precision=fp32"]
BOUND = vicreg_bound(BATCH, DIM)

Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of 320 episodes: 32 windows of 9 frames to validate on and 32 to test on, a batch each."""
    folder, noise = tmp_path_factory.mktemp("data"), ["distractor=uniform", "episodes=320", "episode_length=8"]
    return {
        dynamics: collect.main(
            composed("collect", [*noise, f"distractor.dynamics={dynamics}", f"out={folder / dynamics}"])
        )
        for dynamics in ("static", "dynamic", "drifting")
    }


@pytest.fixture(scope="module")
def trained(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """``trained("static", "objective=idm", steps=0)``: a run; made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(dataset: str | Path, *overrides: str, steps: int = 0) -> Path:
        if (dataset, overrides, steps) not in made:
            out = folder / f"run-{len(made)}"
            where = [f"data={data.get(str(dataset), dataset)}", f"out={out}", f"steps={steps}"]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(train, "training_curves", lambda run: None)
                made[dataset, overrides, steps] = train.main(composed("train", [*where, *SMALL, *overrides]))
        return made[dataset, overrides, steps]

    return run


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a run that has not been explained, to write into."""
    return lambda run: Path(shutil.copytree(run, tmp_path / run.name, ignore=shutil.ignore_patterns("explained.json")))


@pytest.fixture(scope="module")
def supervised(trained: Runs) -> Callable[[str], Path]:
    return lambda dataset: trained(dataset, "model=supervised", "optimizer.lr=0.003", steps=60)


def explained(run: Path, supervised: Path | None = None, **kwargs: Any) -> dict[str, Any]:
    found = explain(run, supervised, device="cpu", **{"steps": 60, **kwargs})
    assert json.loads((run / "explained.json").read_text()) == found
    return found


# --- what objectives prefer


def test_explain__a_copy_of_static_noise_is_as_good_as_anything_can_be_to_vicreg(
    trained: Runs, supervised: Callable[[str], Path]
) -> None:
    losses = explained(trained("static"), supervised("static"))["losses"]
    assert losses.keys() == {"trained", "copy", "controlled", "supervised"}
    for same in ("copy", "controlled"):  # to VICReg they are the same
        assert losses[same]["terms"]["invariance"] < 1e-9
        assert BOUND <= losses[same]["total"] < BOUND + 2
    for other in ("trained", "supervised"):  # the former has never been trained
        assert losses[other]["total"] > BOUND + 5


def test_explain__a_copy_of_dynamic_noise_is_bad_to_vicreg(trained: Runs, supervised: Callable[[str], Path]) -> None:
    run = trained("dynamic")
    constructed = explained(run, steps=0)["losses"]["copy"]
    assert constructed["terms"]["invariance"] == pytest.approx(1, abs=0.1)  # their variance
    losses = explained(run, supervised("dynamic"))["losses"]
    assert losses["copy"]["total"] < constructed["total"]  # it pays to shrink
    assert losses["copy"]["total"] > losses["controlled"]["total"] + 5
    assert losses["copy"]["total"] > losses["supervised"]["total"] + 1


def test_explain__a_copy_of_static_noise_is_bad_to_objectives_that_ask_for_what_moves(trained: Runs) -> None:
    temporal = explained(trained("static", "objective=vicreg_temporal"))["losses"]["copy"]
    assert temporal["terms"]["temporal_variance"] == pytest.approx(0.99)
    assert temporal["total"] == pytest.approx(24.75, abs=BOUND + 2)

    infonce = trained("static", "objective=infonce", "objective.terms.infonce.negatives=time")
    guessing = explained(infonce)["losses"]["copy"]["total"]
    assert guessing == pytest.approx(np.log(8), abs=1e-3)  # no better than a guess among 8 steps

    assert explained(trained("static", "objective=idm"))["losses"]["copy"]["total"] > 0.85  # actions have variance 1


def test_explain__only_what_asks_about_actions_tells_the_dot_from_noise_that_drifts(trained: Runs) -> None:
    for objective in ("vicreg", "vicreg_temporal"):
        losses = explained(trained("drifting", f"objective={objective}"))["losses"]
        assert losses["copy"]["total"] == pytest.approx(losses["controlled"]["total"], abs=2)
        assert losses["copy"]["total"] < BOUND + 4
    losses = explained(trained("drifting", "objective=vicreg_counterfactual"))["losses"]
    assert losses["copy"]["terms"]["counterfactual_variance"] == pytest.approx(0.99)
    assert losses["controlled"]["terms"]["counterfactual_variance"] < 0.1
    assert losses["controlled"]["total"] < losses["copy"]["total"] - 20


def test_explain__what_is_trained_is_what_training_measures(trained: Runs) -> None:
    run = trained("static", "objective=idm")
    found = explained(run)
    card = read_card(run)
    windows = split_windows(Dataset(card["dataset"]["path"]), card["window"])["test"]
    batch, model = windows.batch(0, len(windows), seed=0), load(run)
    loss = float(model.loss(batch)["inverse_dynamics"])
    assert found["losses"]["trained"] == {
        "total": pytest.approx(loss),
        "terms": {"inverse_dynamics": pytest.approx(loss)},
    }
    latents = model.encode(batch["frames"]).flatten(0, 1).double().numpy()
    eigenvalues = np.linalg.eigvalsh(np.cov(latents, rowvar=False))[::-1]
    np.testing.assert_allclose(found["spectrum"], eigenvalues / eigenvalues.sum(), atol=1e-5)
    assert found["steps"] == 60 and found["supervised"] is None and found["unavailable"] == {}
    weights = read_card(trained("static"))["objective"]["weights"]
    for entry in explained(trained("static"), steps=1)["losses"].values():
        assert entry["total"] == pytest.approx(sum(weights[name] * x for name, x in entry["terms"].items()))


def test_explain__a_model_of_several_frames_is_judged_from_its_first_whole_latent(
    trained: Runs, supervised: Callable[[str], Path]
) -> None:
    losses = explained(trained("static", "model.frames=3"), supervised("static"), steps=20)["losses"]
    assert losses["copy"]["terms"]["invariance"] < 1e-9
    assert BOUND <= losses["copy"]["total"] < BOUND + 2 < losses["supervised"]["total"]


def test_explain__other_actions_can_be_asked_about(trained: Runs, supervised: Callable[[str], Path]) -> None:
    run = trained("static", "objective=action_contrast", "objective.terms.action_contrast.negatives=2")
    losses = explained(run, supervised("static"), steps=30)["losses"]
    assert losses["copy"]["terms"]["action_contrast"] == pytest.approx(np.log(3), abs=1e-5)
    assert losses["supervised"]["terms"]["action_contrast"] != pytest.approx(
        np.log(3), abs=1e-4
    )  # they make a difference


# --- what it cannot judge


def test_explain__says_what_cannot_be_judged(trained: Runs, supervised: Callable[[str], Path]) -> None:
    found = explained(trained("static", "model=gru_autoencoder", "decoder.width=8"), supervised("static"), steps=1)
    assert found["losses"].keys() == {"trained"}
    assert found["unavailable"] == dict.fromkeys(("copy", "controlled", "supervised"), "needs a decoder")
    rssm = trained("static", "model=rssm", "decoder.width=8", "stochastic.choices=4", "stochastic.classes=4")
    found = explained(rssm, supervised("static"))
    assert found["losses"].keys() == {"trained"} and len(found["spectrum"]) == DIM
    assert found["unavailable"]["copy"] == "the loss of RSSM is of more than latents and predictions"
    for model in ("jepa_ema", "jepa"):
        found = explained(trained("static", f"model={model}", "objective=self_prediction"), supervised("static"))
        assert found["losses"].keys() == {"trained"}
        assert "its loss is of targets" in found["unavailable"]["copy"]
    found = explained(trained("static", "model=random"), supervised("static"))
    assert found["losses"] == found["unavailable"] == {} and len(found["spectrum"]) == DIM
    found = explained(trained("static"), trained("static", "model=supervised", "model.latent_dim=16"), steps=1)
    assert found["losses"].keys() == {"trained", "copy", "controlled"}
    assert found["unavailable"] == {"supervised": f"its latents have 16 dimensions, those of the run {DIM}"}
    found = explained(trained("static"), trained("static", "model=supervised", "model.frames=3"), steps=1)
    assert found["unavailable"] == {"supervised": "its latents are made of 3 frames, those of the run of 1"}


def test_explain__without_a_decoder_s_loss_a_model_that_draws_can_be_judged(trained: Runs) -> None:
    run = trained("static", "model=gru_autoencoder", "objective=vicreg", "decoder.width=8")
    assert explained(run, steps=0)["losses"].keys() == {"trained", "copy", "controlled"}


def test_explain__there_is_nothing_to_copy_where_there_is_no_background(
    trained: Runs, collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    data = collect_to(tmp_path / "none", "episode_length=8")
    found = explained(trained(data), steps=0)
    assert "controlled" in found["losses"]
    assert found["unavailable"] == {"copy": "the background is the same in all frames: there is nothing to copy"}


# --- doing it once


def test_explain__is_the_same_every_time_and_leaves_the_random_state_alone(
    trained: Runs, supervised: Callable[[str], Path], copied: Callable[[Path], Path]
) -> None:
    run = trained("static", "objective=lejepa", "model.latent_dim=16")
    other, truth = copied(run), trained("static", "model=supervised", "model.latent_dim=16")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    found = explained(run, truth, steps=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert explained(other, truth, steps=5) == found
    (run / "explained.json").unlink()
    assert explained(run, truth, steps=5) == found


def test_explain__what_is_there_is_made_again_only_of_other_inputs(
    trained: Runs, supervised: Callable[[str], Path], copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, truth = copied(trained("static")), supervised("static")
    first = explained(run, truth, steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(explaining, "load", lambda *_: pytest.fail("it is there already"))
        assert explained(run, truth, steps=1) == first
    assert explained(run, truth, steps=2)["steps"] == 2
    assert explained(run, None, steps=2)["supervised"] is None
    assert explained(run, truth, steps=2)["supervised"] == truth.name
    weights = load_file(run / "model.safetensors")
    save_file({name: x * 1.1 if x.ndim > 1 else x for name, x in weights.items()}, run / "model.safetensors")
    again = explained(run, truth, steps=2)
    assert again["losses"]["trained"] != first["losses"]["trained"]


# --- what it refuses


def test_explain__refuses_what_does_not_fit(
    trained: Runs, supervised: Callable[[str], Path], copied: Callable[[Path], Path], tmp_path: Path
) -> None:
    run = copied(trained("static"))
    with pytest.raises(ValueError, match="steps must be an integer of at least 0, got -1"):
        explain(run, None, steps=-1)
    with pytest.raises(FileNotFoundError, match=r"no model in .*nowhere.*: it is not a training run"):
        explain(tmp_path / "nowhere", None)
    with pytest.raises(FileNotFoundError, match=r"no model in .*nowhere.*: it is not a training run"):
        explain(run, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="was trained on another dataset"):
        explain(run, supervised("dynamic"))
    with pytest.raises(ValueError, match="device='quantum' is not available here"):
        explain(run, None, device="quantum")
    assert not (run / "explained.json").exists()


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_explain__refuses_a_dataset_that_is_not_what_the_model_was_trained_on(
    trained: Runs, copied: Callable[[Path], Path], tmp_path: Path, fault: str
) -> None:
    run = copied(trained("static"))
    card = read_card(run)
    card["dataset"] |= {"path": str(tmp_path / "gone")} if fault == "missing" else {"hash": "0"}
    (run / "model.json").write_text(json.dumps(card))
    with pytest.raises((ValueError, FileNotFoundError), match=r"no dataset at|has changed since"):
        explain(run, None)
    assert not (run / "explained.json").exists()


def test_explain__refuses_a_model_that_diverged(trained: Runs, copied: Callable[[Path], Path]) -> None:
    run = copied(trained("static"))
    weights = load_file(run / "model.safetensors")
    save_file({name: x * torch.nan if x.ndim > 1 else x for name, x in weights.items()}, run / "model.safetensors")
    with pytest.raises(ValueError, match="it has diverged"):
        explain(run, None)
    assert not (run / "explained.json").exists()
