from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.encoders.space_to_depth import SpaceToDepth, space_to_depth


def test_space_to_depth__is_as_documented_layer_by_layer():
    encoder = SpaceToDepth((3, 28, 28), latent_dim=100, width=64)
    assert [type(layer) for layer in encoder.body] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
    convolutions = [(c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in encoder.body[::3]]
    assert convolutions == [(48, 32, (3, 3), (1, 1)), (32, 64, (3, 3), (2, 2)), (64, 64, (3, 3), (1, 1))]
    assert all(c.bias is None for c in encoder.body[::3])  # batch norm has one
    assert (encoder.head.in_features, encoder.head.out_features) == (64 * 4 * 4, 100)  # 28 px, 7 patches, 4 cells


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "patch"), [((2, 3, 8, 12), 4), ((5, 1, 28, 28), 4), ((1, 4, 6, 6), 3), ((2, 3, 6, 6), 1)]
)
def test_patches__become_channels_as_in_torch_with_channels_last(shape, patch, layout):
    frames = torch.randn(shape).contiguous(memory_format=layout)
    found = space_to_depth(frames, patch)
    assert torch.equal(found, torch.nn.functional.pixel_unshuffle(frames, patch))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("patch", [2, 7, 14])
def test_space_to_depth__takes_patches_of_any_size(patch):
    encoder = SpaceToDepth((1, 28, 28), latent_dim=5, width=8, patch=patch)
    assert encoder(torch.randn(2, 1, 28, 28)).shape == (2, 5)


@pytest.mark.parametrize("shape", [(1, 30, 28), (1, 28, 30)])
def test_space_to_depth__refuses_frames_that_cannot_be_cut_into_patches(shape):
    with pytest.raises(ValueError, match=f"frames of {shape[1]}×{shape[2]} px cannot be cut into patches of 4×4"):
        SpaceToDepth(shape)


@pytest.mark.parametrize("patch", [0, -4])
def test_space_to_depth__refuses_patches_of_no_size(patch):
    with pytest.raises(ValueError, match=f"cannot be cut into patches of {patch}×{patch}"):
        SpaceToDepth((1, 28, 28), patch=patch)
