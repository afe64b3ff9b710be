"""Policies for goals: z′ = z + a in a box, seen by a behaviour that drifts wherever it likes."""

from __future__ import annotations

import pytest
import torch

from agents.heads.core import Trajectories
from agents.heads.gc_inverse_dynamics import GoalInverseDynamics
from agents.heads.gcbc import GCBC
from agents.heads.gciql import GCIQL

STEPS, FAR = 20, 0.2  # of an episode; the longest action


@pytest.fixture
def data():
    drift = 0.1 * torch.randn(200, 2)
    z, actions = [2 * torch.rand(200, 2) - 1], []
    for _ in range(STEPS):
        actions.append((drift + 0.1 * torch.randn(200, 2)).clamp(-FAR, FAR))
        z.append((z[-1] + actions[-1]).clamp(-1, 1))
    rows = torch.stack(z, dim=1).flatten(0, 1), torch.stack([*actions, torch.zeros(200, 2)], dim=1).flatten(0, 1)
    return Trajectories(*rows, last=(torch.arange(200 * (STEPS + 1)) // (STEPS + 1) + 1) * (STEPS + 1) - 1)


def fit(head, data, steps=150):
    generator, usable = torch.Generator().manual_seed(0), data.steps()
    head.prepare(data)
    optimizer = torch.optim.Adam([x for x in head.parameters() if x.requires_grad], lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        frames = usable[torch.randint(len(usable), (256,), generator=generator)]
        sum(head.loss(data, frames, generator).values()).backward()
        optimizer.step()
        head.after_step()
    return head.eval().requires_grad_(False)


def distance_left(act):
    """How far from their goals 64 episodes end, on average; they begin 1.04 away."""
    z, goals = (2 * torch.rand(64, 2, generator=torch.Generator().manual_seed(i)) - 1 for i in (5, 6))
    for _ in range(STEPS):
        z = (z + act(z, goals)).clamp(-1, 1)
    return (z - goals).norm(dim=-1).mean().item()


POLICIES = {
    "gcbc": (lambda **sizes: GCBC(2, hidden_dims=(64, 64), **sizes), 0.4),
    "gc_inverse_dynamics": (lambda **sizes: GoalInverseDynamics(2, hidden_dims=(64, 64), **sizes), 0.2),
    "gciql": (lambda **sizes: GCIQL(2, hidden_dims=(64, 64), discount=0.95, **sizes), 0.5),
}


@pytest.mark.parametrize("name", POLICIES)
def test_goal_policy__reaches_goals_that_chance_does_not(name, data):
    make, near = POLICIES[name]
    assert distance_left(lambda z, goals: FAR * (2 * torch.rand_like(z) - 1)) > 0.8
    assert distance_left(fit(make(action_dim=2), data).act) < near


@pytest.mark.parametrize("name", ["gcbc", "gc_inverse_dynamics"])
def test_goal_policy__chooses_among_choices(name, data):
    """The same world, in which each number of an action is one of three: left, nothing, right."""
    chosen = (data.actions / FAR * 1.5).round().clamp(-1, 1)
    sizes = {"action_dim": 6, "action_sizes": (3, 3)}
    moves = torch.eye(3)[(chosen + 1).long()].flatten(1)  # [M, 6]
    policy = fit(POLICIES[name][0](**sizes), Trajectories(data.latents, moves, data.last))

    def act(z, goals):
        said = policy.act(z, goals).unflatten(-1, (2, 3))
        assert said.shape == (64, 2, 3) and (said.sum(dim=-1) == 1).all() and ((said == 0) | (said == 1)).all()
        return 0.5 * FAR * (said.argmax(dim=-1) - 1)

    assert distance_left(act) < 0.5


def test_goal_policy__acts_within_what_it_has_seen(data):
    policy = GCBC(2, 2, hidden_dims=(8,))
    policy.prepare(data)
    actions = policy.act(1e6 * torch.randn(50, 2), 1e6 * torch.randn(50, 2))
    assert (actions >= data.actions.amin(dim=0)).all() and (actions <= data.actions.amax(dim=0)).all()
    assert len(actions.unique(dim=0)) > 1


@pytest.mark.parametrize(("latents", "goals"), [((3, 2), (2, 2)), ((3, 3), (3, 3)), ((2,), (2,))])
def test_goal_policy__refuses_goals_of_the_wrong_shape(latents, goals):
    with pytest.raises(ValueError, match=r"latents must be \[B, 2\], goals \[B, 2\], got"):
        GCBC(2, 2).act(torch.zeros(latents), torch.zeros(goals))
    with pytest.raises(ValueError, match=r"latents must be \[B, 5\], goals \[B, 2\], got"):
        GCBC(5, 2, goal_dim=2).act(torch.zeros(3, 5), torch.zeros(3, 5))


def test_gciql__tells_which_of_the_actions_for_other_reasons_leads_to_a_goal():
    """From 0, one episode goes to 2, the other to −2: what the second one did is no way to 1."""
    z = torch.tensor([[0.0], [1.0], [2.0], [0.0], [-1.0], [-2.0]])
    actions = torch.tensor([[1.0], [1.0], [0.0], [-1.0], [-1.0], [0.0]])
    data = Trajectories(z, actions, torch.tensor([2, 2, 2, 5, 5, 5]))
    head = GCIQL(1, 1, hidden_dims=(32,), discount=0.9, tau=0.1, random_policy_goals=1.0)
    fit(head, data, steps=300)
    for goal in (2.0, 1.0, -1.0, -2.0):  # half of the actions on which the policy is fitted lead away from it
        assert goal * head.act(torch.zeros(1, 1), torch.full((1, 1), goal)).item() > 0.5 * abs(goal)
