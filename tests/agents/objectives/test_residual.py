from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from agents.objectives.inverse_dynamics import InverseDynamics
from agents.objectives.residual import Residual
from agents.objectives.sigreg import SIGReg
from agents.objectives.vicreg import VICReg


class Seen(nn.Module):
    """Keeps the views that it is given."""

    def forward(self, views):
        self.views = views
        return {"seen": views.latents.sum(), "other": views.predictions.sum()}


def test_residual__gives_the_objective_what_is_left_without_the_mean_of_the_latents(make_views):
    views, objective = make_views(), Seen()
    terms = Residual(objective)(views)
    assert terms.keys() == {"residual_seen", "residual_other"}
    mean = views.latents.numpy().mean(axis=1)
    for t in range(4):
        np.testing.assert_allclose(objective.views.latents[:, t], views.latents[:, t].numpy() - mean)
        np.testing.assert_allclose(objective.views.predictions[:, t], views.predictions[:, t].numpy() - mean)
    assert terms["residual_seen"].item() == pytest.approx(0, abs=1e-12)
    assert objective.views.actions is views.actions and objective.views.factors is views.factors


def test_residual__leaves_no_decoder(make_views):
    objective = Seen()
    Residual(objective)(make_views(decode=lambda latents: latents))
    assert objective.views.decode is None and objective.views.imagine is None


def test_residual__leaves_invariance_as_it_is_and_does_not_forgive_a_constant_error(make_views):
    views = make_views()
    plain, residual = VICReg()(views), Residual(VICReg())(views)
    assert residual["residual_invariance"].item() == pytest.approx(plain["invariance"].item())
    off = make_views(latents=views.latents, predictions=views.latents + 2)
    assert Residual(VICReg())(off)["residual_invariance"].item() == pytest.approx(4)


def test_residual_vicreg__copies_of_what_stays_the_same_pay_the_whole_hinge(make_views):
    copies = 5 * torch.randn(64, 1, 6, dtype=torch.double).expand(64, 5, 6)
    views = make_views(latents=copies, predictions=copies)
    assert VICReg()(views)["variance"].item() == 0
    assert Residual(VICReg())(views)["residual_variance"].item() == pytest.approx(0.99)


def test_residual_sigreg__copies_of_what_stays_the_same_count_as_collapsed(make_views):
    copies = torch.randn(64, 1, 6, dtype=torch.double).expand(64, 5, 6)
    residual = Residual(SIGReg())(make_views(latents=copies))["residual_sigreg"]
    collapsed = SIGReg()(make_views(latents=torch.zeros(64, 5, 6, dtype=torch.double)))["sigreg"]
    assert residual.item() == pytest.approx(collapsed.item())
    assert SIGReg()(make_views(latents=copies))["sigreg"] < residual / 3


def test_residual__ignores_what_is_added_to_all_of_a_sequence(make_views):
    views = make_views()
    moved = 7 * torch.randn(5, 1, 6, dtype=torch.double)
    shifted = make_views(latents=views.latents + moved, predictions=views.predictions + moved)
    ours, expected = Residual(VICReg())(shifted), Residual(VICReg())(views)
    assert {name: term.item() for name, term in ours.items()} == pytest.approx(
        {name: term.item() for name, term in expected.items()}
    )


def test_residual__trains_the_weights_of_its_objective(make_views):
    residual = Residual(InverseDynamics(6, 2)).double()
    residual(make_views())["residual_inverse_dynamics"].backward()
    assert len(list(residual.parameters())) == 2
    assert all(parameter.grad.abs().sum() > 0 for parameter in residual.parameters())


def test_residual__sends_gradients_through_the_mean(make_views):
    latents = torch.randn(3, 4, 2, dtype=torch.double, requires_grad=True)
    views = make_views(latents=latents, predictions=latents.detach())
    (gradient,) = torch.autograd.grad(Residual(VICReg())(views)["residual_variance"], latents)
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(3, 2, dtype=torch.double), atol=1e-12, rtol=0)
    assert gradient.abs().sum() > 0


def test_residual__of_what_is_imagined_loses_the_same_mean(make_views):
    objective = Seen()
    views = make_views(predict=lambda start, actions: start.expand(-1, 3, -1) + actions.sum(-1, keepdim=True))
    Residual(objective)(views)
    mean = views.latents.mean(dim=1, keepdim=True)
    torch.testing.assert_close(objective.views.counterfactuals(2), views.counterfactuals(2) - mean)
