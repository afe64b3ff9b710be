from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.supervised import Supervised

STATISTICS = {
    "location": {"mean": [10.0, -2.0], "std": [2.0, 0.5]},
    "board": {"mean": [0.0, 1.0, 2.0, 3.0], "std": [1.0, 2.0, 3.0, 4.0]},
}


def test_supervised__is_the_squared_error_of_a_linear_readout_of_every_prediction(make_views):
    views, model = make_views(), Supervised(6, "location", STATISTICS).double()
    weight, bias = model.readout.weight.detach().numpy(), model.readout.bias.detach().numpy()
    errors = []
    for b in range(5):
        for t in range(4):
            target = (views.factors["location"][b, t].numpy() - [10.0, -2.0]) / [2.0, 0.5]
            errors.append((weight @ views.predictions[b, t].numpy() + bias - target) ** 2)
    terms = model(views)
    assert terms.keys() == {"supervised"}
    assert terms["supervised"].item() == pytest.approx(np.mean(errors))


def test_supervised__constant_predictions_pay_at_least_the_variance(make_views):
    factor = torch.randn(400, 4, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([10.0, -2.0])
    constant = torch.ones(400, 4, 6)
    model = Supervised(6, "location", STATISTICS)
    torch.nn.init.zeros_(model.readout.weight)
    torch.nn.init.zeros_(model.readout.bias)
    views = make_views(latents=constant, predictions=constant, factors={"location": factor})
    assert model(views)["supervised"].item() == pytest.approx(1.0, abs=0.1)  # the factor is normalised


def test_supervised__tells_all_factors_of_a_kind(make_views):
    statistics = {"location.a": {"mean": [1.0], "std": [2.0]}, "locations": {"mean": [0.0], "std": [1.0]}}
    statistics["location.b"] = {"mean": [3.0, 4.0], "std": [1.0, 5.0]}
    model = Supervised(6, "location", statistics)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.tensor([0.5, 0.0, 0.0]))
    factors = {"location.a": torch.full((5, 4, 1), 4.0), "locations": torch.full((5, 4, 1), 99.0)}
    factors["location.b"] = torch.tensor([3.0, 14.0]).expand(5, 4, 2)
    views = make_views(latents=torch.ones(5, 4, 6), predictions=torch.ones(5, 4, 6), factors=factors)
    assert model(views)["supervised"].item() == pytest.approx(((0.5 - 1.5) ** 2 + 0 + 2.0**2) / 3)


def test_supervised__refuses_a_factor_that_the_data_lack():
    with pytest.raises(ValueError, match=r"no factor 'colour'; they have \['board', 'location'\]"):
        Supervised(6, "colour", STATISTICS)
