"""What heads are fitted on, and what they share."""

from __future__ import annotations

import pytest
import torch

from agents.heads.core import Trajectories, expectile_loss
from agents.heads.gc_inverse_dynamics import GoalInverseDynamics
from agents.heads.gcbc import GCBC
from agents.heads.gciql import GCIQL
from agents.heads.reward import Reward
from agents.heads.temporal_distance import TemporalDistance

LAST = torch.tensor([3, 3, 3, 3, 4, 9, 9, 9, 9, 9])  # episodes of 4, 1 and 5 frames


@pytest.fixture
def data():
    return Trajectories(torch.arange(10.0)[:, None].expand(-1, 2), torch.zeros(10, 1), LAST)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_trajectories__steps_are_frames_that_another_follows(data):
    assert data.steps().tolist() == [0, 1, 2, 5, 6, 7, 8]


def shares(data, generator, frame, **kwargs):
    """How often each frame of an episode was drawn as one that comes later than some frame."""
    drawn = data.later(torch.full((20_000,), frame), generator, **kwargs)
    return [round(float((drawn == number).float().mean()), 2) for number in range(5, 10)]


def test_trajectories__later_frames_are_uniform_over_what_is_left(data, generator):
    assert shares(data, generator, 5) == pytest.approx([0, 0.25, 0.25, 0.25, 0.25], abs=0.011)
    assert shares(data, generator, 8) == [0, 0, 0, 0, 1]


def test_trajectories__later_frames_are_within_the_horizon(data, generator):
    assert shares(data, generator, 5, horizon=2) == pytest.approx([0, 0.5, 0.5, 0, 0], abs=0.011)
    assert shares(data, generator, 7, horizon=99) == pytest.approx([0, 0, 0, 0.5, 0.5], abs=0.011)


def test_trajectories__later_frames_are_geometric_over_what_is_left(data, generator):
    weights = [0, 1, 0.5, 0.25, 0.125]
    expected = [weight / sum(weights) for weight in weights]
    assert shares(data, generator, 5, discount=0.5) == pytest.approx(expected, abs=0.011)


def test_trajectories__anywhere_is_everywhere(data, generator):
    assert data.anywhere(10_000, generator).bincount().tolist() == pytest.approx([1000] * 10, rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": torch.zeros(9, 1)}, r"latents must be \[M, D\], actions \[M, A\].*'actions': \(9, 1\)"),
        ({"latents": torch.zeros(10)}, r"latents must be \[M, D\]"),
        ({"rewards": torch.zeros(10, 1)}, r"last and rewards \[M\].*'rewards': \(10, 1\)"),
        ({"achieved": torch.zeros(10)}, r"achieved \[M, G\]"),
        ({"last": torch.arange(10) - 1}, "last must be the number of a frame that does not come before"),
        ({"last": torch.full((10,), 10)}, "last must be the number of a frame that does not come before"),
        ({"last": torch.arange(10)}, "episodes of 10 frames without a step"),
    ],
)
def test_trajectories__refuse_what_does_not_fit(change, message):
    parts = {"latents": torch.zeros(10, 2), "actions": torch.zeros(10, 1), "last": LAST} | change
    with pytest.raises(ValueError, match=message):
        Trajectories(**parts)


def test_expectile_loss__weighs_by_the_sign_of_the_advantage():
    advantage, error = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([1.0, 2.0, 3.0])
    assert expectile_loss(advantage, error, 0.9).item() == pytest.approx((0.9 * 1 + 0.1 * 4 + 0.9 * 9) / 3)


HEADS = {
    "reward": lambda: Reward(2, 1, (8,)),
    "temporal_distance": lambda: TemporalDistance(2, (8,), dim=4),
    "gcbc": lambda: GCBC(2, 1, hidden_dims=(8,)),
    "gc_inverse_dynamics": lambda: GoalInverseDynamics(2, 1, hidden_dims=(8,)),
    "gciql": lambda: GCIQL(2, 1, hidden_dims=(8,)),
}


