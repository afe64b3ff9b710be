from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.objectives.temporal import (
    TemporalSimilarity,
    TemporalVariance,
    temporal_similarity_loss,
    temporal_variance_loss,
)


@pytest.mark.parametrize(("gamma", "epsilon"), [(1.0, 1e-4), (0.6, 0.1)])
def test_temporal_variance__is_that_of_numpy(gamma, epsilon, make_views):
    views = make_views()
    hinges = [
        max(0.0, gamma - math.sqrt(np.var(views.latents[b, :, j].numpy(), ddof=1) + epsilon))
        for b in range(5)
        for j in range(6)
    ]
    assert 0 < sum(h > 0 for h in hinges) < 30  # either side of the hinge
    terms = TemporalVariance(gamma, epsilon)(views)
    assert terms.keys() == {"temporal_variance"}
    assert terms["temporal_variance"].item() == pytest.approx(np.mean(hinges))


def test_temporal_similarity__is_the_mean_squared_step(make_views):
    views = make_views()
    steps = [
        float((views.latents[b, t + 1, j] - views.latents[b, t, j]) ** 2)
        for b in range(5)
        for t in range(3)
        for j in range(6)
    ]
    terms = TemporalSimilarity()(views)
    assert terms.keys() == {"temporal_similarity"}
    assert terms["temporal_similarity"].item() == pytest.approx(np.mean(steps))


@pytest.mark.parametrize(("gamma", "epsilon"), [(1.0, 1e-4), (2.0, 0.25)])
def test_temporal_variance__constant_sequences_pay_the_whole_hinge(gamma, epsilon):
    copies = torch.randn(8, 1, 3).expand(8, 5, 3)  # whatever they are
    assert temporal_variance_loss(copies, gamma, epsilon).item() == pytest.approx(gamma - math.sqrt(epsilon))


def test_temporal_similarity__constant_sequences_pay_nothing():
    assert temporal_similarity_loss(torch.randn(8, 1, 3).expand(8, 5, 3)).item() == 0


def test_temporal_variance__latents_that_move_enough_pay_nothing_wherever_they_are():
    moving = torch.tensor([[-1.0], [1.0]]).repeat(3, 1).expand(4, 6, 1) + 100 * torch.randn(4, 1, 1)
    assert temporal_variance_loss(moving).item() == 0


def test_temporal_variance__asks_every_dimension_of_every_sequence():
    latents = torch.randn(4, 6, 5) * 10
    latents[2, :, 3] = 1.0
    assert temporal_variance_loss(latents).item() == pytest.approx(0.99 / 20)


def test_temporal_functions__pass_gradcheck():
    latents = torch.randn(3, 4, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(temporal_variance_loss, (0.5 * latents,))
    assert torch.autograd.gradcheck(temporal_similarity_loss, (latents,))
