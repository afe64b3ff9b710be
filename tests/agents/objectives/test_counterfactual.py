from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.counterfactual import Counterfactual, counterfactual_statistics
from agents.objectives.part import Part
from agents.predictors.gru import GRUPredictor


def adds_up(context: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """A predictor whose first two dimensions add up actions, and whose others stay."""
    still = context[:, -1:].expand(-1, actions.shape[1], -1)
    return torch.cat([still[..., :2] + actions.cumsum(dim=1), still[..., 2:]], dim=-1)


def drifts(context: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """A predictor that moves on by itself, whatever the actions are."""
    return context[:, -1:] + torch.arange(1.0, actions.shape[1] + 1, dtype=context.dtype)[:, None]


@pytest.mark.parametrize("others", [1, 3])
def test_counterfactual__is_variance_and_covariance_across_actions(others, make_views):
    gru = GRUPredictor(6, 2).double()
    views = make_views(predict=gru)
    with torch.no_grad():
        starts = views.latents[:, :1]
        ways = np.stack([gru(starts, views.actions.roll(-n, dims=0)).numpy() for n in range(others + 1)])
    count, dim = len(ways), 6
    moment = np.zeros((dim, dim))
    for b in range(5):
        for t in range(3):
            moment += np.cov(ways[:, b, t].T) / 15  # over ways to act, with N − 1 in the denominator
    variance = np.mean(np.maximum(0, 2 - np.sqrt(np.diag(moment) + 1e-4)))
    scale = (count * 15) / (count * 15 - 1)  # covariance_loss divides by one less than the size of the sample
    covariance = (np.sum(moment**2) - np.sum(np.diag(moment) ** 2)) / dim * scale**2
    terms = Counterfactual(others, gamma=2.0)(views)
    assert terms["counterfactual_variance"].item() == pytest.approx(variance)
    assert terms["counterfactual_covariance"].item() == pytest.approx(covariance)


@pytest.mark.parametrize("predict", [lambda z, a: z[:, -1:].expand(-1, a.shape[1], -1), drifts])
def test_counterfactual__latents_that_no_action_moves_pay_the_whole_hinge(predict, make_views):
    views = make_views(latents=10 * torch.randn(5, 4, 6, dtype=torch.double), predict=predict)
    terms = Counterfactual(2)(views)
    assert terms["counterfactual_variance"].item() == pytest.approx(1 - 1e-2)
    assert terms["counterfactual_covariance"].item() == pytest.approx(0)


def test_counterfactual__wants_no_more_of_dimensions_that_actions_move_apart(make_views):
    actions = 3 * torch.randn(400, 3, 2, dtype=torch.double)
    views = make_views(latents=torch.randn(400, 4, 2, dtype=torch.double), actions=actions, predict=adds_up)
    terms = Counterfactual()(views)
    assert terms["counterfactual_variance"].item() == 0
    assert terms["counterfactual_covariance"].item() < 1
    twice = counterfactual_statistics(views.counterfactuals(2)[..., [0, 0]])[1]  # a dimension and its copy
    assert twice.item() > 10


def test_counterfactual__trains_the_predictor_and_the_first_latent_alone(make_views):
    gru = GRUPredictor(6, 2).double()
    latents = torch.randn(5, 4, 6, dtype=torch.double, requires_grad=True)
    sum(Counterfactual(2)(make_views(latents=latents, predict=gru)).values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in gru.parameters())
    assert latents.grad[:, 0].abs().sum() > 0 and not latents.grad[:, 1:].any()


def test_counterfactual_statistics__pass_gradcheck():
    outcomes = torch.randn(3, 2, 4, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: counterfactual_statistics(x, gamma=5.0), outcomes)


def test_counterfactual__can_be_part_of_a_latent(make_views):
    views = make_views(predict=adds_up)
    moved = Part(Counterfactual(), 0, 1 / 3, "fast")(views)
    still = Part(Counterfactual(), 1 / 3, 1, "slow")(views)
    assert moved["fast_counterfactual_variance"].item() < 0.5
    assert still["slow_counterfactual_variance"].item() == pytest.approx(1 - 1e-2)


def test_counterfactual__refuses_what_it_cannot_ask(make_views):
    with pytest.raises(ValueError, match="others must be at least 1, got 0"):
        Counterfactual(0)
    with pytest.raises(ValueError, match="no predictor to ask"):
        Counterfactual()(make_views())
    with pytest.raises(ValueError, match=r"5 other sequences are asked for in a batch of 5"):
        Counterfactual(5)(make_views(predict=adds_up))
