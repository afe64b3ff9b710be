from __future__ import annotations

import torch

from agents.planners.random_shooting import RandomShooting


def test_random_shooting__candidates_are_uniform_within_the_bounds(bowls, watch):
    problem = bowls(horizon=3)
    cost = watch(problem.cost)
    problem.solve(RandomShooting(candidates=20_001), cost)
    unit = (cost.candidates[:, 1:] - problem.low) / (problem.high - problem.low)  # [5, 20000, 3, 2]
    assert torch.equal(unit[0], unit[3])  # noise is shared
    gap = (unit[0].sort(dim=0).values - torch.arange(20_000)[:, None, None] / 20_000).abs().max()
    assert gap < (-torch.tensor(1e-6 / 2).log() / (2 * 20_000)).sqrt() + 1e-4  # Kolmogorov-Smirnov at p = 1e-6
    columns = torch.corrcoef(unit[0].flatten(1).T) - torch.eye(6)
    assert columns.abs().max() < 5 / 20_000**0.5


def test_random_shooting__judges_so_many(bowls, watch):
    cost = watch(bowls().cost)
    bowls().solve(RandomShooting(candidates=17), cost)
    assert cost.candidates.shape == (5, 17, 4, 2)


def test_random_shooting__of_one_candidate_is_the_start(bowls):
    problem = bowls()
    assert torch.equal(problem.solve(RandomShooting(candidates=1)).actions, problem.start)
