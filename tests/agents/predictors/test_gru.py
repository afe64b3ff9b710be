from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.predictors.gru import GRUPredictor


@pytest.fixture
def predictor():
    return GRUPredictor(latent_dim=6, action_dim=2).double()


@pytest.fixture
def context():
    return torch.randn(3, 4, 6, dtype=torch.double, requires_grad=True)


@pytest.fixture
def actions():
    return torch.randn(3, 5, 2, dtype=torch.double, requires_grad=True)


def test_gru_predictor__is_a_gru_cell_from_the_last_latent_on(predictor, context, actions):
    cell = nn.GRUCell(2, 6).double()
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in predictor.gru.state_dict().items()})
    hidden, expected = context[:, -1], []
    for t in range(5):
        hidden = cell(actions[:, t], hidden)
        expected.append(hidden)
    torch.testing.assert_close(predictor(context, actions), torch.stack(expected, dim=1))


def test_gru_predictor__uses_only_the_last_latent_of_the_context(predictor, context, actions):
    (gradient,) = torch.autograd.grad(predictor(context, actions).square().sum(), context)
    assert (gradient[:, :-1] == 0).all()
    assert (gradient[:, -1] != 0).all()
    torch.testing.assert_close(predictor(context[:, -1:], actions), predictor(context, actions), rtol=0, atol=0)


@pytest.mark.parametrize("k", range(5))
def test_gru_predictor__a_prediction_depends_on_the_actions_before_it_and_on_no_later_one(
    k, predictor, context, actions
):
    (gradient,) = torch.autograd.grad(predictor(context, actions)[:, k].square().sum(), actions)
    assert (gradient[:, : k + 1] != 0).all()
    assert (gradient[:, k + 1 :] == 0).all()


def test_gru_predictor__is_open_loop(predictor, context, actions):
    whole = predictor(context, actions)
    torch.testing.assert_close(predictor(context, actions[:, :3]), whole[:, :3])
    torch.testing.assert_close(predictor(whole[:, 2:3], actions[:, 3:]), whole[:, 3:])  # h_k is all there is to know
