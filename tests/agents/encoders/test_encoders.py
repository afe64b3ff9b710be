"""What holds for all encoders."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from agents.encoders.menet5 import MeNet5
from agents.encoders.nested_patches import NestedPatches
from agents.encoders.space_to_depth import SpaceToDepth

SHAPES = [(1, 28, 28), (3, 28, 28), (3, 64, 64), (1, 32, 48), (2, 20, 8)]


ENCODERS = {"menet5": MeNet5, "space_to_depth": SpaceToDepth, "nested_patches": partial(NestedPatches, patch=4)}


@pytest.fixture(params=ENCODERS.values(), ids=ENCODERS)
def encoder_class(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_encoder__maps_frames_to_latents(encoder_class, shape):
    encoder = encoder_class(shape, latent_dim=11)
    assert encoder(torch.randn(3, *shape)).shape == (3, 11)


def test_encoder__has_512_dimensions_by_default(encoder_class):
    assert encoder_class((1, 28, 28)).eval()(torch.randn(1, 1, 28, 28)).shape == (1, 512)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 48)])
def test_encoder__every_parameter_gets_a_gradient(encoder_class, shape):
    encoder = encoder_class(shape, latent_dim=11)
    (encoder(torch.randn(6, *shape)) * torch.randn(6, 11)).sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 32, 16)])
def test_encoder__sees_every_pixel(encoder_class, shape):
    encoder = encoder_class(shape, latent_dim=64)
    frames = torch.randn(4, *shape, requires_grad=True)
    encoder.eval()(frames).square().sum().backward()
    assert (frames.grad.abs().sum(dim=0) > 0).all()


def test_encoder__treats_frames_one_by_one_in_evaluation(encoder_class):
    encoder = encoder_class((1, 28, 28), latent_dim=11)
    frames = torch.randn(5, 1, 28, 28)
    encoder(frames)  # moves the running statistics
    encoder.eval()
    one_by_one = torch.cat([encoder(frame[None]) for frame in frames])
    torch.testing.assert_close(encoder(frames), one_by_one, atol=1e-5, rtol=1e-5)
    assert (one_by_one.std(dim=0) > 0).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 48)])
def test_encoder__does_not_depend_on_the_layout_of_frames(encoder_class, shape):
    encoder = encoder_class(shape, latent_dim=11)
    last = torch.randn(4, *shape[1:], shape[0]).permute(0, 3, 1, 2)  # channels last in memory
    torch.testing.assert_close(encoder(last), encoder(last.contiguous()), atol=1e-5, rtol=1e-5)


def test_encoder__refuses_frames_of_another_shape(encoder_class):
    made = encoder_class((3, 28, 28), 16)
    for shape in ((3, 32, 32), (3, 24, 28), (6, 28, 28)):
        with pytest.raises(ValueError, match=r"expected frames of shape \(3, 28, 28\)"):
            made(torch.zeros(2, *shape))
