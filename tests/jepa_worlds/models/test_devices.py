"""Devices and precisions: refused where they are not there, and chosen without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from agents.objectives.core import Terms
from agents.world_models.core import Batch, WorldModel
from jepa_worlds.models import devices
from jepa_worlds.models.devices import chosen_device, chosen_precision


class Noisy(WorldModel):
    """A small model whose loss draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 2
        self.encoder = nn.Linear(4, 2)

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return self.encoder(frames)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return latents[:, -1:].expand(-1, actions.shape[1], -1)

    def loss(self, batch: Batch) -> Terms:
        latents = self.encode(batch["frames"])
        return {"noise": (latents - torch.randn_like(latents)).square().mean()}


def test_chosen_device__takes_a_gpu_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in {False: "cpu", True: "cuda"}.items():
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert chosen_device("auto") == torch.device(expected)
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["cuda:99", "gpu", "cpu:x", "", None])
def test_chosen_device__refuses_what_is_not_there(wanted: str) -> None:
    with pytest.raises(ValueError, match=rf"device={wanted!r} is not available here: \S.* Try device=auto or cpu"):
        chosen_device(wanted)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_chosen_device__refuses_cuda_without_a_gpu() -> None:
    with pytest.raises(ValueError, match=r"device='cuda' is not available here: \S.* Try device=auto or cpu"):
        chosen_device("cuda")


@pytest.mark.parametrize("wanted", ["fp16", "", None, 16])
def test_chosen_precision__refuses_what_it_does_not_know(wanted: str) -> None:
    with pytest.raises(ValueError, match=rf"precision must be auto, fp32 or bf16, got {wanted!r}"):
        chosen_precision(wanted, Noisy(), {})


def test_chosen_precision__takes_what_was_asked_for() -> None:
    assert [chosen_precision(wanted, Noisy(), {}) for wanted in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_chosen_precision__is_fp32_without_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(devices, "_seconds_a_step", lambda *_: pytest.fail("measured what is not there"))
    assert chosen_precision("auto", Noisy(), {}) == "fp32"


@pytest.mark.parametrize(("seconds", "expected"), [({False: 1, True: 0.95}, "fp32"), ({False: 2, True: 1}, "bf16")])
def test_chosen_precision__is_the_clearly_faster_one_with_the_hardware(
    seconds: dict[bool, float], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(devices, "_seconds_a_step", lambda model, batch, bf16: seconds[bf16])
    assert chosen_precision("auto", Noisy(), {}) == expected


def test_chosen_precision__measures_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    model, batch = Noisy(), {"frames": torch.rand(8, 3, 4)}
    before = torch.get_rng_state()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert chosen_precision("auto", model, batch) in ("fp32", "bf16")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
