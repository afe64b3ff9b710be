"""Every term on imagined latents of which its value is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from agents.costs.action_cost import ActionCost
from agents.costs.core import Aims, Imagined, Term
from agents.costs.factor_distance import FactorDistance
from agents.costs.factor_predicate import FactorPredicate
from agents.costs.latent_distance import LatentDistance
from agents.costs.reward import RewardCost
from agents.costs.temporal_distance import TemporalDistanceCost

PATH = torch.tensor([[3.0, 0.0], [3.0, 4.0], [0.0, 5.0]])  # of one candidate, from [1, 0]
STEPS = {"last": lambda x: x[-1], "mean": lambda x: sum(x) / len(x)}


def cost(term: Term, **aims: Any) -> Tensor:
    """What a term says of the candidate, between two others that stay at 9."""
    latents = torch.full((1, 3, 3, 2), 9.0)
    latents[:, 1] = PATH
    actions = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 3, 2)
    found = term(Imagined(latents, actions, torch.tensor([[1.0, 0.0]]), Aims(**aims), latents))
    assert found.shape == (1, 3)
    return found[0, 1]


@pytest.mark.parametrize("steps", STEPS)
def test_latent_distance__is_the_root_of_the_mean_square(steps):
    found = cost(LatentDistance("l2", steps), goal=torch.tensor([[0.0, 0.0]]))
    assert found.item() == pytest.approx(STEPS[steps]([3.0, 5.0, 5.0]) / 2**0.5)


@pytest.mark.parametrize("steps", STEPS)
def test_latent_distance__by_angle_does_not_depend_on_lengths(steps):
    found = cost(LatentDistance("cosine", steps), goal=torch.tensor([[0.0, 7.0]]))
    assert found.item() == pytest.approx(STEPS[steps]([1.0, 0.2, 0.0]), abs=1e-6)


def test_latent_distance__has_a_gradient_at_the_goal():
    latents = torch.zeros(1, 1, 2, 2, requires_grad=True)
    term = LatentDistance()(Imagined(latents, latents, torch.zeros(1, 2), Aims(goal=torch.zeros(1, 2)), latents))
    term.sum().backward()
    assert torch.equal(latents.grad, torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("steps", STEPS)
def test_factor_distance__is_in_the_units_of_the_factor(steps):
    aim = torch.tensor([[10.0]])
    found = cost(FactorDistance("x", steps), factors={"x": aim}, readouts={"x": lambda z: 2 * z[..., :1]})
    assert found.item() == pytest.approx(STEPS[steps]([4.0, 4.0, 10.0]))


def test_factor_distance__refuses_an_aim_of_another_size():
    with pytest.raises(ValueError, match="'x' has 2 numbers, the aim for it 3"):
        cost(FactorDistance("x"), factors={"x": torch.zeros(1, 3)}, readouts={"x": lambda z: z})


@pytest.mark.parametrize(
    ("bounds", "off"),
    [
        ({"above": 2.0}, [2.0, 0.0, 0.0]),
        ({"below": 4.5}, [0.0, 0.0, 0.5]),
        ({"above": 1.0, "below": 4.5}, [1.0, 0.0, 0.5]),
    ],
)
@pytest.mark.parametrize("steps", STEPS)
def test_factor_predicate__is_how_far_a_component_is_off(steps, bounds, off):
    term = FactorPredicate("x", component=1, steps=steps, **bounds)
    assert cost(term, readouts={"x": lambda z: z}).item() == pytest.approx(STEPS[steps](off))


def test_factor_predicate__refuses_a_component_that_is_not_there():
    with pytest.raises(ValueError, match="'x' has 2 numbers, there is no component 2"):
        cost(FactorPredicate("x", component=2, above=0.0), readouts={"x": lambda z: z})


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_reward_cost__is_the_discounted_return_with_its_sign_turned(discount):
    def head(before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        return 100 * before[..., 0] + 10 * actions[..., 0] + after[..., 1]

    rewards = [100 + 20 + 0, 300 + 20 + 4, 300 + 20 + 5]
    found = cost(RewardCost(discount), heads={"reward": head})
    assert found.item() == pytest.approx(-sum(discount**k * r for k, r in enumerate(rewards)))


@pytest.mark.parametrize("steps", STEPS)
def test_temporal_distance_cost__is_what_the_head_says(steps):
    heads = {"temporal_distance": lambda z, goal: (z - goal).abs().sum(dim=-1)}
    found = cost(TemporalDistanceCost(steps), goal=torch.tensor([[1.0, 1.0]]), heads=heads)
    assert found.item() == pytest.approx(STEPS[steps]([3.0, 5.0, 5.0]))


def test_action_cost__is_the_mean_square():
    assert cost(ActionCost()).item() == 4.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LatentDistance(distance="l1"), "distance must be 'l2' or 'cosine', got 'l1'"),
        (lambda: LatentDistance(steps="first"), "steps must be 'last' or 'mean', got 'first'"),
        (lambda: FactorDistance("x", steps="sum"), "steps must be 'last' or 'mean', got 'sum'"),
        (lambda: TemporalDistanceCost(steps="all"), "steps must be 'last' or 'mean', got 'all'"),
        (lambda: FactorPredicate("x"), "above, below or both must be given"),
        (lambda: FactorPredicate("x", above=2.0, below=2.0), "with room between them, got above=2.0, below=2.0"),
        (lambda: FactorPredicate("x", component=-1, above=2.0), "component must be an integer of at least 0, got -1"),
        (lambda: RewardCost(discount=0.0), "discount must be above 0 and at most 1, got 0.0"),
        (lambda: RewardCost(discount=1.1), "discount must be above 0 and at most 1, got 1.1"),
    ],
)
def test_term__refuses_arguments_that_are_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
