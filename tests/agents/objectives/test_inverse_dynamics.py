from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.inverse_dynamics import InverseDynamics


def reference(model: InverseDynamics, current: torch.Tensor, latents: torch.Tensor, actions: torch.Tensor) -> float:
    """One pair at a time, with the weights in plain numpy."""
    weights = [parameter.detach().numpy() for parameter in model.parameters()]
    errors = []
    for b in range(len(latents)):
        for t in range(actions.shape[1]):
            x = np.concatenate([current[b, t].numpy(), latents[b, t + 1].numpy()])
            for layer in range(0, len(weights), 2):
                if layer:
                    x = np.maximum(x, 0)
                x = weights[layer] @ x + weights[layer + 1]
            errors.append((x - actions[b, t].numpy()) ** 2)
    return float(np.mean(errors))


@pytest.mark.parametrize("hidden_dim", [0, 7])
@pytest.mark.parametrize("current", ["predicted", "encoded"])
def test_inverse_dynamics__tells_each_action_from_the_latents_around_it(current, hidden_dim, make_views):
    views, model = make_views(), InverseDynamics(6, 2, current, hidden_dim).double()
    terms = model(views)
    assert terms.keys() == {"inverse_dynamics"}
    first = views.predictions if current == "predicted" else views.latents
    expected = reference(model, first, views.latents, views.actions)
    assert terms["inverse_dynamics"].item() == pytest.approx(expected)


def test_inverse_dynamics__is_linear_unless_it_has_a_hidden_layer():
    assert [tuple(p.shape) for p in InverseDynamics(6, 2).parameters()] == [(2, 12), (2,)]
    shapes = [tuple(p.shape) for p in InverseDynamics(6, 2, hidden_dim=7).parameters()]
    assert shapes == [(7, 12), (7,), (2, 7), (2,)]


def test_inverse_dynamics__constant_latents_can_only_guess_the_mean(make_views):
    constant = torch.ones(64, 5, 3)
    views = make_views(latents=constant, predictions=constant)
    model = InverseDynamics(3, 2)
    torch.nn.init.zeros_(model.action.weight)
    model.action.bias.data = views.actions.mean(dim=(0, 1))  # the best there is
    variance = views.actions.var(dim=(0, 1), correction=0).mean().item()
    assert model(views)["inverse_dynamics"].item() == pytest.approx(variance)
    model(views)["inverse_dynamics"].backward()
    torch.testing.assert_close(model.action.bias.grad, torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.action.weight.grad, torch.zeros(2, 6), atol=1e-6, rtol=0)


def test_inverse_dynamics__is_solved_by_latents_that_move_with_the_action(make_views):
    actions = torch.randn(8, 4, 2)
    latents = torch.cat([torch.zeros(8, 1, 2), actions.cumsum(dim=1)], dim=1)
    model = InverseDynamics(2, 2)
    model.action.weight.data = torch.cat([-torch.eye(2), torch.eye(2)], dim=1)
    torch.nn.init.zeros_(model.action.bias)
    views = make_views(latents=latents, predictions=latents, actions=actions)
    assert model(views)["inverse_dynamics"].item() == pytest.approx(0, abs=1e-12)


def test_inverse_dynamics__refuses_an_unknown_current():
    with pytest.raises(ValueError, match="'predicted' or 'encoded', got 'both'"):
        InverseDynamics(6, 2, current="both")


@pytest.mark.parametrize("hidden_dim", [0, 7])
@pytest.mark.parametrize("current", ["predicted", "encoded"])
def test_inverse_dynamics__tells_the_first_action_from_latents_up_to_a_horizon_apart(current, hidden_dim, make_views):
    views, model = make_views(), InverseDynamics(6, 2, current, hidden_dim, horizon=3).double()
    first = views.predictions if current == "predicted" else views.latents
    by_gap = []
    for k in (1, 2, 3):
        errors = [
            (model.action(torch.cat([first[b, t], views.latents[b, t + k]]))[2 * k - 2 : 2 * k] - views.actions[b, t])
            for b in range(5)
            for t in range(4 - k)
        ]
        by_gap.append(torch.stack(errors).square().mean().item())
    assert model(views)["inverse_dynamics"].item() == pytest.approx(np.mean(by_gap))


@pytest.mark.parametrize("hidden_dim", [0, 7])
def test_inverse_dynamics__of_horizon_1_is_the_plain_one_to_the_bit(hidden_dim, make_views):
    views, model = make_views(latents=torch.randn(5, 4, 6)), InverseDynamics(6, 2, hidden_dim=hidden_dim)
    pairs = torch.cat([views.predictions[:, :-1], views.latents[:, 1:]], dim=-1)
    plain = (model.action(pairs) - views.actions).square().mean()
    ours = model(views)["inverse_dynamics"]
    assert torch.equal(ours, plain)
    for one, other in zip(
        *(torch.autograd.grad(loss, list(model.parameters())) for loss in (ours, plain)), strict=True
    ):
        assert torch.equal(one, other)


def test_inverse_dynamics__of_several_steps_is_solved_as_well_as_it_can_be(make_views):
    """With positions that add up independent actions, the best guess of the first of k is the k-th part of the way."""
    actions = torch.randn(2000, 4, 2, dtype=torch.double)
    latents = torch.cat([torch.zeros(2000, 1, 2).double(), actions.cumsum(dim=1)], dim=1)
    model = InverseDynamics(2, 2, horizon=4).double()
    way = torch.cat([-torch.eye(2), torch.eye(2)], dim=1)
    model.action.weight.data = torch.cat([way / k for k in (1, 2, 3, 4)]).double()
    torch.nn.init.zeros_(model.action.bias)
    views = make_views(latents=latents, predictions=latents, actions=actions)
    best = np.mean([1 - 1 / k for k in (1, 2, 3, 4)])  # the other k − 1 actions are noise
    assert model(views)["inverse_dynamics"].item() == pytest.approx(best, abs=0.03)


def test_inverse_dynamics__has_an_output_for_each_number_of_steps():
    assert [tuple(p.shape) for p in InverseDynamics(6, 2, horizon=4).parameters()] == [(8, 12), (8,)]


@pytest.mark.parametrize("horizon", [4, 9])
def test_inverse_dynamics__refuses_sequences_shorter_than_its_horizon(horizon, make_views):
    with pytest.raises(ValueError, match=f"horizon={horizon} needs longer sequences, got 4 steps"):
        InverseDynamics(6, 2, horizon=horizon).double()(make_views())


def test_inverse_dynamics__refuses_a_horizon_below_1():
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        InverseDynamics(6, 2, horizon=0)
