from __future__ import annotations

import math

import pytest
import torch

from agents.objectives.action_contrast import ActionContrast, action_contrast_loss
from agents.objectives.part import Part
from agents.predictors.gru import GRUPredictor


def sums(context: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """A predictor that adds up actions: [B, K, D], [B, H, A] -> [B, H, D], the first A dimensions alone."""
    still = context[:, -1:].expand(-1, actions.shape[1], -1)
    return torch.cat([still[..., :2] + actions.cumsum(dim=1), still[..., 2:]], dim=-1)


def reference(views, predict, negatives: int, temperature: float) -> float:
    """One candidate at a time."""
    predict = torch.no_grad()(predict)
    batch, steps, dim = views.latents.shape
    losses = []
    for b in range(batch):
        for t in range(1, steps):
            scores = []
            for shift in range(negatives + 1):
                actions = views.actions[(b + shift) % batch]
                guess = predict(views.latents[b : b + 1, :1], actions[None])[0, t - 1]
                distance = sum(float(x) ** 2 for x in views.latents[b, t] - guess) / dim
                scores.append(math.exp(-distance / temperature))
            losses.append(-math.log(scores[0] / sum(scores)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("negatives", [1, 3, 4])
def test_action_contrast__is_one_choice_among_candidates_a_step(negatives, make_views):
    predict = GRUPredictor(6, 2).double()
    views = make_views(predict=predict)
    terms = ActionContrast(negatives, 0.5)(views)
    assert terms.keys() == {"action_contrast"}
    assert terms["action_contrast"].item() == pytest.approx(reference(views, predict, negatives, 0.5))


def test_action_contrast_loss__of_two_candidates_is_what_a_hand_computes():
    candidates = torch.tensor([[1.0, 1.0], [3.0, 1.0]]).double()[:, None]  # mean squared distances 0 and 2
    loss = action_contrast_loss(torch.ones(1, 2).double(), candidates, 0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-4)))


@pytest.mark.parametrize("latents", ["constant", "copies"])
def test_action_contrast__latents_that_no_action_moves_can_only_guess(latents, make_views):
    """What stays the same within a sequence tells nothing, however different it is between sequences."""
    shape = (1, 1, 6) if latents == "constant" else (5, 1, 6)
    still = torch.randn(shape, dtype=torch.double).expand(5, 4, 6)
    views = make_views(latents=still, predictions=still, predict=lambda z, a: z[:, -1:].expand(-1, a.shape[1], -1))
    assert ActionContrast(3)(views)["action_contrast"].item() == pytest.approx(math.log(4))


def test_action_contrast__is_solved_by_latents_that_move_with_the_actions_whatever_else_they_hold(make_views):
    actions = torch.randn(6, 4, 2, dtype=torch.double)
    start = 10 * torch.randn(6, 1, 5, dtype=torch.double)  # two dimensions that move, three that stay
    latents = torch.cat([start, sums(start, actions)], dim=1)
    views = make_views(latents=latents, predictions=latents, actions=actions, predict=sums)
    assert ActionContrast(5, temperature=1e-3)(views)["action_contrast"].item() < 0.1


def test_action_contrast__does_not_see_what_all_candidates_have_in_common():
    latents, candidates = torch.randn(5, 3, 6).double(), torch.randn(4, 5, 3, 6).double()
    common = 20 * torch.randn(5, 1, 6).double()
    moved = action_contrast_loss(latents + common, candidates + common)
    assert moved.item() == pytest.approx(action_contrast_loss(latents, candidates).item())


def test_action_contrast__trains_the_predictor_and_the_latents(make_views):
    predict = GRUPredictor(6, 2).double()
    latents = torch.randn(5, 4, 6, dtype=torch.double, requires_grad=True)
    views = make_views(latents=latents, predict=predict)
    ActionContrast(4)(views)["action_contrast"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in predict.parameters())
    assert (latents.grad.abs().sum(dim=(0, 2)) > 0).all()  # the first step, where rollouts begin, and those after it


def test_action_contrast_loss__passes_gradcheck():
    latents = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    candidates = torch.randn(3, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, c: action_contrast_loss(z, c, 0.7), (latents, candidates))


def test_action_contrast__can_be_part_of_another_objective(make_views):
    gru = GRUPredictor(6, 2).double()
    views = make_views(predict=gru)
    half = make_views(
        latents=views.latents[..., 3:],
        predictions=views.predictions[..., 3:],
        actions=views.actions,
        imagine=lambda others: views.imagine(others)[..., 3:],
    )
    part = Part(ActionContrast(2), 0.5, 1, "fast")(views)["fast_action_contrast"]
    assert part.item() == pytest.approx(ActionContrast(2)(half)["action_contrast"].item())


def test_action_contrast__refuses_what_cannot_be_asked_or_has_too_few_others(make_views):
    with pytest.raises(ValueError, match="no predictor to ask"):
        ActionContrast(2)(make_views())
    with pytest.raises(ValueError, match=r"actions of 5 other sequences are asked for in a batch of 5"):
        ActionContrast(5)(make_views(predict=sums))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negatives": 0}, "negatives must be at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be positive, got 0\.0"),
    ],
)
def test_action_contrast__refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        ActionContrast(**arguments)
