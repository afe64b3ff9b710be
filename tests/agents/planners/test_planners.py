"""What is true of every planner: each class that a yaml names is tested."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from agents.planners.categorical_cem import CategoricalCEM
from agents.planners.core import Planner, shifted
from agents.planners.random_shooting import RandomShooting

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "planner"
PLANNERS = {path.stem: get_class(OmegaConf.load(path)["_target_"]) for path in sorted(CONFIGS.glob("*.yaml"))}
NUMBERS = {name: planner for name, planner in PLANNERS.items() if planner is not CategoricalCEM}
LONG = {
    "random_shooting": {"candidates": 100_000},
    "mppi": {"iterations": 40, "std": 0.15},
    "gradient": {"iterations": 100},
}


@pytest.fixture(params=PLANNERS)
def planner(request) -> Planner:
    return PLANNERS[request.param]()


@pytest.fixture
def problem(planner, bowls, choices):
    """The same claim about numbers and about choices."""
    return (choices if isinstance(planner, CategoricalCEM) else bowls)()


def long(name: str) -> Planner:
    return PLANNERS[name](**(LONG.get(name) or {"iterations": 30}))


# What is found


@pytest.mark.parametrize("beyond", [0.7, 2.0], ids=["inside", "on the bounds"])
@pytest.mark.parametrize("name", NUMBERS)
def test_planner__finds_the_bottom_of_a_bowl(name, beyond, bowls):
    problem = bowls(beyond=beyond, horizon=3)
    best = problem.targets.clamp(problem.low, problem.high)
    assert bool((best == problem.targets).all()) == (beyond < 1)
    plan = problem.solve(long(name))
    half = (problem.high - problem.low) / 2
    error = ((plan.actions - best) / half).abs().max()
    assert error < (0.4 if name == "random_shooting" else 0.03)


@pytest.mark.parametrize("name", NUMBERS)
def test_planner__finds_the_way_around_a_wall(name):
    """An integrator is to get from 0 to (4, 0) in six steps, past a wall at x = 2 whose ends are at y = ±h.

    It pays for the squares of its steps, W for the square of what is missing in the end, and 10 a unit of how far from
    an end it went through the wall. The best way is straight to an end, three steps, and straight to the goal, or
    nearly: (4 + h²)/3 + (4 + h²)/(3 + 1/W). The straight way costs 16/(6 + 1/W) + 10·h: a local optimum.
    """
    end, weight, goal = torch.tensor([0.5, 1.0, 1.5]).double(), 20, torch.tensor([4.0, 0.0]).double()

    def cost(actions):
        at = torch.nn.functional.pad(actions.cumsum(dim=2), (0, 0, 1, 0))  # [B, N, H + 1, 2]
        x, y = at.unbind(dim=-1)
        passes = (x[..., :-1] < 2) & (x[..., 1:] >= 2)
        height = y[..., :-1] + (2 - x[..., :-1]) / torch.where(passes, x.diff(dim=-1), 1) * y.diff(dim=-1)
        into = torch.where(passes, (end[:, None, None] - height.abs()).clamp_min(0), 0).sum(dim=-1)
        missing = (at[:, :, -1] - goal).square().sum(dim=-1)
        return actions.square().sum(dim=(-1, -2)) + weight * missing + 10 * into

    best = (4 + end**2) / 3 + (4 + end**2) / (3 + 1 / weight)
    start, bound, generator = torch.zeros(3, 6, 2).double(), torch.ones(2).double(), torch.Generator().manual_seed(0)
    plan = long(name).plan(cost, start, -bound, bound, generator)
    assert (plan.costs >= best).all()
    torch.testing.assert_close(plan.costs, cost(plan.actions[:, None])[:, 0])
    assert (plan.costs < best * (2.2 if name == "random_shooting" else 1.15)).all()
    height = plan.actions.cumsum(dim=1)[..., 1].abs().max(dim=1).values
    assert name == "random_shooting" or (height > end - 0.1).all()


def test_planner__returns_the_best_candidate_that_the_cost_has_seen(planner, problem, watch):
    cost = watch(problem.cost)
    plan = problem.solve(planner, cost)
    lowest, index = cost.costs.min(dim=1)
    torch.testing.assert_close(plan.costs, lowest, rtol=0, atol=0)
    torch.testing.assert_close(plan.actions, cost.candidates[torch.arange(5), index], rtol=0, atol=0)
    assert cost.costs.shape[1] > 100
    assert (lowest < cost.costs[:, 0]).all()


def test_planner__judges_the_start_first(planner, problem, watch):
    cost, start = watch(problem.cost), problem.targets
    plan = problem.solve(planner, cost, start=start)
    assert (cost.candidates[:, 0] - start).abs().max() < 1e-12
    assert plan.costs.max() < 1e-20


def test_planner__needs_less_when_it_goes_on_from_the_last_plan(planner, bowls, choices, watch):
    """One step later, what the last plan has at the end is wrong. To halve that takes long from the middle."""
    problem = (choices if isinstance(planner, CategoricalCEM) else bowls)(horizon=8)
    plan = problem.solve(planner)
    start, kept = shifted(plan.actions, 1, problem.fill), shifted(plan.kept, 1, problem.fill)
    share = 1.0 if isinstance(planner, RandomShooting) else 0.5  # which can do no more than find its start again
    enough = share * problem.later().cost(start[:, None])[:, 0] + 1e-9

    def needed(**given):
        """How many candidates were judged before one was good enough, on average over environments."""
        cost = watch(problem.later().cost)
        problem.solve(planner, cost, seed=1, **given)
        return (cost.costs > enough[:, None]).int().cumprod(dim=1).sum(dim=1).double().mean()

    assert needed(start=start, kept=kept) < 0.7 * needed()


# On what it depends


@pytest.mark.parametrize("environments", [[0], [4, 2], [3, 3, 1, 0]], ids=str)
def test_planner__plans_the_same_for_an_environment_in_any_batch(planner, problem, environments):
    plan, part = problem.solve(planner), problem.of(environments).solve(planner)
    assert torch.equal(part.actions, plan.actions[environments])
    assert torch.equal(part.costs, plan.costs[environments])
    assert torch.equal(part.kept, plan.kept[environments])


@pytest.mark.parametrize(("at_once", "most"), [(1, 5), (9, 5), (1000, 1000)])
def test_planner__judges_so_many_at_once_and_plans_the_same(planner, problem, watch, at_once, most):
    cost, chunked = watch(problem.cost), type(planner)(at_once=at_once)
    plan, other = problem.solve(planner), problem.solve(chunked, cost)
    assert torch.equal(other.actions, plan.actions)
    assert torch.equal(other.costs, plan.costs)
    seen = max(call.shape[:2].numel() for call in cost.calls)
    assert seen <= most
    assert at_once < 1000 or seen > 45


def test_planner__depends_on_its_generator_alone(planner, problem):
    first = problem.solve(planner)
    torch.rand(3)
    before = torch.get_rng_state()
    again, other = problem.solve(planner), problem.solve(planner, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again.actions, first.actions)
    assert isinstance(planner, CategoricalCEM) or not torch.equal(other.actions, first.actions)


def test_planner__goes_on_with_its_generator(planner, problem, watch):
    generator, calls = torch.Generator().manual_seed(0), []
    for _ in range(2):
        cost = watch(problem.cost)
        planner.plan(cost, problem.start, problem.low, problem.high, generator)
        calls.append(cost.candidates)
    assert not torch.equal(*calls)


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_planner__leaves_no_trace(planner, problem, mode):
    """Neither in its arguments, nor in the gradients of a model that is asked."""
    weight = torch.ones((), dtype=torch.double, requires_grad=True)
    before = [tensor.clone() for tensor in (problem.start, problem.low, problem.high)]
    with mode():
        plan = problem.solve(planner, lambda actions: weight * problem.cost(actions))
    assert weight.grad is None
    assert not plan.actions.requires_grad
    assert not plan.costs.requires_grad
    for tensor, old in zip((problem.start, problem.low, problem.high), before, strict=True):
        assert torch.equal(tensor, old)
    assert torch.equal(plan.actions, problem.solve(planner).actions)


@pytest.mark.parametrize(("dtype", "of_costs"), [(torch.float, torch.float), (torch.float, torch.bfloat16)], ids=str)
def test_planner__works_in_the_precision_of_the_start(planner, bowls, choices, dtype, of_costs):
    problem = (choices if isinstance(planner, CategoricalCEM) else bowls)(dtype)
    wide = problem.solve(planner, low=problem.low.double(), high=problem.high.double())
    plan = problem.solve(planner, lambda actions: problem.cost(actions).to(of_costs))
    assert plan.actions.dtype == plan.costs.dtype == wide.actions.dtype == dtype
    assert (plan.costs < 0.6 * problem.cost(problem.start[:, None])[:, 0]).all()


# Bounds and broken costs


def test_planner__respects_bounds_always(planner, problem, watch):
    """Wherever the best would be, and wherever it starts."""
    cost = watch(lambda actions: -(actions * torch.tensor([1e6, -1e6] * 2)[: actions.shape[-1]]).sum(dim=(-1, -2)))
    start = problem.start if isinstance(planner, CategoricalCEM) else problem.start + 100
    plan = problem.solve(planner, cost, start=start, kept=start[:, None])
    for actions in (cost.candidates, plan.actions, plan.kept):
        assert (actions >= problem.low).all()
        assert (actions <= problem.high).all()
    if not isinstance(planner, CategoricalCEM):
        assert torch.equal(cost.candidates[:, 0], problem.high.expand_as(plan.actions))
        assert (plan.costs <= cost.costs[:, 0]).all()


@pytest.mark.parametrize("name", NUMBERS)
def test_planner__leaves_alone_what_cannot_be_changed(name, bowls):
    problem = bowls()
    low, high = problem.low.clone(), problem.high.clone()
    low[1] = high[1] = 5.3
    plan = problem.solve(PLANNERS[name](), low=low, high=high)
    assert (plan.actions[..., 1] == 5.3).all()
    error = (plan.actions - problem.targets)[..., 0].abs().max()
    assert error < 1 if name != "random_shooting" else 2


def test_planner__never_chooses_what_has_no_cost(planner, problem, watch):
    """NaN and inf lose wherever there is something else, whatever other environments have."""
    broken = torch.tensor([torch.nan, torch.inf, torch.nan, torch.inf, 0.0]).double()

    def cost(actions):
        first = actions[:, :, 0, 0]
        costs = problem.cost(actions) - 1000 * (first > problem.fill[0])
        return torch.where((first > problem.fill[0]) & ~(broken == 0)[:, None], broken[:, None], costs)

    seen = watch(cost)
    plan = problem.solve(planner, seen)
    finite = torch.where(seen.costs.isfinite(), seen.costs, torch.inf)
    assert torch.equal(plan.costs, finite.min(dim=1).values)
    assert (plan.actions[:4, 0, 0] <= problem.fill[0]).all()
    assert (plan.costs[:4] >= 0).all()
    assert plan.costs[4] < -900
    assert (plan.costs[:4] < problem.cost(problem.start[:, None])[:4, 0]).all()
    assert seen.candidates.isfinite().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_planner__returns_the_start_where_nothing_has_a_cost(planner, problem, watch, value):
    def cost(actions):
        costs = problem.cost(actions)
        return torch.where(torch.tensor([False, True, False, False, False])[:, None], value, costs)

    start = problem.targets if isinstance(planner, CategoricalCEM) else problem.start + 0.7
    seen = watch(cost)
    plan = problem.solve(planner, seen, start=start)
    assert (plan.actions[1] - start[1].clamp(problem.low, problem.high)).abs().max() < 1e-12
    assert plan.costs.isinf().tolist() == [False, True, False, False, False]
    assert seen.candidates.isfinite().all()
    usual = problem.solve(planner, start=start)
    for i in (0, 2, 3, 4):
        assert torch.equal(plan.actions[i], usual.actions[i])


def test_planner__takes_the_lowest_of_costs_even_if_that_is_minus_infinity(planner, problem, watch):
    def cost(actions):
        costs = problem.cost(actions)
        return torch.where(costs < 0.6 * problem.cost(problem.start[:, None]), -torch.inf, costs)

    seen = watch(cost)
    plan = problem.solve(planner, seen)
    assert seen.candidates.isfinite().all()
    assert (cost(plan.actions[:, None]) == -torch.inf).all()


def test_planner__lives_with_costs_that_are_all_the_same(planner, problem, watch):
    cost = watch(lambda actions: 7 + 0 * actions.sum(dim=(-1, -2)))
    plan = problem.solve(planner, cost)
    assert (plan.costs == 7).all()
    assert cost.candidates.isfinite().all()


# Bad input


@pytest.mark.parametrize(
    ("argument", "change", "message"),
    [
        ("start", lambda x: x[:, :0], "with a horizon H of 1 or more, got .* \\(5, 0,"),
        ("start", lambda x: x[0], "floats \\[B, H, A\\]"),
        ("start", lambda x: x.long(), "floats \\[B, H, A\\] .* got torch.int64"),
        ("start", lambda x: x * torch.nan, "finite actions, got NaN or inf"),
        ("low", lambda x: x - torch.inf, "bounds must be finite"),
        ("high", lambda x: x * torch.nan, "bounds must be finite"),
        ("high", lambda x: x - 100, "low not above high"),
        ("low", lambda x: x[:1], r"must be \[A\], here \[\d\], got \[1\] and \[\d\]"),
        ("high", lambda x: x.expand(5, -1), r"must be \[A\], here \[\d\], got \[\d\] and \[5, \d\]"),
        ("kept", lambda x: x, "kept must be"),
        ("kept", lambda x: x[:, None, :1], "kept must be"),
        ("kept", lambda x: x[:, None] * torch.inf, "finite actions, got NaN or inf"),
    ],
)
def test_planner__refuses(planner, problem, argument, change, message):
    value = change(problem.start if argument == "kept" else getattr(problem, argument))
    with pytest.raises(ValueError, match=message):
        problem.solve(planner, **{argument: value})


@pytest.mark.parametrize("change", [lambda c: c[:, :1], lambda c: c.mean(), lambda c: c[..., None], lambda c: c[0]])
def test_planner__refuses_a_cost_of_another_shape(planner, problem, change):
    with pytest.raises(ValueError, match="a cost gives one number for each candidate, "):
        problem.solve(type(planner)(at_once=50), lambda actions: change(problem.cost(actions)))


def test_planner__refuses_a_generator_on_another_device(planner, problem):
    class Elsewhere:
        device = torch.device("meta")

    with pytest.raises(ValueError, match="generator must be on the device of start, cpu, got meta"):
        planner.plan(problem.cost, problem.start, problem.low, problem.high, Elsewhere())


@pytest.mark.parametrize("name", ["gradient", "cem_gradient"])
def test_gradient_planner__refuses_a_cost_without_a_gradient(name, bowls):
    problem = bowls()
    with pytest.raises(ValueError, match="needs a cost that has a gradient; choose planner=cem"):
        problem.solve(PLANNERS[name](), lambda actions: problem.cost(actions.detach()))
