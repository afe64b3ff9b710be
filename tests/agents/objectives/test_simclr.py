from __future__ import annotations

import math

import pytest
import torch

from agents.objectives.simclr import SimCLR, nt_xent_loss


def reference(predictions: torch.Tensor, latents: torch.Tensor, temperature: float, normalise: bool) -> float:
    """SimCLR's Algorithm 1, one pair at a time: [B, D], [B, D]."""
    vectors = [*predictions, *latents]
    if normalise:
        vectors = [v / v.norm() for v in vectors]
    batch, losses = len(latents), []
    for i, v in enumerate(vectors):
        positive = math.exp(float(v @ vectors[(i + batch) % (2 * batch)]) / temperature)
        everything = sum(math.exp(float(v @ other) / temperature) for k, other in enumerate(vectors) if k != i)
        losses.append(-math.log(positive / everything))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("temperature", [0.2, 3.0])
def test_nt_xent_loss__is_that_of_simclr_one_pair_at_a_time(temperature, normalise):
    predictions, latents = torch.randn(2, 4, 5, dtype=torch.double)
    ours = nt_xent_loss(predictions, latents, temperature, normalise)
    assert ours.item() == pytest.approx(reference(predictions, latents, temperature, normalise))


def test_nt_xent_loss__of_two_opposite_pairs_is_what_a_hand_computes():
    vectors = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])  # the positive scores 1, the two negatives −1
    assert nt_xent_loss(vectors, vectors, 1.0).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))


@pytest.mark.parametrize("normalise", [True, False])
def test_simclr__averages_over_the_future_steps(normalise, make_views):
    views = make_views()
    terms = SimCLR(0.7, normalise)(views)
    steps = [reference(views.predictions[:, t], views.latents[:, t], 0.7, normalise) for t in (1, 2, 3)]
    assert terms.keys() == {"simclr"}
    assert terms["simclr"].item() == pytest.approx(sum(steps) / 3)


def test_nt_xent_loss__treats_both_directions_alike():
    predictions, latents = torch.randn(2, 3, 5, 4, dtype=torch.double)
    assert nt_xent_loss(predictions, latents).item() == pytest.approx(nt_xent_loss(latents, predictions).item())


def test_simclr__constant_latents_can_only_guess(make_views):
    constant = torch.randn(3, dtype=torch.double).expand(6, 4, 3)
    terms = SimCLR()(make_views(latents=constant, predictions=constant))
    assert terms["simclr"].item() == pytest.approx(math.log(11))  # among the other 2B − 1


def test_simclr__is_fooled_by_copies_of_what_stays_the_same(make_views):
    copies = torch.eye(6, dtype=torch.double)[:, None].expand(6, 4, 6)  # orthogonal from sequence to sequence
    terms = SimCLR(temperature=0.1)(make_views(latents=copies, predictions=copies))
    assert terms["simclr"].item() == pytest.approx(math.log(1 + 10 * math.exp(-10)))


def test_simclr__sees_lengths_only_if_it_does_not_normalise(make_views):
    views = make_views()
    longer = make_views(latents=3 * views.latents, predictions=2 * views.predictions)
    assert SimCLR()(longer)["simclr"].item() == pytest.approx(SimCLR()(views)["simclr"].item())
    plain = SimCLR(normalise=False)
    assert plain(longer)["simclr"].item() != pytest.approx(plain(views)["simclr"].item(), rel=0.05)


@pytest.mark.parametrize("normalise", [True, False])
def test_nt_xent_loss__passes_gradcheck(normalise):
    predictions, latents = (torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p, z: nt_xent_loss(p, z, 0.5, normalise), (predictions, latents))


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_simclr__refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
        SimCLR(temperature)
