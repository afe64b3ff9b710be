from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from agents.objectives.likelihood import Likelihood


@pytest.fixture
def drawn(make_views):
    draw = nn.Sequential(nn.Linear(6, 16), nn.Unflatten(-1, (1, 4, 4))).double()
    views = make_views(decode=draw)
    views.latents.requires_grad_()
    return views


def test_likelihood__is_that_of_a_normal_distribution_without_its_constant(drawn):
    images = drawn.decode(drawn.latents)
    expected = -Independent(Normal(images, 1.0), 3).log_prob(drawn.frames).mean() - 8 * math.log(2 * math.pi)
    torch.testing.assert_close(Likelihood()(drawn), {"reconstruction": expected})


def test_likelihood__trains_latents_and_the_decoder_and_not_predictions(drawn):
    predictions = drawn.predictions.detach().requires_grad_()
    views = dataclasses.replace(drawn, predictions=predictions)
    Likelihood()(views)["reconstruction"].backward()
    assert predictions.grad is None
    assert views.latents.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in views.decode.parameters())


def test_likelihood__latents_that_tell_nothing_pay_for_all_that_there_is_to_see(drawn):
    same = dataclasses.replace(drawn, decode=lambda latents: torch.zeros_like(drawn.frames))
    expected = 0.5 * 16 * drawn.frames.square().mean()
    torch.testing.assert_close(Likelihood()(same)["reconstruction"], expected)
    perfect = dataclasses.replace(drawn, decode=lambda latents: drawn.frames)
    assert Likelihood()(perfect)["reconstruction"] == 0


def test_likelihood__needs_a_decoder(make_views):
    with pytest.raises(ValueError, match=r"needs a model with a decoder, e\.g\. model=rssm"):
        Likelihood()(make_views())
