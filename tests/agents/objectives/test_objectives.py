"""What holds for all objectives, and how their terms become one loss."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from agents.objectives.action_contrast import ActionContrast
from agents.objectives.core import weighted_sum
from agents.objectives.infonce import InfoNCE
from agents.objectives.invariance import Invariance
from agents.objectives.inverse_dynamics import InverseDynamics
from agents.objectives.part import Part
from agents.objectives.reconstruction import Reconstruction
from agents.objectives.residual import Residual
from agents.objectives.self_prediction import SelfPrediction
from agents.objectives.sigreg import SIGReg
from agents.objectives.simclr import SimCLR
from agents.objectives.supervised import Supervised
from agents.objectives.temporal import TemporalSimilarity, TemporalVariance
from agents.objectives.vicreg import VICReg

LATENTS, PREDICTIONS = {"latents"}, {"predictions"}
STATISTICS = {"location": {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}
OBJECTIVES = {  # and which views each term sends gradients to
    "vicreg": (VICReg, {"invariance": LATENTS | PREDICTIONS, "variance": LATENTS, "covariance": LATENTS}),
    "vicreg_pldm": (
        lambda: VICReg(steps="first", per_pair=True),
        {"invariance": LATENTS | PREDICTIONS, "variance": LATENTS, "covariance": LATENTS},
    ),
    "infonce_batch": (lambda: InfoNCE(negatives="batch"), {"infonce": LATENTS | PREDICTIONS}),
    "infonce_time": (lambda: InfoNCE(negatives="time"), {"infonce": LATENTS | PREDICTIONS}),
    "infonce_both": (lambda: InfoNCE(negatives="both"), {"infonce": LATENTS | PREDICTIONS}),
    "temporal_variance": (TemporalVariance, {"temporal_variance": LATENTS}),
    "temporal_similarity": (TemporalSimilarity, {"temporal_similarity": LATENTS}),
    "inverse_dynamics": (lambda: InverseDynamics(6, 2), {"inverse_dynamics": LATENTS | PREDICTIONS}),
    "inverse_dynamics_encoded": (
        lambda: InverseDynamics(6, 2, "encoded", hidden_dim=8),
        {"inverse_dynamics": LATENTS},
    ),
    "inverse_dynamics_multistep": (
        lambda: InverseDynamics(6, 2, horizon=3),
        {"inverse_dynamics": LATENTS | PREDICTIONS},
    ),
    "simclr": (SimCLR, {"simclr": LATENTS | PREDICTIONS}),
    "simclr_lengths": (lambda: SimCLR(normalise=False), {"simclr": LATENTS | PREDICTIONS}),
    "invariance": (Invariance, {"invariance": LATENTS | PREDICTIONS}),
    "sigreg_pooled": (lambda: SIGReg("pooled"), {"sigreg": LATENTS}),
    "sigreg_step": (lambda: SIGReg("step"), {"sigreg": LATENTS}),
    "action_contrast": (ActionContrast, {"action_contrast": LATENTS | PREDICTIONS}),
    "residual": (
        lambda: Residual(VICReg()),
        {
            "residual_invariance": LATENTS | PREDICTIONS,
            "residual_variance": LATENTS,
            "residual_covariance": LATENTS,
        },
    ),
    "part": (
        lambda: Part(VICReg(), 0.5, 1.0, "fast"),
        {"fast_invariance": LATENTS | PREDICTIONS, "fast_variance": LATENTS, "fast_covariance": LATENTS},
    ),
    "self_prediction": (SelfPrediction, {"self_prediction": PREDICTIONS}),
    "self_prediction_cosine": (lambda: SelfPrediction("cosine"), {"self_prediction": PREDICTIONS}),
    "reconstruction": (Reconstruction, {"reconstruction": PREDICTIONS}),
    "supervised": (lambda: Supervised(6, "location", STATISTICS), {"supervised": PREDICTIONS}),
}


@pytest.fixture
def free_views(make_views):
    """Views whose latents and predictions are free to be optimised."""
    move = nn.Linear(2, 6, bias=False).double().requires_grad_(False)
    draw = nn.Sequential(nn.Linear(6, 16), nn.Unflatten(-1, (1, 4, 4))).double().requires_grad_(False)
    views = make_views(
        latents=0.5 * torch.randn(5, 4, 6, dtype=torch.double),
        frames=draw(torch.randn(5, 4, 6, dtype=torch.double)),  # some latents draw them
        predict=lambda context, actions: context[:, -1:] + move(actions).cumsum(dim=1),
        decode=draw,
    )
    views.latents.requires_grad_()
    return dataclasses.replace(views, predictions=views.predictions.detach().requires_grad_())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective__returns_named_scalars(name, free_views):
    make, expected = OBJECTIVES[name]
    terms = make().double()(free_views)
    assert terms.keys() == expected.keys()
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize(("name", "term"), [(name, term) for name, (_, terms) in OBJECTIVES.items() for term in terms])
def test_objective__sends_gradients_where_it_should_and_nowhere_else(name, term, free_views):
    make, expected = OBJECTIVES[name]
    make().double()(free_views)[term].backward()
    reached = {
        view
        for view in ("latents", "predictions")
        if (grad := getattr(free_views, view).grad) is not None and grad.abs().sum() > 0
    }
    assert reached == expected[term]


@pytest.mark.parametrize(("name", "term"), [(name, term) for name, (_, terms) in OBJECTIVES.items() for term in terms])
def test_objective__falls_under_gradient_descent_on_free_latents(name, term, free_views):
    make, _ = OBJECTIVES[name]
    objective = make().double().requires_grad_(False)
    before = objective(free_views)[term].item()
    optimizer = torch.optim.Adam([free_views.latents, free_views.predictions], lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        objective(free_views)[term].backward()
        optimizer.step()
    assert 0 <= objective(free_views)[term].item() < before / 2


@pytest.mark.parametrize("name", ["inverse_dynamics", "inverse_dynamics_encoded", "supervised"])
def test_objective__trains_its_own_weights(name, free_views):
    objective = OBJECTIVES[name][0]().double()
    sum(objective(free_views).values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.parameters())


def test_views__are_frozen(make_views):
    views = make_views()
    with pytest.raises(dataclasses.FrozenInstanceError):
        views.latents = views.predictions


def test_weighted_sum__is_the_sum_of_weight_times_term():
    terms = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(-3.0, requires_grad=True)}
    total = weighted_sum(terms, {"b": 0.5, "a": 25.0})
    assert total.item() == 50 - 1.5
    total.backward()
    assert (terms["a"].grad, terms["b"].grad) == (25.0, 0.5)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 1.0, "B": 1.0}])
def test_weighted_sum__refuses_terms_and_weights_that_do_not_match(weights):
    terms = {"a": torch.tensor(1.0), "b": torch.tensor(1.0)}
    with pytest.raises(ValueError, match=r"has the terms \['a', 'b'\].*weights") as error:
        weighted_sum(terms, weights)
    assert str(sorted(weights)) in str(error.value)
