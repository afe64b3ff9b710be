"""What holds for all costs: how terms become one, what they need, and what is refused."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import nn

from agents.costs import core
from agents.costs.action_cost import ActionCost
from agents.costs.core import Aims, Costs, Imagined, Term, plan_cost
from agents.costs.factor_distance import FactorDistance
from agents.costs.factor_predicate import FactorPredicate
from agents.costs.latent_distance import LatentDistance
from agents.costs.reward import RewardCost
from agents.costs.temporal_distance import TemporalDistanceCost
from agents.heads.temporal_distance import TemporalDistance
from agents.probes.core import Samples
from agents.probes.gradient import GradientProbe
from agents.probes.ridge import Ridge


@pytest.fixture
def to_goal() -> Costs:
    return Costs({"far": LatentDistance(steps="last")}, {"far": 1.0})


# --- what it is


def test_plan_cost__is_the_weighted_sum_of_its_terms(adds, candidates):
    costs = Costs({"effort": ActionCost(), "far": LatentDistance(steps="last")}, {"far": 2.0, "effort": -0.5})
    state, goal, actions = torch.randn(3, 2), torch.randn(3, 2), candidates()
    end = state[:, None] + actions.sum(dim=2)
    distance = ((end - goal[:, None]).square().sum(dim=-1) / 2).sqrt()
    found = plan_cost(costs, adds, state, Aims(goal=goal))(actions)
    torch.testing.assert_close(found, 2 * distance - 0.5 * actions.square().mean(dim=(2, 3)))


@pytest.mark.parametrize("rows", [1, 4, 300])
def test_plan_cost__judges_so_many_at_a_time_on_a_cpu(adds, candidates, rows, monkeypatch):
    monkeypatch.setattr(core, "ROWS", rows)
    seen: list[torch.Size] = []

    class Effort(ActionCost):
        def forward(self, imagined: Imagined) -> torch.Tensor:
            seen.append(imagined.latents.shape[:2])
            return super().forward(imagined)

    actions = candidates()
    found = plan_cost(Costs({"effort": Effort()}, {"effort": 1.0}), adds, torch.randn(3, 2))(actions)
    torch.testing.assert_close(found, actions.square().mean(dim=(2, 3)))
    assert max(shape.numel() for shape in seen) == min(actions.shape[:2].numel(), max(3, rows // 3 * 3))
    assert sum(count for _, count in seen) == actions.shape[1]


def test_plan_cost__takes_the_latent_that_a_state_begins_with(adds, candidates, to_goal):
    state, goal, actions = torch.randn(3, 2), torch.randn(3, 2), candidates()
    more = torch.cat([state, torch.randn(3, 7)], dim=1)
    expected = plan_cost(to_goal, adds, state, Aims(goal=goal))(actions)
    assert torch.equal(plan_cost(to_goal, adds, more, Aims(goal=goal))(actions), expected)


@pytest.mark.parametrize(
    "term", [LatentDistance(steps="last"), LatentDistance("cosine"), TemporalDistanceCost()], ids=lambda x: str(x)
)
def test_plan_cost__compares_with_goals_what_can_be_achieved(term, adds, remembers, candidates):
    """Whatever the memory, and whatever it becomes: where a model has none, the cost is the same, bit for bit."""
    costs, state, actions = Costs({"far": term}, {"far": 1.0}), torch.randn(3, 2), candidates()
    aims = Aims(goal=torch.randn(3, 2), heads={"temporal_distance": lambda z, goal: (z - goal).abs().sum(dim=-1)})
    expected = plan_cost(costs, adds, state, aims)(actions)
    for memory in (0.0, 50.0):
        whole = torch.cat([torch.full((3, 1), memory), state], dim=1)
        assert torch.equal(plan_cost(costs, remembers, whole, aims)(actions), expected)


def test_plan_cost__sends_gradients_to_actions(adds, to_goal):
    state, goal = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    actions = torch.zeros(1, 1, 3, 2, requires_grad=True)
    plan_cost(to_goal, adds, state, Aims(goal=goal))(actions).sum().backward()
    expected = -torch.tensor([0.6, 0.8]) / 2**0.5  # towards the goal, whatever the step
    torch.testing.assert_close(actions.grad, expected.expand(1, 1, 3, 2))


@pytest.mark.parametrize("probe", [Ridge(), GradientProbe((8,), epochs=2)])
def test_plan_cost__sends_gradients_through_a_probe(probe, adds):
    latents = torch.randn(40, 2)
    samples = Samples(latents, latents @ torch.tensor([[2.0], [-1.0]]))
    probe.fit(samples, samples)
    costs = Costs({"far": FactorDistance("x", steps="last")}, {"far": 1.0})
    aims = Aims(factors={"x": torch.tensor([[100.0]])}, readouts={"x": probe.predict})
    actions = torch.zeros(1, 1, 3, 2, requires_grad=True)
    plan_cost(costs, adds, torch.zeros(1, 2), aims)(actions).sum().backward()
    assert (actions.grad != 0).all() and (actions.grad[0, 0, 0] == actions.grad[0, 0, 2]).all()


def test_plan_cost__keeps_nothing_for_gradients_that_are_not_asked_for(adds, candidates, to_goal):
    adds.weight = nn.Parameter(torch.ones(()))  # even if the model could be trained
    adds.predict = lambda latents, actions: latents + adds.weight * actions.cumsum(dim=1)
    cost = plan_cost(to_goal, adds, torch.zeros(3, 2), Aims(goal=torch.zeros(3, 2)))
    found = cost(candidates())
    assert not found.requires_grad
    found += 1  # and it is no inference tensor: planners may write on it
    with torch.no_grad():
        assert not cost(candidates().requires_grad_()).requires_grad


def test_plan_cost__candidates_that_are_not_numbers_cost_nan_and_harm_no_other(adds, candidates, to_goal):
    cost = plan_cost(to_goal, adds, torch.zeros(3, 2), Aims(goal=torch.ones(3, 2)))
    actions = candidates()
    clean = cost(actions)
    actions[1, 2, 0] = torch.nan
    broken = cost(actions)
    assert broken[1, 2].isnan() and broken.isnan().sum() == 1
    assert torch.equal(broken.nan_to_num(-1.0), clean.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(-1.0)))


def test_aims__are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Aims().goal = torch.zeros(1, 2)


# --- what it refuses


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 1.0, "B": 1.0}])
def test_costs__refuse_terms_and_weights_that_do_not_match(weights):
    message = rf"has the terms \['a', 'b'\], the configuration weights {re.escape(str(sorted(weights)))}"
    with pytest.raises(ValueError, match=message):
        Costs({"a": ActionCost(), "b": ActionCost()}, weights)


def test_costs__refuse_to_be_of_nothing():
    with pytest.raises(ValueError, match="every term needs one weight"):
        Costs({}, {})


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1", None, True])
def test_costs__refuse_a_weight_that_is_no_finite_number(weight):
    with pytest.raises(ValueError, match=rf"cost\.weights\.a must be a finite number, got {weight!r}"):
        Costs({"a": ActionCost()}, {"a": weight})


def test_costs__refuse_what_is_no_term():
    with pytest.raises(ValueError, match=r"cost\.terms\.a must be a term of agents\.costs, got Linear"):
        Costs({"a": nn.Linear(2, 2)}, {"a": 1.0})


NEEDS = {
    "goal": (LatentDistance, ["goal"]),
    "factor": (lambda: FactorDistance("location"), ["factors.location", "readouts.location"]),
    "predicate": (lambda: FactorPredicate("location", above=1.0), ["readouts.location"]),
    "reward": (RewardCost, ["heads.reward"]),
    "temporal": (TemporalDistanceCost, ["goal", "heads.temporal_distance"]),
}


@pytest.mark.parametrize("name", NEEDS)
def test_plan_cost__says_what_is_missing(name, adds):
    make, needs = NEEDS[name]
    costs = Costs({"effort": ActionCost(), name: make()}, {"effort": 1.0, name: 1.0})
    assert costs.needs == set(needs)
    with pytest.raises(ValueError, match=f"the cost needs {', '.join(needs)}, and there is no such thing"):
        plan_cost(costs, adds, torch.zeros(3, 2))
    if "goal" in needs and len(needs) > 1:
        with pytest.raises(ValueError, match=r"the cost needs heads\.temporal_distance, and"):
            plan_cost(costs, adds, torch.zeros(3, 2), Aims(goal=torch.zeros(3, 2)))


@pytest.mark.parametrize("goal", [torch.zeros(2, 2), torch.zeros(3, 3), torch.zeros(2), torch.zeros(3, 1, 2)])
def test_plan_cost__refuses_a_goal_of_the_wrong_shape(goal, adds, to_goal):
    with pytest.raises(ValueError, match=rf"the goal must be \[3, 2\].*got {re.escape(str(tuple(goal.shape)))}"):
        plan_cost(to_goal, adds, torch.zeros(3, 2), Aims(goal=goal))


def test_plan_cost__refuses_a_goal_with_a_memory(remembers, to_goal):
    with pytest.raises(ValueError, match=r"the goal must be \[3, 2\].*one an environment, and finite, got \(3, 3\)"):
        plan_cost(to_goal, remembers, torch.zeros(3, 3), Aims(goal=torch.zeros(3, 3)))


@pytest.mark.parametrize("state", [torch.zeros(3, 1), torch.zeros(2), torch.zeros(3, 1, 2)])
def test_plan_cost__refuses_a_state_of_the_wrong_shape(state, adds, to_goal):
    with pytest.raises(ValueError, match=r"the state must be \[B, D'\], the model's latent of 2 numbers first"):
        plan_cost(to_goal, adds, state, Aims(goal=torch.zeros(3, 2)))


@pytest.mark.parametrize("aim", [torch.zeros(2, 2), torch.zeros(3)])
def test_plan_cost__refuses_an_aim_of_the_wrong_shape(aim, adds):
    costs = Costs({"f": FactorDistance("location")}, {"f": 1.0})
    aims = Aims(factors={"location": aim}, readouts={"location": lambda z: z})
    with pytest.raises(ValueError, match=r"the aim for 'location' must be \[3, F\]"):
        plan_cost(costs, adds, torch.zeros(3, 2), aims)


@pytest.mark.parametrize("what", ["state", "goal", "aim"])
def test_plan_cost__refuses_what_is_not_finite(what, adds):
    values = {name: torch.zeros(3, 2) for name in ("state", "goal", "aim")}
    values[what][1, 0] = torch.nan
    costs = Costs({"g": LatentDistance(), "f": FactorDistance("x")}, {"g": 1.0, "f": 1.0})
    aims = Aims(goal=values["goal"], factors={"x": values["aim"]}, readouts={"x": lambda z: z})
    with pytest.raises(ValueError, match=rf"the {what}.*with 1 numbers that are not finite"):
        plan_cost(costs, adds, values["state"], aims)


def test_plan_cost__does_not_mind_what_no_term_needs(adds, candidates):
    costs = Costs({"effort": ActionCost()}, {"effort": 1.0})
    aims = Aims(goal=torch.full((7, 9), torch.nan), factors={"x": torch.zeros(1)})
    assert plan_cost(costs, adds, torch.zeros(3, 2), aims)(candidates()).shape == (3, 4)


def test_plan_cost__refuses_a_head_for_other_latents(adds):
    costs = Costs({"t": TemporalDistanceCost()}, {"t": 1.0})
    aims = Aims(goal=torch.zeros(3, 2), heads={"temporal_distance": TemporalDistance(5, (4,))})
    with pytest.raises(ValueError, match="'temporal_distance' takes latents of 5 numbers, the model's have 2"):
        plan_cost(costs, adds, torch.zeros(3, 2), aims)


def test_plan_cost__refuses_a_head_for_other_goals(remembers):
    costs = Costs({"t": TemporalDistanceCost()}, {"t": 1.0})
    aims = Aims(goal=torch.zeros(3, 2), heads={"temporal_distance": TemporalDistance(3, (4,))})
    with pytest.raises(ValueError, match="'temporal_distance' takes goals of 3 numbers, the model's have 2"):
        plan_cost(costs, remembers, torch.zeros(3, 3), aims)


@pytest.mark.parametrize("shape", [(3, 4, 0, 2), (2, 4, 5, 2), (3, 5, 2)])
def test_plan_cost__refuses_candidates_that_do_not_fit(shape, adds, to_goal):
    cost = plan_cost(to_goal, adds, torch.zeros(3, 2), Aims(goal=torch.zeros(3, 2)))
    with pytest.raises(ValueError, match=r"candidates must be \[B, N, H, A\], of B = 3 environments and over H ≥ 1"):
        cost(torch.zeros(shape))


def test_plan_cost__refuses_a_model_in_training_mode(adds, candidates, to_goal):
    cost = plan_cost(to_goal, adds.train(), torch.zeros(3, 2), Aims(goal=torch.zeros(3, 2)))
    with pytest.raises(ValueError, match=r"Adds is in training mode: call its eval\(\) first"):
        cost(candidates())


def test_costs__refuse_a_term_of_another_shape(adds, candidates):
    class PerStep(Term):
        def forward(self, imagined: Imagined) -> torch.Tensor:
            return imagined.latents.sum(dim=-1)

    cost = plan_cost(Costs({"odd": PerStep()}, {"odd": 1.0}), adds, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"the term 'odd' should be \(3, 4\), a cost a candidate: \(3, 4, 5\)"):
        cost(candidates())
