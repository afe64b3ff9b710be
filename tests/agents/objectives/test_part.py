from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from agents.objectives.inverse_dynamics import InverseDynamics
from agents.objectives.part import Part
from agents.objectives.residual import Residual
from agents.objectives.vicreg import VICReg


class Seen(nn.Module):
    """Keeps the views that it is given."""

    def forward(self, views):
        self.views = views
        return {"seen": views.latents.sum()}


@pytest.mark.parametrize(
    ("first", "last", "dims"),
    [(0, 0.5, [0, 1, 2]), (0.5, 1, [3, 4, 5]), (0, 1, range(6)), (1 / 3, 2 / 3, [2, 3]), (0.75, 1.0, [4, 5])],
)
def test_part__gives_the_objective_its_dimensions_only(first, last, dims, make_views):
    views, objective = make_views(), Seen()
    terms = Part(objective, first, last, "some")(views)
    assert terms.keys() == {"some_seen"}
    dims = list(dims)
    torch.testing.assert_close(objective.views.latents, views.latents[..., dims], atol=0, rtol=0)
    torch.testing.assert_close(objective.views.predictions, views.predictions[..., dims], atol=0, rtol=0)
    assert objective.views.actions is views.actions and objective.views.frames is views.frames


@pytest.mark.parametrize("dim", range(4, 20))
@pytest.mark.parametrize("cuts", [(0, 0.5, 1), (0, 0.25, 0.6, 1), (0, 1 / 3, 2 / 3, 1)])
def test_parts__that_meet_share_out_every_dimension_once(dim, cuts, make_views):
    views = make_views(latents=torch.arange(float(dim)).expand(2, 3, dim))
    shared = []
    for first, last in itertools.pairwise(cuts):
        Part(objective := Seen(), first, last, "part")(views)
        shared += objective.views.latents[0, 0].tolist()
    assert shared == list(range(dim))


def test_part__leaves_no_decoder(make_views):
    objective = Seen()
    views = make_views(decode=lambda latents: latents)
    Part(objective, 0, 1, "all")(views)
    assert objective.views.decode is None and objective.views.imagine is None


def test_part__is_the_objective_of_a_smaller_latent(make_views):
    views = make_views()
    small = make_views(latents=views.latents[..., 3:], predictions=views.predictions[..., 3:])
    ours, expected = Part(VICReg(), 0.5, 1, "fast")(views), VICReg()(small)
    assert {name: term.item() for name, term in ours.items()} == {
        f"fast_{name}": term.item() for name, term in expected.items()
    }


def test_part__the_rest_may_collapse_and_gets_no_gradient(make_views):
    latents = torch.randn(8, 4, 6, dtype=torch.double)
    latents[..., :3] = 0.5
    latents.requires_grad_()
    terms = Part(VICReg(), 0.5, 1, "fast")(make_views(latents=latents))
    (gradient,) = torch.autograd.grad(sum(terms.values()), latents)
    assert gradient[..., :3].abs().sum() == 0 and (gradient[..., 3:].abs().sum(dim=(0, 1)) > 0).all()
    assert Part(VICReg(), 0, 0.5, "slow")(make_views(latents=latents.detach()))["slow_variance"].item() == 0.99


def test_part__trains_the_weights_of_its_objective(make_views):
    part = Part(InverseDynamics(3, 2), 0.5, 1, "fast").double()
    part(make_views())["fast_inverse_dynamics"].backward()
    assert len(list(part.parameters())) == 2
    assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())


def test_part__of_residuals_is_residuals_of_the_part(make_views):
    views = make_views()
    one = Part(Residual(VICReg()), 0, 0.5, "slow")(views)
    other = Residual(Part(VICReg(), 0, 0.5, "slow"))(views)
    assert one["slow_residual_variance"].item() == pytest.approx(other["residual_slow_variance"].item())


def test_part__says_that_it_is_empty(make_views):
    with pytest.raises(ValueError, match=r"part 'tiny' is empty: dimensions 0\.5·D to 0\.55·D of D = 6"):
        Part(VICReg(), 0.5, 0.55, "tiny")(make_views())


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 1), (0, 1.1), (float("nan"), 1)])
def test_part__refuses_shares_that_are_no_range(first, last):
    with pytest.raises(ValueError, match=rf"0 ≤ first < last ≤ 1, got {first} and {last}"):
        Part(VICReg(), first, last, "part")


@pytest.mark.parametrize("name", ["", "a.b", "two words"])
def test_part__refuses_a_name_that_is_no_word(name):
    with pytest.raises(ValueError, match=rf"name must be a word, such as 'slow', got {name!r}"):
        Part(VICReg(), 0, 1, name)


def test_part__imagines_its_own_dimensions(make_views):
    objective = Seen()
    views = make_views(predict=lambda start, actions: start.expand(-1, 3, -1) + actions.sum(-1, keepdim=True))
    Part(objective, 0.5, 1, "fast")(views)
    torch.testing.assert_close(objective.views.counterfactuals(2), views.counterfactuals(2)[..., 3:])
