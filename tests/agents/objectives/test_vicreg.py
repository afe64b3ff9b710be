from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.objectives.temporal import temporal_variance_loss
from agents.objectives.vicreg import VICReg, covariance_loss, invariance_loss, variance_loss, vicreg_bound


def reference_variance(latents: np.ndarray, gamma: float = 1.0, epsilon: float = 1e-4) -> float:
    """[B, D]"""
    hinges = [max(0.0, gamma - math.sqrt(np.cov(column) + epsilon)) for column in latents.T]
    return sum(hinges) / len(hinges)


def reference_covariance(latents: np.ndarray) -> float:
    """[B, D]"""
    matrix = np.cov(latents, rowvar=False)
    dim = len(matrix)
    return sum(matrix[i, j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim


def orthonormal(batch: int, dim: int) -> torch.Tensor:
    """[B, D], D < B: centred columns of unit variance without covariance."""
    basis, _ = torch.linalg.qr(torch.cat([torch.ones(batch, 1), torch.randn(batch, dim)], dim=1).double())
    return basis[:, 1:] * math.sqrt(batch - 1)


@pytest.mark.parametrize(("batch", "dim"), [(9, 4), (4, 9), (5, 5), (2, 3)])
def test_covariance_loss__is_that_of_numpy(batch, dim):
    latents = torch.randn(batch, dim, dtype=torch.double) @ torch.randn(dim, dim, dtype=torch.double) + 3
    assert covariance_loss(latents).item() == pytest.approx(reference_covariance(latents.numpy()))


def test_covariance_loss__takes_the_smaller_gram_matrix_and_both_agree():
    latents = torch.randn(12, 8, dtype=torch.double)
    wide = covariance_loss(latents)  # through [D, D]
    # Zero columns add nothing to the sum over pairs and make D larger than B: through [B, B].
    padded = torch.cat([latents, torch.zeros(12, 24, dtype=torch.double)], dim=1)
    assert covariance_loss(padded).item() * 32 == pytest.approx(wide.item() * 8)


def test_variance_loss__is_that_of_numpy():
    latents = torch.randn(7, 5, dtype=torch.double) * torch.tensor([0.1, 0.5, 1.0, 2.0, 0.0])
    assert variance_loss(latents).item() == pytest.approx(reference_variance(latents.numpy()))
    assert variance_loss(latents, 1.7, 0.2).item() == pytest.approx(reference_variance(latents.numpy(), 1.7, 0.2))


def test_invariance_loss__is_the_mean_squared_difference():
    a, b = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    squares = [(x - y) ** 2 for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]
    assert invariance_loss(a, b).item() == pytest.approx(sum(squares) / 24)


def test_vicreg__averages_over_the_future_steps(make_views):
    views = make_views(latents=torch.randn(5, 4, 6, dtype=torch.double) * torch.tensor([9, 0.2, 0.5, 0.9])[:, None])
    terms = VICReg(gamma=1.3, epsilon=1e-3)(views)
    steps = [views.latents[:, t].numpy() for t in (1, 2, 3)]
    assert terms.keys() == {"invariance", "variance", "covariance"}
    assert terms["variance"].item() == pytest.approx(np.mean([reference_variance(z, 1.3, 1e-3) for z in steps]))
    assert terms["covariance"].item() == pytest.approx(np.mean([reference_covariance(z) for z in steps]))
    error = (views.predictions - views.latents)[:, 1:].numpy()
    assert terms["invariance"].item() == pytest.approx(np.mean(error**2))


def test_vicreg__takes_statistics_of_the_first_step_if_asked(make_views):
    views = make_views()
    terms, first = VICReg(steps="first")(views), views.latents[:, 0].numpy()
    assert terms["variance"].item() == pytest.approx(reference_variance(first))
    assert terms["covariance"].item() == pytest.approx(reference_covariance(first))
    assert terms["invariance"].item() == VICReg()(views)["invariance"].item()  # of the future in any case


def test_vicreg__divides_by_the_number_of_pairs_if_asked(make_views):
    views = make_views()
    per_dim, per_pair = VICReg()(views), VICReg(per_pair=True)(views)
    assert per_pair["covariance"].item() == pytest.approx(per_dim["covariance"].item() / 5)  # D = 6
    assert per_pair["variance"] == per_dim["variance"]


@pytest.mark.parametrize(("gamma", "epsilon"), [(1.0, 1e-4), (1.5, 0.04)])
def test_vicreg__constant_latents_pay_the_whole_hinge(gamma, epsilon, make_views):
    constant = torch.full((8, 4, 6), 0.7, dtype=torch.double)
    terms = VICReg(gamma=gamma, epsilon=epsilon)(make_views(latents=constant, predictions=constant))
    assert terms["variance"].item() == pytest.approx(gamma - math.sqrt(epsilon))
    assert terms["covariance"].item() == pytest.approx(0, abs=1e-20)
    assert terms["invariance"].item() == 0


def test_vicreg__is_fooled_by_copies_of_what_stays_the_same_and_temporal_variance_is_not(make_views):
    copies = 1.1 * orthonormal(64, 16)[:, None].expand(64, 5, 16)  # constant within a sequence, independent across
    terms = VICReg()(make_views(latents=copies, predictions=copies))
    assert terms["invariance"].item() == 0
    assert terms["variance"].item() == 0
    assert terms["covariance"].item() == pytest.approx(0, abs=1e-20)
    assert temporal_variance_loss(copies).item() == pytest.approx(1 - math.sqrt(1e-4))


def test_vicreg__repeated_dimensions_pay_covariance_alone(make_views):
    repeated = 1.1 * orthonormal(64, 1).expand(64, 6)[:, None].expand(64, 3, 6)
    terms = VICReg()(make_views(latents=repeated, predictions=repeated))
    assert terms["variance"].item() == 0
    assert terms["covariance"].item() == pytest.approx(5 * 1.1**4)  # D(D − 1) pairs of covariance 1.1², over D


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 4, 3)])
def test_vicreg_functions__pass_gradcheck(shape):
    latents = torch.randn(shape, dtype=torch.double, requires_grad=True)
    other = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(variance_loss, (0.5 * latents,))
    assert torch.autograd.gradcheck(covariance_loss, (latents,))
    assert torch.autograd.gradcheck(invariance_loss, (latents, other))


