from __future__ import annotations

import torch

from agents.planners.gradient import Gradient


def test_gradient_planner__is_adam_with_projection(bowls, watch):
    """Computed by hand, in units of half the way from bound to bound."""
    problem, planner = bowls(beyond=2.0), Gradient(starts=4, iterations=12, lr=0.3, std=0.5)
    cost = watch(problem.cost)
    problem.solve(planner, cost)
    middle, half = (problem.low + problem.high) / 2, (problem.high - problem.low) / 2
    targets = (problem.targets - middle) / half
    noise = torch.randn(4, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    noise[0] = 0
    plans = ((problem.start[:, None] - middle) / half + 0.5 * noise).clamp(-1, 1)
    first, second = torch.zeros_like(plans), torch.zeros_like(plans)
    for k in range(13):
        torch.testing.assert_close(cost.calls[k], middle + half * plans, rtol=0, atol=1e-9)
        slope = 2 * (plans - targets[:, None])
        first, second = 0.7 * first + 0.3 * slope, 0.9 * second + 0.1 * slope**2
        step = (first / (1 - 0.7 ** (k + 1))) / ((second / (1 - 0.9 ** (k + 1))).sqrt() + 1e-8)
        plans = (plans - 0.3 * step).clamp(-1, 1)
    assert len(cost.calls) == 13


def test_gradient_planner__does_not_care_for_the_units_of_actions(bowls):
    problem = bowls()
    scale = torch.tensor([1e3, 1e-3], dtype=torch.double)
    plan = problem.solve(Gradient())
    arguments = {name: getattr(problem, name) * scale for name in ("start", "low", "high")}
    other = problem.solve(Gradient(), lambda actions: problem.cost(actions / scale), **arguments)
    torch.testing.assert_close(other.actions / scale, plan.actions, rtol=0, atol=1e-5)


def test_gradient_planner__arrives_exactly_on_the_bounds(bowls):
    problem = bowls(beyond=3.0)
    out = (problem.targets < problem.low) | (problem.targets > problem.high)
    assert 0.3 < out.double().mean() < 0.9
    plan = problem.solve(Gradient(iterations=60))
    assert torch.equal(plan.actions[out], problem.targets.clamp(problem.low, problem.high)[out])


def test_gradient_planner__other_starts_leave_a_local_optimum():
    """A double well, whose deeper one is behind a hill."""

    def cost(actions):
        x = actions.sum(dim=(-1, -2))
        return (x**2 - 0.25) ** 2 - 0.05 * x

    start, one = torch.full((1, 1, 1), -0.5), torch.ones(1)
    generator = torch.Generator().manual_seed(0)
    alone = Gradient(starts=1, lr=0.02).plan(cost, start, -one, one, generator)
    many = Gradient(starts=20, lr=0.02).plan(cost, start, -one, one, generator)
    assert alone.actions.item() < -0.4
    assert many.actions.item() > 0.4
    assert many.costs < alone.costs


def test_gradient_planner__goes_on_where_one_plan_has_no_gradient(bowls):
    problem = bowls()

    def cost(actions):
        broken = torch.zeros_like(actions[:, :, 0, 0])
        broken[:, 1] = torch.nan
        return problem.cost(actions) * (1 + broken)

    plan, usual = problem.solve(Gradient(starts=2, std=0.0), cost), problem.solve(Gradient(starts=1))
    torch.testing.assert_close(plan.actions, usual.actions)
