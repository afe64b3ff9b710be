from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.encoders.differences import Differences
from agents.encoders.space_to_depth import SpaceToDepth


def test_differences__gives_the_encoder_the_newest_frame_minus_the_older_one():
    older, newest = torch.randn(2, 5, 3, 8, 8)
    seen = Differences(nn.Identity(), (3, 8, 8))(torch.cat([older, newest], dim=1))
    torch.testing.assert_close(seen, newest - older, atol=0, rtol=0)


def test_differences__gives_the_newest_frame_as_well_if_asked():
    older, newest = torch.randn(2, 5, 3, 8, 8)
    seen = Differences(nn.Identity(), (3, 8, 8), keep_newest=True)(torch.cat([older, newest], dim=1))
    torch.testing.assert_close(seen, torch.cat([newest - older, newest], dim=1), atol=0, rtol=0)


def test_differences__do_not_see_what_is_added_to_both_frames():
    encoder = Differences(SpaceToDepth((1, 8, 8), 5, width=8), (1, 8, 8)).eval()
    frames = torch.randint(0, 100, (4, 2, 8, 8)).float()
    static = torch.randint(0, 100, (4, 1, 8, 8)).float()
    torch.testing.assert_close(encoder(frames + static), encoder(frames), atol=0, rtol=0)
    moving = torch.cat([static, static.roll(1, dims=-1)], dim=1)
    assert not torch.allclose(encoder(frames + moving), encoder(frames), atol=0.01)


def test_differences__trains_the_encoder_inside():
    encoder = Differences(SpaceToDepth((2, 8, 8), 5, width=8), (1, 8, 8), keep_newest=True)
    encoder(torch.randn(6, 2, 8, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize("frames", [1, 3])
def test_differences__says_how_many_frames_it_needs(frames):
    with pytest.raises(ValueError, match=f"set model.frames=2, got {frames}"):
        Differences(nn.Identity(), (1, 8, 8), frames)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (2, 8, 9)])
def test_differences__refuses_frames_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"expected frames of shape \(2, 8, 8\)"):
        Differences(nn.Identity(), (1, 8, 8))(torch.zeros(4, *shape))
