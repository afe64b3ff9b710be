"""A reward that is known."""

from __future__ import annotations

import torch
from torch import nn

from agents.heads.core import Trajectories
from agents.heads.reward import Reward


def test_reward__is_fitted_to_a_known_one():
    latents, actions = torch.randn(3000, 3), torch.randn(3000, 2)
    after = torch.cat([latents[1:], latents[:1]])
    rewards = 50 + 10 * (latents[:, 0] - after[:, 1] + 0.5 * actions[:, 0] ** 2)
    data = Trajectories(latents, actions, torch.full((3000,), 2999), rewards)
    head, generator = Reward(3, 2, (64,)), torch.Generator().manual_seed(0)
    head.prepare(data)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        head.loss(data, data.steps()[torch.randint(2500, (256,), generator=generator)], generator)["reward"].backward()
        optimizer.step()
    unseen = slice(2600, 2999)
    error = head(latents[unseen], actions[unseen], after[unseen]) - rewards[unseen]
    assert 1 - error.square().mean() / rewards[unseen].var() > 0.95
    many = head(latents[:12].view(3, 4, 3), actions[:12].view(3, 4, 2), after[:12].view(3, 4, 3))
    torch.testing.assert_close(many.flatten(), head(latents[:12], actions[:12], after[:12]))


def test_reward__tells_states_apart_whatever_the_action_that_never_was():
    latents, actions = torch.randn(200, 3), torch.zeros(200, 3)
    actions[torch.arange(200), 2 * torch.randint(2, (200,))] = 1  # choices, of which the second was never made
    head = Reward(3, 3, (64,))
    head.prepare(Trajectories(latents, actions, torch.full((200,), 199), torch.randn(200)))
    never = torch.tensor([0.0, 1.0, 0.0]).expand(200, -1)
    assert head(latents, never, latents).std() > 0.2 * head(latents, actions, latents).std()


def test_reward__loss_is_the_error_of_standardised_rewards():
    latents, actions = torch.randn(5, 2), torch.randn(5, 1)
    rewards = torch.tensor([1.0, 2.0, 4.0, 8.0, 99.0])  # the last is after the end
    head = Reward(2, 1, ())
    data = Trajectories(latents, actions, torch.full((5,), 4), rewards)
    head.prepare(data)
    nn.init.zeros_(head.network[0].weight)
    nn.init.zeros_(head.network[0].bias)
    loss = head.loss(data, data.steps(), torch.Generator())["reward"]
    assert abs(loss.item() - 0.75) < 1e-6  # Σ(r − mean)² / 4 over Σ(r − mean)² / 3
    torch.testing.assert_close(head(latents[:1], actions[:1], latents[1:2]), torch.tensor([3.75]))
