from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.planners.core import shifted
from agents.planners.icem import ICEM, coloured_noise


def noise(count, horizon, size, beta, dtype=torch.double):
    return coloured_noise(count, torch.zeros(horizon, size, dtype=dtype), beta, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("horizon", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_coloured_noise__has_variance_1_at_every_step(horizon, beta):
    samples = noise(20_000, horizon, 3, beta)
    assert samples.shape == (20_000, horizon, 3)
    assert samples.mean(dim=0).abs().max() < 5 / 20_000**0.5
    assert (samples.var(dim=0) - 1).abs().max() < 6 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("horizon", [10, 11])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 4.0])
def test_coloured_noise__has_the_power_spectrum_of_its_colour(horizon, beta):
    power = np.square(np.abs(np.fft.rfft(noise(20_000, horizon, 3, beta).numpy(), axis=1))).mean(axis=(0, 2))
    frequency = np.maximum(np.fft.rfftfreq(horizon), 1 / horizon)
    np.testing.assert_allclose(power / power[1], (frequency / frequency[1]) ** -beta, rtol=0.06)


def test_coloured_noise__of_samples_and_components_is_independent():
    samples = noise(20_000, 6, 2, 2.0)
    rows = torch.cat([samples[:-1], samples[1:]], dim=2).flatten(1)  # [·, H · 2A]
    correlations = torch.corrcoef(rows.T).reshape(6, 4, 6, 4).transpose(1, 2)  # [H, H, 2A, 2A]
    assert (correlations * (1 - torch.eye(4))).abs().max() < 6 / 20_000**0.5
    assert correlations[2, 3, 0, 0] > 0.3


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_coloured_noise__has_the_dtype_that_is_asked_for(dtype):
    assert noise(3, 4, 2, 1.0, dtype).dtype == dtype


def reference(planner, problem, i, kept, seed=0):
    """The paper's algorithm for environment ``i`` alone, in plain numpy: what it judges in every iteration."""
    low, high, mean = problem.low.numpy(), problem.high.numpy(), problem.start[i].numpy()
    cost = problem.of([i]).cost
    half, generator, judged = (high - low) / 2, torch.Generator().manual_seed(seed), []
    std = np.broadcast_to(planner.std * half, mean.shape)
    for iteration in range(planner.iterations):
        count = max(int(planner.candidates / planner.decay**iteration), 2 * planner.elites)
        draws = coloured_noise(count, problem.start[i], planner.beta, generator).numpy()
        plans = [np.clip(mean + std * draw, low, high) for draw in draws]
        if iteration in (0, planner.iterations - 1):
            plans[0] = mean
        plans += kept
        order = np.argsort([float(cost(torch.tensor(plan)[None, None])) for plan in plans])
        elites = [plans[n] for n in order[: planner.elites]]
        kept = elites[: round(planner.kept * planner.elites)]
        mean = planner.momentum * mean + (1 - planner.momentum) * np.mean(elites, axis=0)
        std = planner.momentum * std + (1 - planner.momentum) * np.std(elites, axis=0)
        std = np.maximum(std, planner.min_std * half)
        judged.append(np.stack(plans))
    return judged, kept


@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.5, "kept": 0.0}, {"beta": 0.0, "decay": 2.0, "kept": 1.0}], ids=str
)
def test_icem__is_the_algorithm_environment_by_environment(settings, bowls, watch):
    planner, problem = ICEM(**({"candidates": 20, "elites": 5, "iterations": 4} | settings)), bowls()
    last = torch.lerp(problem.low, problem.high, torch.rand(5, 3, 4, 2).double())
    for given in ({}, {"kept": last}):
        cost = watch(problem.cost)
        plan = problem.solve(planner, cost, **given)
        for i in range(5):
            judged, kept = reference(planner, problem, i, list(last[i].numpy()) if given else [])
            assert len(cost.calls) == len(judged)
            for call, expected in zip(cost.calls, judged, strict=True):
                np.testing.assert_allclose(call[i], expected, rtol=0, atol=1e-12)
            assert plan.kept.shape[1] == len(kept)
            np.testing.assert_allclose(plan.kept[i], np.reshape(kept, (-1, 4, 2)), rtol=0, atol=1e-12)


def test_icem__judges_fewer_every_iteration(bowls, watch):
    cost = watch(bowls().cost)
    bowls().solve(ICEM(candidates=100, elites=10, iterations=9, decay=1.25, kept=0.3), cost)
    drawn = [100, 80, 64, 51, 40, 32, 26, 20, 20]
    assert [call.shape[1] for call in cost.calls] == [n + 3 * (i > 0) for i, n in enumerate(drawn)]


def test_icem__finds_smooth_plans_sooner_than_rough_ones(bowls):
    """And rough ones sooner with white noise."""
    rough = bowls(horizon=12)
    for smooth in (False, True):
        targets = rough.targets[:, :1].expand(-1, 12, -1) if smooth else rough.targets
        problem = type(rough)(rough.start, targets, rough.low, rough.high, rough.fill)
        white, red = (problem.solve(ICEM(beta=beta)).costs.mean() for beta in (0.0, 2.0))
        assert (red < 0.7 * white) if smooth else (white < 0.7 * red)


def test_icem__goes_on_from_what_the_last_plan_has_kept(bowls, watch):
    problem, planner = bowls(), ICEM()
    kept = shifted(problem.solve(planner).kept, 1, problem.fill)
    assert kept.shape == (5, 3, 4, 2)
    cost = watch(problem.later().cost)
    problem.solve(planner, cost, kept=kept)
    assert torch.equal(cost.calls[0][:, -3:], kept)
