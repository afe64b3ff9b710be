"""Planning again and again: what is carried out, what is gone on from, and what is refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.mpc import MPC, SearchSpace
from agents.planners.categorical_cem import CategoricalCEM
from agents.planners.cem import CEM
from agents.planners.icem import ICEM
from agents.planners.random_shooting import RandomShooting
from agents.simulation import Wanted, inner_world, simulated_cost
from envs.core import apart

SMALL = CEM(candidates=40, elites=6, iterations=3)
BOX = SearchSpace.of(spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([1.0, 6.0], np.float32)))


class Seen:
    """A cost that draws plans to a target, and remembers all candidates of every decision."""

    def __init__(self, target: torch.Tensor) -> None:
        self.target, self.asked = target, list[list[torch.Tensor]]()

    def __call__(self):
        self.asked.append([])

        def cost(actions):
            self.asked[-1].append(actions)
            return (actions - self.target[:, None, None]).square().sum(dim=(-1, -2))

        return cost


@pytest.mark.parametrize(("executed", "repeat"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_mpc__carries_out_a_plan_and_makes_the_next_one_when_it_is_due(executed, repeat):
    plans = []
    cost = Seen(torch.tensor([[0.5, 3.0], [-0.5, 5.0]]))
    mpc = MPC(SMALL, BOX, 3, executed, repeat, decided=lambda plan, judged: plans.append((plan.actions, judged)))
    steps = 2 * executed * repeat + 1
    done = [mpc.act(2, cost) for _ in range(steps)]
    assert len(cost.asked) == len(plans) == 3
    for step, actions in enumerate(done):
        number, within = divmod(step, executed * repeat)
        assert torch.equal(actions, plans[number][0][:, within // repeat])
    assert all(judged == 3 * 40 + 1 for _, judged in plans)
    assert all(x.shape[2] == 3 * repeat for asked in cost.asked for x in asked)
    held = cost.asked[0][0].unflatten(2, (3, repeat))
    assert torch.equal(held, held[:, :, :, :1].expand_as(held))


def test_mpc__begins_where_the_last_plan_left_off():
    cost = Seen(torch.tensor([[0.5, 3.0]]))
    mpc = MPC(SMALL, BOX, 4, executed=1)
    mpc.act(1, cost)
    mpc.act(1, cost)
    first = [asked[0][:, 0] for asked in cost.asked]  # what a search begins with is judged first
    assert torch.equal(first[0], torch.tensor([0.0, 4.0]).expand(1, 4, 2))
    best = torch.cat([x.flatten(0, 1) for x in cost.asked[0]])
    best = best[(best - cost.target).square().sum(dim=(-1, -2)).argmin()]
    assert torch.equal(first[1][0, :3], best[1:]) and torch.equal(first[1][0, 3], torch.tensor([0.0, 4.0]))


def test_mpc__hands_on_what_a_planner_keeps():
    planner = ICEM(candidates=30, elites=10, iterations=2)
    cost = Seen(torch.tensor([[0.5, 3.0]]))
    plans = []
    mpc = MPC(planner, BOX, 3, decided=lambda plan, judged: plans.append(plan))
    mpc.act(1, cost)
    mpc.act(1, cost)
    kept = plans[0].kept[0, 0, 1:]
    assert any(torch.equal(x[:2], kept) for x in cost.asked[1][0][0])


@pytest.mark.parametrize("planner", [SMALL, RandomShooting(candidates=50), ICEM(candidates=30, iterations=2)])
def test_mpc__does_in_an_environment_what_depends_on_that_alone(planner):
    target = torch.tensor([[0.5, 3.0], [-0.5, 5.0], [0.1, 2.5]])

    def acted(rows, seed=7):
        mpc, cost = MPC(planner, BOX, 3, seed=seed), Seen(target[rows])
        return torch.stack([mpc.act(len(rows), cost) for _ in range(3)])

    together = acted([0, 1, 2])
    for row in range(3):
        assert torch.equal(acted([row])[:, 0], together[:, row])
    assert torch.equal(acted([0, 1, 2]), together) and not torch.equal(acted([0, 1, 2], seed=8), together)


def test_mpc__reaches_goals_in_the_true_world():
    env = gymnasium.make_vec("jepa_worlds/MovingDotReach-v0", num_envs=4, max_episode_steps=12)
    env.reset(seed=3)
    there, space = env.unwrapped, SearchSpace.of(env.single_action_space)
    goal = there.state["goal"]

    mpc = MPC(CEM(candidates=60, elites=8, iterations=4), space, 6)
    assert (apart(there.state["location"], goal) > 2).all()
    for _ in range(12):
        world, state = inner_world(there), there.state
        actions = mpc.act(4, lambda: simulated_cost(world, state, space, Wanted("location", goal)))  # noqa: B023
        _, _, _, _, infos = env.step(space.taken(actions))
    assert (apart(infos["factors"]["location"], goal) < 0.7).all()


def test_mpc__searches_choices():
    space = SearchSpace.of(spaces.Discrete(3, start=5))
    target = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    mpc = MPC(CategoricalCEM(candidates=30, elites=5, iterations=4), space, 2)
    assert space.taken(mpc.act(2, Seen(target))).tolist() == [7, 5]


def test_search_space__gives_environments_what_they_take():
    box = SearchSpace.of(spaces.Box(-2, 2, (2, 2), np.float64))
    taken = box.taken(torch.tensor([[1.0, 2.0, -1.0, 0.5]]))
    assert taken.dtype == np.float64 and taken.tolist() == [[[1, 2], [-1, 0.5]]]
    assert box.low.tolist() == [-2] * 4 and box.fill.tolist() == [0] * 4 and not box.choices


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.MultiDiscrete([2, 3]),
    ],
)
def test_search_space__refuses_what_cannot_be_searched(space):
    with pytest.raises(ValueError, match="finite bounds, or Discrete; got"):
        SearchSpace.of(space)


@pytest.mark.parametrize(
    ("planner", "arguments", "message"),
    [
        (SMALL, {"horizon": 0}, "horizon must be an integer of at least 1, got 0"),
        (SMALL, {"horizon": 2, "repeat": 0}, "repeat must be an integer of at least 1, got 0"),
        (SMALL, {"horizon": 2, "executed": 1.0}, "executed must be an integer of at least 1, got 1.0"),
        (SMALL, {"horizon": 2, "executed": 3}, "executed=3 actions are more than a plan of horizon=2 has"),
        (CategoricalCEM(), {"horizon": 2}, "CategoricalCEM does not search Box.*categorical_cem for choices"),
    ],
)
def test_mpc__refuses_bad_settings(planner, arguments, message):
    with pytest.raises(ValueError, match=message):
        MPC(planner, BOX, **arguments)


def test_mpc__takes_any_planner_that_says_it_searches_choices():
    class Chooser(RandomShooting):
        choices = True

    MPC(Chooser(), SearchSpace.of(spaces.Discrete(2)), 2)
    with pytest.raises(ValueError, match="Chooser does not search Box"):
        MPC(Chooser(), BOX, 2)


def test_mpc__refuses_numbers_for_choices():
    with pytest.raises(ValueError, match=r"CEM does not search Discrete\(2\)"):
        MPC(SMALL, SearchSpace.of(spaces.Discrete(2)), 2)
