from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.diagnostics import action_sensitivity, covariance_spectrum, mean_terms, r_within, rankme
from agents.world_models.core import WorldModel


class Rollout(WorldModel):
    """Latents that are given, and a predictor that is a function of the first latent and the sum of actions."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def encode(self, frames, actions=None):
        raise AssertionError("not needed")

    def loss(self, batch):
        raise AssertionError("not needed")

    def predict(self, latents, actions):
        assert latents.shape[1] == 1
        return self.rule(latents, actions.cumsum(dim=1))


def test_r_within__is_0_for_latents_that_stay_the_same_within_a_sequence():
    assert r_within(torch.randn(8, 1, 5).expand(8, 6, 5)).item() == pytest.approx(0, abs=1e-10)


def test_r_within__is_1_for_latents_whose_mean_is_the_same_in_every_sequence():
    latents = torch.randn(8, 6, 5)
    latents = latents - latents.mean(dim=1, keepdim=True) + torch.randn(5)
    assert r_within(latents).item() == pytest.approx(1)


@pytest.mark.parametrize(("between", "within"), [(3.0, 4.0), (1.0, 0.01)])
def test_r_within__is_the_share_of_the_variance(between, within):
    signs = torch.tensor([-1.0, 1.0])
    latents = 7 + between * signs.repeat(3)[:, None, None] + within * signs.repeat(4)[None, :, None]  # [6, 8, 1]
    expected = within**2 / (between**2 + within**2)
    assert r_within(latents).item() == pytest.approx(expected, rel=1e-4)


def test_r_within__of_a_point_is_0():
    assert r_within(torch.ones(4, 3, 2)).item() == 0


@pytest.mark.parametrize("k", [1, 3, 7])
def test_rankme__of_k_isotropic_dimensions_is_k(k):
    basis, _ = torch.linalg.qr(torch.randn(40, k))  # 40 latents with k equal singular values
    rotation, _ = torch.linalg.qr(torch.randn(7, 7))
    latents = 5 * basis @ rotation[:k]
    assert rankme(latents.reshape(8, 5, 7)).item() == pytest.approx(k, rel=1e-3)


def test_rankme__is_the_exponential_of_the_entropy_of_the_spectrum():
    u, _ = torch.linalg.qr(torch.randn(40, 4))
    v, _ = torch.linalg.qr(torch.randn(4, 4))
    latents = u @ torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0])) @ v  # shares 1/2, 1/4, 1/8, 1/8
    assert rankme(latents.reshape(8, 5, 4)).item() == pytest.approx(2**1.75, rel=1e-4)


def test_rankme__adds_epsilon_to_the_shares():
    latents = torch.diag(torch.tensor([1.0, 0.0])).reshape(1, 2, 2)
    expected = math.exp(-(1.5 * math.log(1.5) + 0.5 * math.log(0.5)))
    assert rankme(latents, epsilon=0.5).item() == pytest.approx(expected)


def test_rankme__of_nothing_is_finite():
    assert rankme(torch.zeros(4, 3, 2)).item() == pytest.approx(1, abs=1e-4)


def test_action_sensitivity__is_0_for_a_predictor_that_ignores_actions():
    model = Rollout(lambda start, moved: start.expand(-1, moved.shape[1], -1))
    assert action_sensitivity(model, torch.randn(8, 5, 2), torch.randn(8, 4, 2)).item() == 0


def test_action_sensitivity__is_1_for_a_predictor_that_ignores_the_start():
    model = Rollout(lambda start, moved: 0 * start + moved)
    assert action_sensitivity(model, torch.randn(8, 5, 2), torch.randn(8, 4, 2)).item() == pytest.approx(1)


def test_action_sensitivity__is_the_share_of_the_actions_where_both_count():
    # The start alone decides the first dimension, the actions alone the second.
    model = Rollout(lambda start, moved: torch.cat([start.expand(-1, 3, -1)[..., :1], moved], dim=-1))
    latents, actions = torch.randn(6, 4, 2), torch.randn(6, 3, 1)
    starts = by_actions = 0.0
    for b in range(6):
        for t in range(3):
            starts += float((latents[b, 0, 0] - latents[b - 1, 0, 0]) ** 2)
            by_actions += float((actions[b, : t + 1].sum() - actions[b - 1, : t + 1].sum()) ** 2)
    found = action_sensitivity(model, latents, actions)
    assert found.item() == pytest.approx(by_actions / (by_actions + starts), rel=1e-5)


def test_action_sensitivity__of_a_predictor_that_says_one_thing_is_0():
    model = Rollout(lambda start, moved: torch.ones(8, 4, 2))
    assert action_sensitivity(model, torch.randn(8, 5, 2), torch.randn(8, 4, 2)).item() == 0


def test_covariance_spectrum__is_that_of_numpys_covariance():
    latents = torch.randn(8, 5, 4, dtype=torch.double) @ torch.randn(4, 4, dtype=torch.double) + 3
    eigenvalues = np.linalg.eigvalsh(np.cov(latents.flatten(0, 1).numpy(), rowvar=False))[::-1]
    np.testing.assert_allclose(covariance_spectrum(latents).numpy(), eigenvalues / eigenvalues.sum())


@pytest.mark.parametrize("shape", [(2, 3, 10), (3, 4, 5)])
def test_covariance_spectrum__has_a_share_for_every_dimension(shape):
    shares = covariance_spectrum(torch.randn(shape))
    assert shares.shape == (shape[-1],)
    assert shares.sum().item() == pytest.approx(1)
    assert (shares[:-1] >= shares[1:]).all()
    rank = min(shape[0] * shape[1] - 1, shape[2])
    assert (shares[rank:] < 1e-6).all() and (shares[:rank] > 1e-3).all()


def test_covariance_spectrum__of_a_point_is_0():
    assert covariance_spectrum(torch.ones(4, 3, 2)).tolist() == [0, 0]


@pytest.mark.parametrize(("windows", "expected"), [(7, [3, 3]), (6, [3, 3]), (2, [2])])
def test_mean_terms__are_those_of_whole_batches(windows, expected):
    seen = []

    def loss(batch):
        assert not torch.is_grad_enabled() and batch["frames"].shape == batch["actions"].shape
        seen.append(batch["actions"].tolist())
        return {"spread": batch["actions"].var(), "last": batch["actions"][-1]}

    numbers = torch.arange(windows) ** 2.0
    found = mean_terms(loss, {"frames": numbers, "actions": numbers}, batch_size=3)
    assert [len(piece) for piece in seen] == expected
    assert [x for piece in seen for x in piece] == numbers[: sum(expected)].tolist()
    assert found["spread"] == pytest.approx(np.mean([np.var(piece, ddof=1) for piece in seen]))
    assert found["last"] == pytest.approx(np.mean([piece[-1] for piece in seen]))
