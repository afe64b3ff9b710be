"""Imagination is what the model predicts, for every candidate by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.costs.imagination import imagine
from agents.costs.int8 import Int8GRU, Int8GRUCell, Int8Linear, int8
from agents.predictors.gru import GRUPredictor
from agents.world_models.encoder_predictor import EncoderPredictor
from agents.world_models.rssm import RSSM
from agents.world_models.stochastic import Categorical

MOMENTS = ([128.0], [80.0], [0.5, -0.5], [2.0, 3.0])  # of frames and actions


class Flat(nn.Sequential):
    def __init__(self, frames: int, dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16 * frames, dim))


def jepa(frames: int = 1, dim: int = 96) -> EncoderPredictor:
    return EncoderPredictor(Flat(frames, dim), GRUPredictor(dim, 2), {}, dim, *MOMENTS, frames=frames).eval()


def rssm() -> RSSM:
    decoder = nn.Sequential(nn.Linear(112, 16), nn.Unflatten(1, (1, 4, 4)))
    return RSSM(Flat(1, 112), decoder, {}, Categorical(4, 4), 112, 2, *MOMENTS, hidden_dim=80).eval()


MODELS = {"jepa": jepa, "jepa of 3 frames": lambda: jepa(frames=3), "rssm": rssm}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]().requires_grad_(False)


@pytest.fixture
def state(model):
    """Of 3 environments, after two frames."""
    frames = torch.randint(0, 256, (2, 3, 1, 4, 4), dtype=torch.uint8)
    return model.update(model.update(None, None, frames[0]), torch.randn(3, 2), frames[1])


@pytest.fixture
def actions():
    return 3 * torch.randn(3, 7, 5, 2)


def alone(model, state, actions):
    """What the model predicts for one candidate at a time."""
    latents = state[:, None, : model.latent_dim]
    rows = [[model.predict(z[None], a[None])[0] for a in some] for z, some in zip(latents, actions, strict=True)]
    return torch.stack([torch.stack(row) for row in rows])


def test_imagine__is_what_the_model_predicts_for_each_candidate(model, state, actions):
    torch.testing.assert_close(imagine(model, state, actions), alone(model, state, actions), atol=1e-5, rtol=1e-5)


def test_imagine__sends_the_gradients_of_the_prediction(model, state, actions):
    actions.requires_grad_()
    weight = torch.randn(3, 7, 5, model.latent_dim)
    expected = torch.autograd.grad((alone(model, state, actions) * weight).sum(), actions)[0]
    found = torch.autograd.grad((imagine(model, state, actions) * weight).sum(), actions)[0]
    assert (expected != 0).all()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_imagine__in_bfloat16_is_nearly_the_same(model, state, actions):
    whole, half = imagine(model, state, actions), imagine(model, state, actions, bf16=True)
    assert half.dtype == torch.float32
    assert 0 < (half - whole).abs().max() < 0.05


def test_imagine__refuses_a_model_in_training_mode(model, state, actions):
    with pytest.raises(ValueError, match=r"is in training mode: call its eval\(\) first"):
        imagine(model.train(), state, actions)


# --- in 8 bits


def test_int8__imagines_nearly_the_same(model, state, actions):
    whole, quick = imagine(model, state, actions), imagine(int8(model), state, actions)
    assert 0 < (quick - whole).square().mean().sqrt() < 0.003
    assert (quick - whole).abs().max() < 0.03


def test_int8__an_environment_s_latents_do_not_depend_on_the_others(model, state, actions):
    quick = int8(model)
    together = imagine(quick, state, actions)
    louder = imagine(quick, torch.cat([state[:1], 100 * state[1:]]), torch.cat([actions[:1], 50 * actions[1:]]))
    torch.testing.assert_close(louder[0], together[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(imagine(quick, state[1:2], actions[1:2])[0], together[1], atol=1e-6, rtol=0)


def test_int8__replaces_wide_layers_and_leaves_the_model_alone():
    small, wide = jepa(dim=32), jepa()
    before = {name: x.clone() for name, x in wide.state_dict().items()}
    quick = int8(wide)
    assert isinstance(quick.predictor.gru, Int8GRU) and type(wide.predictor.gru) is nn.GRU
    assert type(quick.encoder[1]) is nn.Linear  # reads 16 numbers
    assert all(torch.equal(x, before[name]) for name, x in wide.state_dict().items())
    assert type(int8(small).predictor.gru) is nn.GRU
    recurrent = int8(rssm())
    assert isinstance(recurrent.cell, Int8GRUCell) and isinstance(recurrent.prior[0], Int8Linear)


@pytest.mark.parametrize("bias", [True, False])
def test_int8_linear__is_exact_for_whole_numbers_of_its_scale(bias):
    linear = nn.Linear(70, 66, bias=bias).requires_grad_(False)
    linear.weight.copy_(torch.randint(-127, 128, (66, 70)))
    linear.weight[:, 0] = 127
    linear.weight *= torch.rand(66, 1) + 0.1
    x = torch.randint(-127, 128, (2, 5, 70)).float()
    x[..., 3] = -127
    x *= torch.rand(2, 5, 1)
    found = Int8Linear(linear.weight, linear.bias)(x)
    torch.testing.assert_close(found, linear(x), rtol=1e-5, atol=1e-2)


def test_int8_linear__of_zeros_is_the_bias():
    linear = nn.Linear(70, 66).requires_grad_(False)
    assert torch.equal(Int8Linear(linear.weight, linear.bias)(torch.zeros(2, 70)), linear.bias.expand(2, 66))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_int8_gru__is_a_gru(bias, batch_first):
    gru = nn.GRU(3, 128, bias=bias, batch_first=batch_first).requires_grad_(False)
    x, start = torch.randn(6, 4, 3), torch.randn(1, 6 if batch_first else 4, 128)
    for found, expected in zip(Int8GRU(gru)(x, start), gru(x, start), strict=True):
        assert found.shape == expected.shape
        assert 0 < (found - expected).abs().max() < 0.03


def test_int8__refuses_to_be_differentiated_instead_of_being_wrong():
    quick, actions = int8(jepa().requires_grad_(False)), torch.randn(3, 7, 5, 2, requires_grad=True)
    with pytest.raises(ValueError, match="a model in 8 bits has no gradients: give a planner that needs them"):
        imagine(quick, torch.randn(3, 96), actions)


def test_int8__refuses_a_model_that_is_not_on_a_cpu():
    with pytest.raises(ValueError, match=r"this one is on \['meta'\]: choose precision=bf16 or fp32, or device=cpu"):
        int8(jepa().to("meta"))
