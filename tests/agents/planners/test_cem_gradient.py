from __future__ import annotations

import pytest
import torch

from agents.planners.cem import CEM
from agents.planners.cem_gradient import CEMGradient


def test_cem_gradient__is_cem_and_then_refines_its_best(bowls, watch):
    problem, planner = bowls(), CEMGradient(iterations=3, refined=4, steps=6)
    cost, cem = watch(problem.cost), watch(problem.cost)
    problem.solve(planner, cost)
    found = problem.solve(CEM(iterations=3), cem)
    for ours, theirs in zip(cost.calls, cem.calls, strict=False):
        assert torch.equal(ours, theirs)
    refined = cost.calls[len(cem.calls) :]
    assert [part.shape[1] for part in refined] == [4] * 7
    torch.testing.assert_close(refined[0][:, 0], found.actions)
    torch.testing.assert_close(refined[0][:, 1:], found.kept[:, 1:4])


def test_cem_gradient__is_much_better_than_its_cem(bowls):
    problem = bowls()
    cem, both = problem.solve(CEM(iterations=5)), problem.solve(CEMGradient(iterations=5))
    assert (both.costs < 0.1 * cem.costs).all()


def test_cem_gradient__finds_the_well_that_descent_alone_misses():
    """Descent starts beside a shallow well; CEM finds the deep one, and descent its bottom, to four digits."""

    def cost(actions):
        x = actions.sum(dim=(-1, -2))
        return (x**2 - 0.25) ** 2 - 0.05 * x

    start, one, generator = torch.full((1, 1, 1), -0.5), torch.ones(1), torch.Generator().manual_seed(0)
    plan = CEMGradient(candidates=50, elites=5, lr=0.02, steps=40).plan(cost, start, -one, one, generator)
    x = plan.actions.item()
    assert abs(4 * x**3 - x - 0.05) < 1e-4
    assert x > 0.4


def test_cem_gradient__refines_no_more_than_there_are_elites():
    with pytest.raises(ValueError, match="elites must be at least 6, got 5"):
        CEMGradient(elites=5, refined=6)
