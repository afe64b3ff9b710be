from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.planners.cem import CEM

SMALL = {"candidates": 12, "elites": 4, "iterations": 3}


def reference(planner, problem, i, cost, seed=0):
    """The algorithm for environment ``i`` alone, in plain numpy: what it judges, [ΣN, H, A]."""
    low, high, mean = problem.low.numpy(), problem.high.numpy(), problem.start[i].numpy()
    half, generator, judged = (high - low) / 2, torch.Generator().manual_seed(seed), []
    std = np.broadcast_to(planner.std * half, mean.shape)
    for _ in range(planner.iterations):
        noise = torch.randn(planner.candidates, *mean.shape, generator=generator, dtype=torch.double).numpy()
        plans = [np.clip(mean + std * (noise[n] if n else 0), low, high) for n in range(planner.candidates)]
        costs = [cost(plan) for plan in plans]
        elites = np.stack([plans[n] for n in np.argsort(costs)[: planner.elites] if np.isfinite(costs[n])])
        mean = planner.momentum * mean + (1 - planner.momentum) * elites.mean(axis=0)
        std = planner.momentum * std + (1 - planner.momentum) * elites.std(axis=0)
        std = np.maximum(std, planner.min_std * half)
        judged += plans
    return np.stack([*judged, mean])


@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.3}, {"min_std": 0.4, "std": 0.8}, {"elites": 1, "min_std": 0.0}], ids=str
)
@pytest.mark.parametrize("beyond", [0.7, 2.0])
def test_cem__is_the_algorithm_environment_by_environment(settings, beyond, bowls, watch):
    planner, problem = CEM(**(SMALL | settings)), bowls(beyond=beyond)
    cost = watch(problem.cost)
    problem.solve(planner, cost)
    for i in range(5):
        expected = reference(
            planner, problem, i, lambda plan, i=i: float(problem.of([i]).cost(torch.tensor(plan)[None]))
        )
        np.testing.assert_allclose(cost.candidates[i], expected, rtol=0, atol=1e-12)


def test_cem__fits_to_what_has_a_cost(bowls, watch):
    """To fewer than the four that it is to fit to, where fewer have one."""
    planner, problem = CEM(**SMALL), bowls()

    def of(environment):
        def cost(actions):
            first = actions[..., 0, 0]
            return torch.where(first > -1.2, torch.nan, environment.cost(actions))

        return cost

    seen = watch(of(problem))
    problem.solve(planner, seen)
    count = seen.answers[0].isfinite().sum(dim=1)
    assert ((count > 0) & (count < 4)).all()
    for i in range(5):
        one = of(problem.of([i]))
        expected = reference(planner, problem, i, lambda plan, one=one: float(one(torch.tensor(plan)[None, None])))
        np.testing.assert_allclose(seen.candidates[i], expected, rtol=0, atol=1e-12)


def test_cem__stays_where_nothing_has_a_cost(bowls, watch):
    problem = bowls()
    cost = watch(lambda actions: torch.full(actions.shape[:2], torch.nan, dtype=actions.dtype))
    problem.solve(CEM(candidates=4000, elites=10, iterations=2, std=0.2, at_once=10**6), cost)
    spread = (cost.calls[1] - problem.start[:, None]).std(dim=1) / ((problem.high - problem.low) / 2)
    assert (spread - 0.2).abs().max() < 0.02
    assert torch.equal(cost.calls[2][:, 0], problem.start)


def test_cem__keeps_its_elites_the_best_first(bowls):
    problem = bowls()
    plan = problem.solve(CEM())
    costs = problem.cost(plan.kept)
    assert costs.shape == (5, 30)
    assert (costs.diff(dim=1) >= 0).all()
    assert (plan.costs <= costs[:, 0]).all()
