from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from agents.planners.categorical_cem import CategoricalCEM, drawn

MOVES = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]])
HORIZON = 8


def maze(actions):
    """How far from the goal eight moves from (0, 0) lead, on a grid: one-hot [B, N, 8, 4] -> [B, N].

    A wall at x = 2 has one door, beside the straight way in two environments of three. Moves into the wall do nothing.
    Equal ways differ by what their moves cost.
    """
    batch, count = actions.shape[:2]
    door = torch.tensor([2, -2, 0])[:batch, None]
    goal = torch.tensor([[4, 0], [3, -1], [4, 2]])[:batch, None]
    price = torch.tensor([0.01, 0.02, 0.03, 0.04]) + 0.001 * torch.arange(HORIZON)[:, None]
    at = torch.zeros(batch, count, 2, dtype=torch.long)
    for step in range(HORIZON):
        next_at = at + MOVES[actions[:, :, step].argmax(dim=-1)]
        blocked = (next_at[..., 0] == 2) & (next_at[..., 1] != door)
        at = torch.where(blocked[..., None], at, next_at)
    return (at - goal).abs().sum(dim=-1) + (actions * price).sum(dim=(-1, -2))


def solve(planner, cost, batch=3, choices=4, horizon=HORIZON, seed=0, start=None):
    uniform = torch.full((batch, horizon, choices), 1 / choices)
    bounds = torch.zeros(choices), torch.ones(choices)
    return planner.plan(cost, uniform if start is None else start, *bounds, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def best():
    """The lowest cost of all 65 536 plans, of each environment."""
    every = F.one_hot(torch.tensor(list(product(range(4), repeat=HORIZON))), 4).float()
    return maze(every.expand(3, -1, -1, -1)).min(dim=1).values


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_categorical_cem__finds_the_best_of_all_plans(seed, best):
    plan = solve(CategoricalCEM(candidates=500, elites=25, iterations=15, momentum=0.3), maze, seed=seed)
    assert best.max() < 1  # goals can be reached
    assert (plan.costs - best).abs().max() < 0.05
    torch.testing.assert_close(maze(plan.actions[:, None])[:, 0], plan.costs)


def test_categorical_cem__candidates_are_one_hot(watch):
    cost = watch(maze)
    plan = solve(CategoricalCEM(), cost)
    for actions in (cost.candidates, plan.actions):
        assert ((actions == 0) | (actions == 1)).all()
        assert (actions.sum(dim=-1) == 1).all()


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.4}, {"exploration": 0.5}, {"elites": 1}], ids=str)
def test_categorical_cem__draws_from_what_the_elites_have_chosen(settings, watch):
    """Frequencies in the second iteration are those of the elites of the first, mixed as the formula says."""
    planner, count = (
        CategoricalCEM(**({"candidates": 20_000, "elites": 40, "iterations": 2, "at_once": 10**6} | settings)),
        20_000,
    )
    prices = torch.rand(3, 1, HORIZON, 4, dtype=torch.double)  # no two plans cost the same
    cost = watch(lambda actions: (prices * actions).sum(dim=(-1, -2)))
    solve(planner, cost)
    first, second, _ = cost.calls
    for i in range(3):
        elites = first[i][cost.answers[0][i].argsort()[: planner.elites]].mean(dim=0)
        fitted = (1 - planner.momentum) * elites + planner.momentum / 4
        expected = (1 - planner.exploration) * fitted + planner.exploration / 4
        found = second[i, 1:].mean(dim=0)
        assert (found - expected).abs().max() < 6 * 0.5 / count**0.5
        assert torch.equal(second[i, 0].argmax(dim=-1), fitted.argmax(dim=-1))


def test_categorical_cem__fits_to_what_has_a_cost(watch):
    def cost(actions):
        return torch.where(actions[:, :, 0, 2] == 1, 0.0, torch.nan)

    seen = watch(cost)
    plan = solve(CategoricalCEM(candidates=60, exploration=0.0), seen)
    assert (seen.answers[0].isfinite().sum(dim=1) < 30).all()  # of 30 elites
    assert (seen.calls[1][:, :, 0, 2] == 1).all()
    assert (plan.costs == 0).all()


def test_categorical_cem__stays_where_nothing_has_a_cost(watch):
    start = torch.tensor([0.7, 0.1, 0.2, 0.0]).expand(1, HORIZON, 4)
    seen = watch(lambda actions: torch.full(actions.shape[:2], torch.nan))
    plan = solve(CategoricalCEM(candidates=20_000, exploration=0.0, at_once=10**6), seen, start=start, batch=1)
    assert (seen.calls[-2][0].mean(dim=0) - start[0]).abs().max() < 0.02
    assert (plan.actions[0, :, 0] == 1).all()


def test_categorical_cem__leaves_the_plan_that_it_starts_from(best):
    """Probabilities of 0 and 1 are no trap, thanks to exploration."""
    start = F.one_hot(torch.ones(3, HORIZON).long(), 4).float()
    planner = CategoricalCEM(candidates=500, elites=25, iterations=20, exploration=0.2)
    assert (solve(planner, maze, start=start).costs - best < 0.2).all()
    stuck = solve(CategoricalCEM(exploration=0.0), maze, start=start)
    assert torch.equal(stuck.actions, start)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_drawn__choices_have_their_probabilities(dtype):
    probabilities = torch.tensor([[[0.5, 0.0, 0.3, 0.2], [0.0, 1.0, 0.0, 0.0]], [[0.1] * 3 + [0.7], [0.0] * 3 + [1.0]]])
    noise = torch.cat([torch.zeros(1, 2), torch.rand(40_000, 2), torch.full((1, 2), 1 - 2**-24)])
    choices = drawn(probabilities.to(dtype), noise.to(dtype))
    assert choices.dtype == dtype
    assert (choices.sum(dim=-1) == 1).all()
    assert (choices.mean(dim=1) - probabilities).abs().max() < 5 * 0.5 / 200
    assert (choices.mean(dim=1)[probabilities == 0] == 0).all()


def test_drawn__always_chooses_even_if_rounding_leaves_less_than_1():
    choices = drawn(torch.tensor([[[0.3, 0.3, 0.3999]]]), torch.tensor([[0.2], [0.99995]]))
    assert choices[0, :, 0].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_categorical_cem__refuses_a_start_that_is_no_probability():
    with pytest.raises(ValueError, match=r"start holds probabilities, of sum 1 at each step, got sums from 2\.0"):
        solve(CategoricalCEM(), maze, start=torch.full((3, HORIZON, 4), 0.5))


def test_categorical_cem__refuses_bounds_of_numbers():
    start = torch.full((3, HORIZON, 4), 0.25)
    with pytest.raises(ValueError, match="choices are one-hot, with bounds 0 and 1, got"):
        CategoricalCEM().plan(maze, start, -torch.ones(4), torch.ones(4), torch.Generator())
