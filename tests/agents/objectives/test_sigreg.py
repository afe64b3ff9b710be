from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.sigreg import SIGReg, sigreg_loss


def trapezoid(y: np.ndarray, x: np.ndarray) -> float:
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def reference(latents: np.ndarray, directions: np.ndarray, knots: int = 17) -> float:
    """One direction at a time, over all of [−3, 3], with complex numbers: [N, D], [D, M]."""
    t = np.linspace(-3, 3, 2 * knots - 1)
    phi = np.exp(-(t**2) / 2)
    scores = []
    for direction in directions.T:
        found = np.mean([np.exp(1j * t * (z @ direction)) for z in latents], axis=0)
        scores.append(len(latents) * trapezoid(np.abs(found - phi) ** 2 * phi, t))
    return float(np.mean(scores))


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.double), dim=0)


@pytest.mark.parametrize("knots", [17, 6, 2])
def test_sigreg_loss__is_the_epps_pulley_statistic(knots):
    latents, directions = 1.5 * torch.randn(7, 5, dtype=torch.double) + 0.3, unit(5, 4)
    expected = reference(latents.numpy(), directions.numpy(), knots)
    assert sigreg_loss(latents, directions, knots).item() == pytest.approx(expected)


def test_sigreg_loss__averages_over_leading_axes():
    latents, directions = torch.randn(2, 3, 7, 5, dtype=torch.double), unit(5, 4)
    groups = [reference(latents[i, j].numpy(), directions.numpy()) for i in range(2) for j in range(3)]
    assert sigreg_loss(latents, directions).item() == pytest.approx(np.mean(groups))


@pytest.mark.parametrize("count", [4, 64])
def test_sigreg_loss__of_normal_latents_is_about_one_whatever_their_number(count):
    losses = sigreg_loss(torch.randn(4000, count, 2, dtype=torch.double), unit(2, 3))
    assert losses.item() == pytest.approx(1.05, abs=0.05)


@pytest.mark.parametrize("over", ["pooled", "step"])
def test_sigreg__takes_all_latents_together_or_those_of_each_step(over, make_views):
    views = make_views(latents=torch.randn(5, 4, 6, dtype=torch.double) * torch.tensor([3, 0.2, 0.5, 1.0])[:, None])
    objective = SIGReg(over, directions=3)
    torch.manual_seed(1)
    terms = objective(views)
    torch.manual_seed(1)
    directions = unit(6, 3).numpy()
    groups = [views.latents.flatten(0, 1)] if over == "pooled" else list(views.latents.unbind(1))
    assert terms.keys() == {"sigreg"}
    assert terms["sigreg"].item() == pytest.approx(np.mean([reference(z.numpy(), directions) for z in groups]))


def test_sigreg__looks_along_new_unit_directions_in_every_call(make_views, monkeypatch):
    seen = []
    monkeypatch.setattr("agents.objectives.sigreg.sigreg_loss", lambda z, directions, knots: seen.append(directions))
    objective, views = SIGReg(directions=9), make_views()
    objective(views), objective(views)
    assert seen[0].shape == (6, 9)
    assert not torch.equal(*seen)
    torch.testing.assert_close(seen[0].norm(dim=0), torch.ones(9, dtype=torch.double))


def test_sigreg__is_the_same_from_the_same_random_state(make_views):
    objective, views = SIGReg(directions=4), make_views()
    state = torch.get_rng_state()
    first = objective(views)["sigreg"]
    torch.set_rng_state(state)
    assert torch.equal(objective(views)["sigreg"], first)


@pytest.mark.parametrize("over", ["pooled", "step"])
def test_sigreg__collapsed_latents_score_in_proportion_to_their_number(over, make_views):
    views = make_views(latents=torch.zeros(50, 4, 6, dtype=torch.double))
    t = np.linspace(-3, 3, 33)
    phi = np.exp(-(t**2) / 2)
    expected = (200 if over == "pooled" else 50) * trapezoid((1 - phi) ** 2 * phi, t)
    assert SIGReg(over)(views)["sigreg"].item() == pytest.approx(expected)


@pytest.mark.parametrize("over", ["pooled", "step"])
def test_sigreg__is_fooled_by_copies_of_what_stays_the_same(over, make_views):
    copies = torch.randn(400, 1, 6, dtype=torch.double).expand(400, 3, 6)
    noise = torch.randn(400, 3, 6, dtype=torch.double)
    fooled, honest = (SIGReg(over)(make_views(latents=z))["sigreg"].item() for z in (copies, noise))
    collapsed = SIGReg(over)(make_views(latents=torch.zeros_like(noise)))["sigreg"].item()
    assert fooled < 5 * honest < collapsed / 20


def test_sigreg__sees_a_distribution_that_only_has_the_right_moments(make_views):
    signs = torch.randn(400, 1, 1, dtype=torch.double).sign() * torch.ones(400, 4, 1, dtype=torch.double)
    normal = SIGReg()(make_views(latents=torch.randn(400, 4, 1, dtype=torch.double)))["sigreg"].item()
    assert SIGReg("step")(make_views(latents=signs))["sigreg"].item() > 10 * normal


def test_sigreg_loss__passes_gradcheck():
    latents = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    directions = unit(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, a: sigreg_loss(z, a, 5), (latents, directions))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": "batch"}, r"\('pooled', 'step'\), got 'batch'"),
        ({"directions": 0}, "directions must be at least 1, got 0"),
        ({"knots": 1}, "knots must be at least 2, got 1"),
    ],
)
def test_sigreg__refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        SIGReg(**arguments)