@pytest.mark.parametrize("name", HEADS)
def test_head__does_not_mind_the_scale_of_latents(name, generator):
    """Whatever the units and the offset of each number, the loss on the same draws is the same."""
    z, actions = torch.randn(10, 2), torch.randn(10, 1)
    losses = []
    for latents in (z, torch.tensor([0.1, 10.0]) * z + torch.tensor([5.0, -7.0])):
        torch.manual_seed(0)
        head = HEADS[name]()
        data = Trajectories(latents, actions, LAST, rewards=z[:, 0])
        head.prepare(data)
        losses.append(head.loss(data, data.steps(), torch.Generator().manual_seed(3)))
    for term, number in losses[0].items():
        torch.testing.assert_close(losses[1][term], number, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_head__trains_all_its_weights_but_those_that_follow(name, generator):
    head = HEADS[name]()
    data = Trajectories(torch.randn(10, 2), torch.randn(10, 1), LAST, rewards=torch.randn(10))
    head.prepare(data)
    sum(head.loss(data, data.steps(), generator).values()).backward()
    for weight_name, weight in head.named_parameters():
        shift = name == "temporal_distance" and weight_name.endswith("3.bias")  # of both ends of a distance: no matter
        moved = weight.grad is not None and bool((weight.grad != 0).any())
        assert moved == (not weight_name.startswith("slow_")) or shift, weight_name


OF_GOALS = {
    "temporal_distance": lambda latent_dim, goal_dim: TemporalDistance(latent_dim, (8,), dim=4, goal_dim=goal_dim),
    "gcbc": lambda latent_dim, goal_dim: GCBC(latent_dim, 1, hidden_dims=(8,), goal_dim=goal_dim),
    "gc_inverse_dynamics": lambda *dims: GoalInverseDynamics(dims[0], 1, hidden_dims=(8,), goal_dim=dims[1]),
    "gciql": lambda *dims: GCIQL(dims[0], 1, hidden_dims=(8,), goal_dim=dims[1], random_policy_goals=0.5),
}


@pytest.mark.parametrize("name", OF_GOALS)
def test_goal_head__knows_of_goals_what_can_be_achieved_and_all_of_the_present(name):
    """A latent is a past and where it has led: nobody asks for a past."""
    past, place, actions = torch.randn(10, 3), torch.randn(10, 2), torch.randn(10, 1)
    head = OF_GOALS[name](5, 2)

    def of(past):
        return Trajectories(torch.cat([past, place], dim=1), actions, LAST, achieved=place)

    def losses(past):
        now = torch.full((50,), 6)  # and 7 after it
        return torch.stack(list(head.loss(of(past), now, torch.Generator().manual_seed(0)).values()))

    head.prepare(of(past))
    goals, present = past.clone(), past.clone()
    goals[[0, 1, 2, 3, 4, 5, 8, 9]] += 1
    present[6] += 1
    assert torch.equal(losses(goals), losses(past))
    assert torch.equal(losses(present), losses(past)) == (name == "temporal_distance")


@pytest.mark.parametrize("name", OF_GOALS)
def test_goal_head__of_whole_latents_standardises_goals_as_latents(name, data):
    head = OF_GOALS[name](2, None)
    data = Trajectories(torch.randn(10, 2), data.actions, LAST)
    head.prepare(data)
    assert data.goals is data.latents and head.goal_dim == 2
    assert torch.equal(head.standardised_goals(data.goals), head.standardised(data.latents))


def test_goal_head__refuses_goals_of_another_size(data):
    with pytest.raises(ValueError, match="the head takes goals of 1 numbers, these have 2"):
        GCBC(2, 1, goal_dim=1).prepare(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reward(0, 1), "latent_dim must be an integer of at least 1, got 0"),
        (lambda: Reward(2, 1, (8, 0)), r"hidden_dims must be widths of at least 1, got \[8, 0\]"),
        (lambda: TemporalDistance(2, expectile=1.5), "expectile must be from 0 to 1, got 1.5"),
        (lambda: TemporalDistance(2, discount=1.0), "discount between 0 and 1, got 32 and 1.0"),
        (lambda: TemporalDistance(2, dim=0), "dim must be positive"),
        (lambda: GCBC(2, 1, goal_dim=0), "goal_dim must be an integer of at least 1, or null, got 0"),
        (lambda: GCBC(2, 3, (2, 2)), r"choices among \[2, 2\] are not actions of 3 numbers"),
        (lambda: GoalInverseDynamics(2, 1, horizon=0), "horizon must be an integer of at least 1, got 0"),
        (lambda: GCIQL(2, 1, random_goals=0.7, same_goals=0.4), "random_and_same_goals must be from 0 to 1"),
        (lambda: GCIQL(2, 1, temperature=-1.0), "temperature and same_goals at least 0, got 0.99, -1.0 and 0.2"),
    ],
)
def test_head__refuses_arguments_that_are_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_reward__refuses_data_without_rewards_or_with_a_single_one():
    parts = torch.randn(10, 2), torch.randn(10, 1), LAST
    with pytest.raises(ValueError, match="fitted on rewards, and the dataset has none"):
        Reward(2, 1).prepare(Trajectories(*parts))
    with pytest.raises(ValueError, match=r"all 7 rewards of the dataset are 2\.0: there is nothing to tell apart"):
        Reward(2, 1).prepare(Trajectories(*parts, torch.full((10,), 2.0)))
