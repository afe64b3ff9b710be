from __future__ import annotations

import pytest
import torch

from agents.decoders.depth_to_space import DepthToSpace
from agents.encoders.space_to_depth import SpaceToDepth


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (3, 64, 64), (1, 32, 48)])
def test_depth_to_space__mirrors_space_to_depth(shape):
    frames = torch.randn(3, *shape)
    latents = SpaceToDepth(shape, latent_dim=11)(frames)
    assert DepthToSpace(shape, latent_dim=11)(latents).shape == frames.shape


def test_depth_to_space__takes_patches_of_any_size():
    decoder = DepthToSpace((2, 28, 14), latent_dim=5, width=3, patch=7)
    assert decoder(torch.randn(4, 5)).shape == (4, 2, 28, 14)


def test_depth_to_space__has_512_dimensions_by_default():
    assert DepthToSpace((1, 8, 8))(torch.randn(1, 512)).shape == (1, 1, 8, 8)


def test_depth_to_space__every_cell_draws_the_patches_around_it():
    decoder = DepthToSpace((1, 16, 24), latent_dim=5, width=3)
    draw = decoder.body[2:]  # from the grid, 4×6 cells of 3 channels
    grid = torch.zeros(1, 3, 4, 6, requires_grad=True)
    drawn = draw(grid.flatten(1))
    (gradient,) = torch.autograd.grad(drawn[0, 0, 5, 13], grid)  # a pixel of row 1, column 3 of the patches
    rows, columns = gradient[0].abs().sum(dim=0).nonzero(as_tuple=True)
    assert (set(rows.tolist()), set(columns.tolist())) == ({0, 1, 2}, {2, 3, 4})


def test_depth_to_space__every_parameter_gets_a_gradient():
    decoder = DepthToSpace((2, 16, 8), latent_dim=5, width=3)
    (decoder(torch.randn(4, 5)) * torch.randn(4, 2, 16, 8)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())


@pytest.mark.parametrize("shape", [(1, 30, 28), (1, 28, 30)])
def test_depth_to_space__refuses_frames_that_cannot_be_cut_into_patches(shape):
    with pytest.raises(ValueError, match=f"frames of {shape[1]}×{shape[2]} px cannot be cut into patches of 4×4"):
        DepthToSpace(shape)


@pytest.mark.parametrize("patch", [0, -4])
def test_depth_to_space__refuses_patches_of_no_size(patch):
    with pytest.raises(ValueError, match=f"cannot be cut into patches of {patch}×{patch}"):
        DepthToSpace((1, 28, 28), patch=patch)
