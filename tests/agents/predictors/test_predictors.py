"""What holds for all predictors."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from agents.predictors.gru import GRUPredictor
from agents.predictors.mlp import MLPPredictor
from agents.predictors.transformer import TransformerPredictor

KINDS = {
    "gru": GRUPredictor,
    "mlp": partial(MLPPredictor, hidden_dim=32),
    "transformer": partial(TransformerPredictor, depth=1, width=32),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def predictor(request):
    return request.param(latent_dim=6, action_dim=2).double()


@pytest.fixture
def context():
    return torch.randn(3, 4, 6, dtype=torch.double, requires_grad=True)


@pytest.fixture
def actions():
    return torch.randn(3, 5, 2, dtype=torch.double, requires_grad=True)


def test_predictor__uses_only_the_last_latent_of_the_context(predictor, context, actions):
    (gradient,) = torch.autograd.grad(predictor(context, actions).square().sum(), context)
    assert (gradient[:, :-1] == 0).all()
    assert (gradient[:, -1] != 0).all()
    torch.testing.assert_close(predictor(context[:, -1:], actions), predictor(context, actions), rtol=0, atol=0)


@pytest.mark.parametrize("k", range(5))
def test_predictor__a_prediction_depends_on_the_actions_before_it_and_on_no_later_one(k, predictor, context, actions):
    (gradient,) = torch.autograd.grad(predictor(context, actions)[:, k].square().sum(), actions)
    assert (gradient[:, : k + 1] != 0).all()
    assert (gradient[:, k + 1 :] == 0).all()


def test_predictor__a_row_depends_on_no_other(predictor, context, actions):
    whole = predictor(context, actions)
    assert whole.shape == (3, 5, 6)
    torch.testing.assert_close(predictor(context[1:2], actions[1:2]), whole[1:2])


def test_predictor__learns_to_add_up_actions(predictor):
    predictor.float()
    optimizer, into = torch.optim.Adam(predictor.parameters(), lr=1e-2), 0.3 * torch.randn(2, 6)
    for _ in range(600 if isinstance(predictor, GRUPredictor) else 200):
        context, actions = torch.randn(64, 1, 6).tanh(), 0.3 * torch.randn(64, 5, 2)
        expected = context + (actions @ into).cumsum(dim=1)
        loss = (predictor(context, actions) - expected).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    copying = (context - expected).square().mean()  # what is left to one that does not look at actions
    assert loss < copying / 2


@pytest.mark.parametrize("kind", [MLPPredictor, GRUPredictor])
def test_predictor_of_single_steps__goes_on_from_its_predictions(kind, context, actions):
    predictor = kind(latent_dim=6, action_dim=2).double()
    whole = predictor(context, actions)
    torch.testing.assert_close(predictor(context, actions[:, :3]), whole[:, :3])
    torch.testing.assert_close(predictor(whole[:, 2:3], actions[:, 3:]), whole[:, 3:])
