from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from agents.objectives.infonce import InfoNCE, infonce_loss

NEGATIVES = ("batch", "time", "both")


def reference(predictions: torch.Tensor, latents: torch.Tensor, temperature: float, negatives: str) -> float:
    """One cross-entropy at a time."""
    b, t, _ = latents.shape
    losses = []
    for i in range(b):
        for k in range(t):
            candidates = {
                "batch": [(other, k) for other in range(b)],
                "time": [(i, step) for step in range(t)],
                "both": [(other, step) for other in range(b) for step in range(t)],
            }[negatives]
            logits = [F.cosine_similarity(predictions[i, k], latents[c], dim=0) / temperature for c in candidates]
            losses.append(F.cross_entropy(torch.stack(logits)[None], torch.tensor([candidates.index((i, k))])))
    return torch.stack(losses).mean().item()


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("temperature", [0.1, 1.5])
def test_infonce_loss__is_one_cross_entropy_a_prediction(negatives, temperature):
    predictions, latents = torch.randn(2, 4, 3, 5, dtype=torch.double)  # B = 4, T = 3, D = 5
    ours = infonce_loss(predictions, latents, temperature, negatives)
    assert ours.item() == pytest.approx(reference(predictions, latents, temperature, negatives))


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_infonce__leaves_the_first_step_out(negatives, make_views):
    views = make_views()
    terms = InfoNCE(0.3, negatives)(views)
    assert terms.keys() == {"infonce"}
    expected = reference(views.predictions[:, 1:], views.latents[:, 1:], 0.3, negatives)
    assert terms["infonce"].item() == pytest.approx(expected)


@pytest.mark.parametrize(("negatives", "candidates"), [("batch", 6), ("time", 5), ("both", 30)])
def test_infonce_loss__constant_latents_can_only_guess(negatives, candidates):
    constant = torch.randn(3, dtype=torch.double).expand(6, 5, 3)
    assert infonce_loss(constant, constant, 0.1, negatives).item() == pytest.approx(math.log(candidates))


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [
        ("batch", math.log(1 + 5 * math.exp(-10))),  # solved: what stays the same tells sequences apart
        ("time", math.log(4)),  # no better than guessing among T steps
        ("both", math.log(4 + 20 * math.exp(-10))),
    ],
)
def test_infonce_loss__copies_of_what_stays_the_same_fool_batch_negatives_alone(negatives, expected):
    copies = torch.eye(6, dtype=torch.double)[:, None].expand(6, 4, 6)  # orthogonal from sequence to sequence
    assert infonce_loss(copies, copies, 0.1, negatives).item() == pytest.approx(expected)


def test_infonce_loss__sees_directions_only():
    predictions, latents = torch.randn(2, 4, 3, 5, dtype=torch.double)
    scale = 0.1 + torch.rand(2, 4, 3, 1, dtype=torch.double)
    scaled = infonce_loss(scale[0] * predictions, scale[1] * latents)
    assert scaled.item() == pytest.approx(infonce_loss(predictions, latents).item())


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_infonce_loss__passes_gradcheck(negatives):
    predictions, latents = (torch.randn(3, 2, 4, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p, z: infonce_loss(p, z, 0.5, negatives), (predictions, latents))


def test_infonce__refuses_negatives_of_the_same_sequence_where_there_are_none(make_views):
    views = make_views(latents=torch.randn(5, 2, 6, dtype=torch.double))
    with pytest.raises(ValueError, match="need two predictions, got 1: take a longer window"):
        InfoNCE(negatives="time")(views)
    assert InfoNCE(negatives="batch")(views)["infonce"] > 0


def test_infonce__refuses_unknown_negatives():
    with pytest.raises(ValueError, match=r"\('batch', 'time', 'both'\), got 'all'"):
        InfoNCE(negatives="all")


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_infonce__refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
        InfoNCE(temperature)
