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
