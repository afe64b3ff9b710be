from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.encoders.nested_patches import NestedPatches, nested_patches


def test_nested_patches__is_as_documented_layer_by_layer():
    encoder = NestedPatches((3, 64, 64), latent_dim=100, width=32, patch=8, cell_dim=5)
    assert [type(layer) for layer in encoder.cell] == [nn.Linear, nn.Hardtanh] * 2
    assert [(x.in_features, x.out_features) for x in encoder.cell[::2]] == [(12, 5), (5, 5)]
    assert encoder.body[0].in_channels == 5 * 4 * 4
    assert (encoder.head.in_features, encoder.head.out_features) == (32 * 4 * 4, 100)  # 64 px, 8 patches, 4 cells


def test_cells__lie_in_their_patches_row_by_row():
    frames = torch.arange(2 * 3 * 16 * 8).reshape(2, 3, 16, 8)
    found = nested_patches(frames, 8)
    assert found.shape == (2, 2, 1, 16, 12)
    for row in range(2):
        for cell in range(16):
            top, left = row * 8 + cell // 4 * 2, cell % 4 * 2
            pixels = frames[:, :, top : top + 2, left : left + 2].permute(0, 2, 3, 1).flatten(1)
            assert torch.equal(found[:, row, 0, cell], pixels)


def test_cells__of_colours_never_seen_lead_no_further_than_others():
    encoder = NestedPatches((3, 16, 16), 7).eval()
    beyond = [encoder(scale * torch.ones(1, 3, 16, 16)) for scale in (1e3, 1e6)]
    torch.testing.assert_close(*beyond)


@pytest.mark.parametrize(("shape", "patch"), [((1, 28, 28), 8), ((1, 30, 30), 5), ((1, 28, 28), 1), ((1, 8, 8), 0)])
def test_nested_patches__refuses_frames_that_cannot_be_cut(shape, patch):
    with pytest.raises(ValueError, match=f"frames of {shape[1]}×{shape[2]} px cannot be cut into patches of {patch}×"):
        NestedPatches(shape, patch=patch)
