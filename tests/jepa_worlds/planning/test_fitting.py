"""Probes of latents that are somewhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from agents.heads.core import Head
from agents.probes.core import Samples
from agents.probes.ridge import Ridge
from jepa_worlds.planning import fitting as plan_fitting
from jepa_worlds.planning.fitting import Fitted, Readout
from jepa_worlds.planning.heads import new_head
from jepa_worlds.shared.files import Plain

SIZES = {"latent_dim": 4, "action_dim": 2}
HEADS = {
    "reward": {"_target_": "agents.heads.reward.Reward", **SIZES},
    "encoded": {"_target_": "agents.heads.reward.Reward", **SIZES, "imagined": False},
    "gcbc": {"_target_": "agents.heads.gcbc.GCBC", **SIZES},
    "temporal_distance": {"_target_": "agents.heads.temporal_distance.TemporalDistance", "latent_dim": 4},
}
LATENTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def probe() -> Ridge:
    samples, found = Samples(LATENTS, LATENTS @ torch.tensor([[2.0, 0], [-1, 1], [0, 3], [1, 1]])), Ridge()
    found.fit(samples, samples)
    return found


def test_readout__of_latents_on_another_device_is_on_theirs(probe: Ridge) -> None:
    """Tensors that pretend to be on a GPU, and are refused beside those on a CPU as they would be there."""
    with FakeTensorMode() as mode:
        for name in ("feature_mean", "target_mean", "weight"):
            setattr(probe, name, mode.from_tensor(getattr(probe, name)))
        latents = torch.zeros(2, 3, 5, 4, device="cuda")
        read = Readout(probe, torch.device("cpu"))(latents)
        assert (read.shape, read.device.type) == ((2, 3, 5, 2), "cuda")
        with pytest.raises(RuntimeError, match="device"):
            probe.predict(latents.flatten(0, -2))


def test_readout__is_what_the_probe_reads_with_its_gradient(probe: Ridge) -> None:
    latents = LATENTS.view(2, 5, 4, 4).clone().requires_grad_()
    read = Readout(probe, torch.device("cpu"))(latents)
    assert torch.equal(read.flatten(0, 2), probe.predict(LATENTS))
    read[..., 1].sum().backward()
    torch.testing.assert_close(latents.grad, torch.tensor([0.0, 1, 3, 1]).expand(2, 5, 4, 4), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("device", "there"), [("cpu", "cpu"), ("meta", "meta"), ("mps", "cpu")])
def test_readout__is_fitted_where_the_model_is_if_double_precision_is_there(
    device: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Asked:
        def fit(self, *samples: Samples) -> None:
            asked.extend((x.device.type, x.shape) for one in samples for x in (one.features, one.targets))

    features = SimpleNamespace(rollouts=torch.zeros(6, 3, 4), factors={"x": torch.zeros(6, 3, 2)})
    monkeypatch.setattr(plan_fitting, "build", lambda config, trusted: Asked())
    monkeypatch.setattr(Fitted, "__init__", lambda self: None)
    monkeypatch.setattr(Fitted, "_features", {"train": features, "validation": features})
    fitted = Fitted()  # type: ignore[call-arg]
    fitted.device, fitted.settings, fitted._readouts = torch.device(device), {"readout": {}}, {}
    fitted.trust = ()
    assert fitted.readout("x").device.type == there and fitted.readout("x") is fitted.readout("x")
    assert asked == [(there, (18, 4)), (there, (18, 2))] * 2


def test_head__of_what_is_imagined_is_fitted_on_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reward head, unless it is told otherwise; not policies and distances, which are given what is encoded."""
    asked: list[int] = []

    def fitted_head(name: str, config: Plain, data: Callable[[Head], int], *given: Any, seed: int, **fit: Any) -> Head:
        head = new_head(config, seed)
        asked.append(data(head))
        return head

    monkeypatch.setattr(plan_fitting, "fitted_head", fitted_head)
    monkeypatch.setattr(plan_fitting, "trajectories", lambda model, dataset, imagined, desc: imagined)
    monkeypatch.setattr(Fitted, "__init__", lambda self: None)
    monkeypatch.setattr(Fitted, "head_config", lambda self, name: HEADS[name])
    fitted = Fitted()  # type: ignore[call-arg]
    fitted.card, fitted.model = {"window": 17}, SimpleNamespace(context=2)  # type: ignore[assignment]
    fitted.folder, fitted.identity, fitted.dataset = tmp_path, {}, None  # type: ignore[assignment]
    fitted.device, fitted.settings, fitted.trust = torch.device("cpu"), {"fit": {}}, ()
    fitted._heads, fitted._known = {}, {}
    for name in ("reward", "gcbc", "temporal_distance", "encoded", "reward"):
        fitted.head(name, 0)
    assert asked == [15, 0, 0, 0]
