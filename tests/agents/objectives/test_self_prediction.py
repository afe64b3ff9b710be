from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.self_prediction import SelfPrediction, self_prediction_loss


@pytest.mark.parametrize("given", [True, False], ids=["targets", "latents"])
@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_self_prediction__is_that_of_numpy(distance, given, make_views):
    views = make_views(**({"targets": torch.randn(5, 4, 6, dtype=torch.double)} if given else {}))
    found = SelfPrediction(distance)(views)["self_prediction"].item()
    targets = (views.targets if given else views.latents).numpy()
    pairs = [(views.predictions[b, t].numpy(), targets[b, t]) for b in range(5) for t in range(1, 4)]
    if distance == "mse":
        expected = np.mean([(x - y) ** 2 for x, y in pairs])
    else:
        expected = np.mean([2 - 2 * (x @ y) / np.linalg.norm(x) / np.linalg.norm(y) for x, y in pairs])
    assert found == pytest.approx(expected)


def test_self_prediction__sends_no_gradient_to_targets(make_views):
    targets = torch.randn(5, 4, 6, dtype=torch.double, requires_grad=True)
    predictions = torch.randn(5, 4, 6, dtype=torch.double, requires_grad=True)
    SelfPrediction()(make_views(targets=targets, predictions=predictions))["self_prediction"].backward()
    assert targets.grad is None and predictions.grad.abs().sum() > 0


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_self_prediction__latents_that_are_all_the_same_pay_nothing(distance):
    assert self_prediction_loss(torch.ones(3, 4, 5), torch.ones(3, 4, 5), distance).item() == pytest.approx(0, abs=1e-6)


def test_self_prediction__of_directions_does_not_depend_on_lengths():
    x, y = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(self_prediction_loss(7 * x, 0.2 * y, "cosine"), self_prediction_loss(x, y, "cosine"))


def test_self_prediction__passes_gradcheck():
    x, y = torch.randn(2, 3, 4, 2, dtype=torch.double).unbind()
    for distance in ("cosine", "mse"):
        assert torch.autograd.gradcheck(lambda p, d=distance: self_prediction_loss(p, y, d), (x.requires_grad_(),))


def test_self_prediction__refuses_another_distance():
    with pytest.raises(ValueError, match="distance must be 'mse' or 'cosine', got 'manhattan'"):
        SelfPrediction("manhattan")


def test_views_changed__change_targets_too(make_views):
    views = make_views(targets=torch.randn(5, 4, 6))
    assert torch.equal(views.changed(lambda x: 2 * x).targets, 2 * views.targets)
    assert make_views().changed(lambda x: 2 * x).targets is None
