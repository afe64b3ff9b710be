"""A distance that is the time that it takes, where the one between latents is misleading."""

from __future__ import annotations

import torch

from agents.heads.core import Trajectories
from agents.heads.temporal_distance import TemporalDistance

PLACES = 21


def horseshoe(place):
    """A corridor bent so that its ends nearly meet: [...] -> [..., 2]."""
    angle = 5.5 * place.float() / (PLACES - 1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def walks(episodes=200, steps=30):
    """Random walks between its ends, one place a step."""
    places = [torch.randint(PLACES, (episodes,))]
    for _ in range(steps):
        places.append((places[-1] + 2 * torch.randint(2, (episodes,)) - 1).clamp(0, PLACES - 1))
    path = torch.stack(places, dim=1)
    last = (torch.arange(path.numel()) // (steps + 1) + 1) * (steps + 1) - 1
    return Trajectories(horseshoe(path.flatten()), torch.zeros(path.numel(), 1), last)


def fit(head, data, steps, batch=256, lr=3e-3):
    """What `jepa_worlds.planning.heads.fit_head` does, without its care."""
    generator, usable = torch.Generator().manual_seed(0), data.steps()
    head.prepare(data)
    optimizer = torch.optim.Adam([x for x in head.parameters() if x.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        frames = usable[torch.randint(len(usable), (batch,), generator=generator)]
        sum(head.loss(data, frames, generator).values()).backward()
        optimizer.step()
        head.after_step()
    return head.eval().requires_grad_(False)


def correlation(found, true):
    upper = torch.triu_indices(PLACES, PLACES, 1).unbind()
    return torch.corrcoef(torch.stack([found[upper], true[upper]]))[0, 1].item()


def test_temporal_distance__is_the_time_that_it_takes_and_not_the_distance_between_latents():
    head = fit(TemporalDistance(2, (64, 64), dim=8, discount=0.95, tau=0.03), walks(), steps=450)
    places = torch.arange(PLACES)
    z, true = horseshoe(places), (places[:, None] - places).abs().float()
    found, straight = head(z[:, None], z[None]), torch.cdist(z, z)
    assert straight[0, -1] < straight[0, 5]  # the ends nearly meet
    assert correlation(straight, true) < 0.75
    assert found[0, -1] > 2 * found[0, 5]
    assert correlation(found, true) > 0.9
    torch.testing.assert_close(found, found.mT)
    assert found.diagonal().abs().max() < 0.01


def test_temporal_distance__of_what_is_reached_is_fitted_to_nothing():
    """Where the goal is the state itself, the target is 0: no reward is missed, and nothing follows."""
    head = TemporalDistance(2, (4,), dim=3, discount=0.9, random_goals=1.0)
    data = Trajectories(torch.randn(2, 2), torch.zeros(2, 1), torch.tensor([1, 1]))
    head.prepare(data)
    data_goal_is_here = Trajectories(data.latents, data.actions, data.last)
    object.__setattr__(data_goal_is_here, "anywhere", lambda count, generator: torch.zeros(count, dtype=torch.long))
    loss = head.loss(data_goal_is_here, torch.zeros(5, dtype=torch.long), torch.Generator())
    assert loss["temporal_distance"].item() < 1e-4
