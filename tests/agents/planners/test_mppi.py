from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.planners.mppi import MPPI


def weights(costs, settings):
    """By the formula, of one environment."""
    scores = costs / (costs.std() if settings["normalise"] else 1)
    unnormalised = np.exp(-(scores - scores.min()) / settings["temperature"])
    return unnormalised / unnormalised.sum()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_mppi__is_the_algorithm_environment_by_environment(normalise, temperature, bowls, watch):
    settings = {"normalise": normalise, "temperature": temperature}
    planner, problem = MPPI(candidates=9, iterations=3, std=0.6, **settings), bowls()
    cost = watch(problem.cost)
    problem.solve(planner, cost)
    low, high = problem.low.numpy(), problem.high.numpy()
    for i in range(5):
        mean, generator, judged = problem.start[i].numpy(), torch.Generator().manual_seed(0), []
        for _ in range(3):
            noise = torch.randn(9, 4, 2, generator=generator, dtype=torch.double).numpy()
            plans = np.clip(mean + 0.6 * (high - low) / 2 * noise, low, high)
            plans[0] = mean
            costs = problem.of([i]).cost(torch.tensor(plans)[None])[0].numpy()
            mean = np.tensordot(weights(costs, settings), plans, axes=1)
            judged.append(plans)
        np.testing.assert_allclose(cost.candidates[i], np.concatenate([*judged, mean[None]]), rtol=0, atol=1e-12)


def test_mppi__weights_by_hand():
    planner = MPPI(temperature=2.0, normalise=False)
    costs = torch.tensor([[1.0, 3.0, torch.inf], [5.0, 5.0, 5.0], [torch.inf] * 3])
    e = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(planner.weights(costs), [[e, 1 - e, 0], [1 / 3] * 3, [0] * 3], rtol=1e-6)


def test_mppi__normalised_weights_do_not_care_for_the_unit_of_costs():
    costs = torch.randn(4, 50, dtype=torch.double)
    costs[:, :5] = torch.inf
    planner = MPPI(normalise=True)
    torch.testing.assert_close(planner.weights(1e3 * costs - 7e4), planner.weights(costs))
    scaled = costs * torch.tensor([1e-3, 1, 1e3, 1])[:, None]  # each environment has its own unit
    torch.testing.assert_close(planner.weights(scaled), planner.weights(costs))
    assert not torch.allclose(MPPI(normalise=False).weights(2 * costs), MPPI(normalise=False).weights(costs))


def test_mppi__weights_of_normalised_costs_leave_out_what_has_none():
    costs = torch.tensor([[1.0, 3.0, torch.inf]])
    e = 1 / (1 + np.exp(-2))  # of standard deviation 1
    np.testing.assert_allclose(MPPI(temperature=1.0).weights(costs), [[e, 1 - e, 0]], rtol=1e-6)


def test_mppi__the_colder_the_nearer_to_the_best():
    costs = torch.rand(3, 100)
    best = torch.nn.functional.one_hot(costs.argmin(dim=1), 100).float()
    distances = [float((MPPI(temperature=t).weights(costs) - best).abs().sum()) for t in (10, 1, 0.1, 1e-4)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3
    torch.testing.assert_close(MPPI(temperature=1e6).weights(costs), torch.full((3, 100), 0.01), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_mppi__refuses_temperatures_that_are_none(value):
    with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {value}"):
        MPPI(temperature=value)


def test_mppi__weights_of_one_cost_and_of_equal_ones():
    costs = torch.tensor([[7.0, torch.inf, torch.inf], [7.0, 7.0, 7.0]])
    np.testing.assert_allclose(MPPI(normalise=True).weights(costs), [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)


def test_mppi__weights_are_precise_for_costs_that_hardly_differ():
    costs = torch.randint(64, (3, 50)) / 2**16  # to which 64 can be added without rounding
    for planner in (MPPI(temperature=1e-4, normalise=False), MPPI(temperature=1e-4)):
        torch.testing.assert_close(planner.weights(64 + costs), planner.weights(costs), rtol=1e-3, atol=1e-6)
