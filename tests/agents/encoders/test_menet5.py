from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.encoders.menet5 import MeNet5


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_menet5__is_the_paper_s_layer_by_layer(width, channels):
    """Conv(1→16w, 5, s2, p2)–ReLU–BN; Conv(→32w, 5, s2, p2)–ReLU–BN; Conv(→32w, 3, s1, p1)–ReLU–BN; AvgPool; Linear."""
    layers = list(MeNet5((channels, 28, 28), latent_dim=512, width=width))
    kinds = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d] * 3 + [nn.AvgPool2d, nn.Flatten, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    convolutions = [
        (c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, c.dilation, c.groups, c.bias is not None)
        for c in layers[:9:3]
    ]
    assert convolutions == [
        (channels, 16 * width, (5, 5), (2, 2), (2, 2), (1, 1), 1, True),
        (16 * width, 32 * width, (5, 5), (2, 2), (2, 2), (1, 1), 1, True),
        (32 * width, 32 * width, (3, 3), (1, 1), (1, 1), (1, 1), 1, True),
    ]
    assert [norm.num_features for norm in layers[2:9:3]] == [16 * width, 32 * width, 32 * width]
    assert layers[9].kernel_size == 2
    assert (layers[11].in_features, layers[11].out_features) == (9 * 32 * width, 512)


def test_menet5__is_of_width_2_by_default():
    assert next(iter(MeNet5((1, 28, 28)))).out_channels == 32


@pytest.mark.parametrize("shape", [(1, 29, 30), (2, 8, 13), (1, 31, 27)])
def test_menet5__takes_frames_of_any_size(shape):
    assert MeNet5(shape, latent_dim=5, width=1)(torch.randn(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 28, 7), (3, 4, 4)])
def test_menet5__refuses_frames_that_are_too_small(shape):
    with pytest.raises(ValueError, match=f"at least 8×8 px, got {shape[1]}×{shape[2]}"):
        MeNet5(shape)