def test_vicreg__refuses_unknown_steps():
    with pytest.raises(ValueError, match="'future' or 'first', got 'last'"):
        VICReg(steps="last")


def loss_of(latents: torch.Tensor, variance: float, covariance: float) -> torch.Tensor:
    return variance * variance_loss(latents, epsilon=0.0) + covariance * covariance_loss(latents)


@pytest.mark.parametrize(
    ("batch", "dim", "variance", "covariance"),
    [(4, 32, 25.0, 1.0), (6, 12, 25.0, 1.0), (3, 64, 25.0, 1.0), (2, 5, 8.0, 1.0), (6, 40, 3.0, 0.1)],
)
def test_vicreg_bound__is_what_optimised_latents_reach(batch, dim, variance, covariance):
    bound = vicreg_bound(batch, dim, variance, covariance)
    latents = torch.randn(batch, dim, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 500)
    best = math.inf
    for _ in range(500):
        loss = loss_of(latents, variance, covariance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        best = min(best, loss.item())
    assert bound * (1 - 1e-9) <= best <= bound * 1.001


@pytest.mark.parametrize(("repeats", "scale"), [(3, 1.0), (40, (25 / (4 * 39)) ** (1 / 3))])
def test_vicreg_bound__is_reached_by_repeated_orthonormal_dimensions(repeats, scale):
    latents = scale * orthonormal(5, 4).repeat(1, repeats)  # every non-zero eigenvalue is the same
    assert loss_of(latents, 25.0, 1.0).item() == pytest.approx(vicreg_bound(5, 4 * repeats))


@pytest.mark.parametrize(("variance", "covariance"), [(25.0, 1.0), (8.0, 1.0), (1.0, 1.0), (0.1, 5.0)])
def test_vicreg_bound__no_latents_beat_it(variance, covariance):
    for batch, dim in [(2, 2), (2, 30), (4, 9), (11, 12), (16, 64)]:
        bound = vicreg_bound(batch, dim, variance, covariance)
        for scale in (0.1, 0.5, 1.0, 3.0):
            assert loss_of(scale * torch.randn(batch, dim, dtype=torch.double), variance, covariance) >= bound
        some = torch.zeros(batch, dim, dtype=torch.double)
        some[:, : batch - 1] = orthonormal(batch, batch - 1)  # as many dimensions as fit without covariance
        assert loss_of(some, variance, covariance) >= bound * (1 - 1e-12)


@pytest.mark.parametrize(("batch", "dim"), [(9, 8), (100, 8)])
def test_vicreg_bound__is_zero_where_the_batch_spans_every_dimension(batch, dim):
    assert vicreg_bound(batch, dim) == 0
    assert loss_of((1 + 1e-9) * orthonormal(batch, dim), 25.0, 1.0).item() == pytest.approx(0, abs=1e-12)


def test_vicreg_bound__is_above_zero_as_soon_as_it_does_not():
    assert vicreg_bound(8, 8) == pytest.approx(1 / 7)


def test_vicreg_bound__is_zero_without_one_of_the_two_terms():
    assert vicreg_bound(4, 32, variance=0.0) == 0
    assert vicreg_bound(4, 32, covariance=0.0) == 0
