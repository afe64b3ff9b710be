from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from agents.objectives.core import Beliefs
from agents.objectives.kl import KL, BalancedKL


def normal(raw):
    return Independent(Normal(raw[..., :3], raw[..., 3:].exp()), 1)


@pytest.fixture
def stochastic(make_views):
    """Views of a model whose states are three normal numbers, [mean, ln std]."""
    prior, posterior = (torch.randn(5, 4, 6, dtype=torch.double, requires_grad=True) for _ in range(2))
    beliefs = Beliefs(prior, posterior, lambda one, other: kl_divergence(normal(one), normal(other)))
    return dataclasses.replace(make_views(), beliefs=beliefs)


def divergences(views):
    """By hand, one number at a time: how far the posterior is from the prior, and not the other way round."""
    found = torch.zeros(5, 4, dtype=torch.double)
    for b in range(5):
        for t in range(4):
            for i in range(3):
                (m, ln_s), (n, ln_r) = (
                    (x[b, t, i], x[b, t, 3 + i]) for x in (views.beliefs.posterior, views.beliefs.prior)
                )
                s, r = ln_s.exp(), ln_r.exp()
                found[b, t] += (ln_r - ln_s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5
    return found.detach()


def gradients(term, views):
    beliefs = (views.beliefs.posterior, views.beliefs.prior)
    return [x is not None and bool(x.abs().sum() > 0) for x in torch.autograd.grad(term, beliefs, allow_unused=True)]


def test_kl__is_free_up_to_some_nats_on_average(stochastic):
    expected = divergences(stochastic)
    assert expected.min() < expected.mean() / 2  # some steps cost less than the average
    for free in (0.0, expected.mean().item() * 0.9):
        torch.testing.assert_close(KL(free)(stochastic), {"kl": expected.mean()})
    free = expected.mean().item() * 1.1
    assert KL(free)(stochastic)["kl"].item() == pytest.approx(free)


def test_kl__trains_both_beliefs_unless_it_is_free(stochastic):
    assert gradients(KL(0.0)(stochastic)["kl"], stochastic) == [True, True]
    assert gradients(KL(1e6)(stochastic)["kl"], stochastic) == [False, False]


def test_kl__has_the_free_nats_of_dreamer():
    assert (KL().free_nats, BalancedKL().free_nats) == (3.0, 1.0)


def test_balanced_kl__every_step_is_free_up_to_some_nats(stochastic):
    divergence = divergences(stochastic)
    free = divergence.median().item()
    expected = torch.stack([x if x > free else torch.tensor(free) for x in divergence.flatten()]).double().mean()
    terms = BalancedKL(free)(stochastic)
    assert terms.keys() == {"kl_dynamics", "kl_representation"}
    for term in terms.values():
        torch.testing.assert_close(term, expected, rtol=1e-6, atol=1e-6)


def test_balanced_kl__either_term_trains_one_belief(stochastic):
    terms = BalancedKL(0.0)(stochastic)
    assert gradients(terms["kl_dynamics"], stochastic) == [False, True]
    assert gradients(terms["kl_representation"], stochastic) == [True, False]


def test_balanced_kl__with_equal_weights_is_the_kl(stochastic):
    beliefs = (stochastic.beliefs.posterior, stochastic.beliefs.prior)
    found = torch.autograd.grad(sum(BalancedKL(0.0)(stochastic).values()), beliefs)
    expected = torch.autograd.grad(KL(0.0)(stochastic)["kl"], beliefs)
    torch.testing.assert_close(found, expected)


def test_balanced_kl__costs_nothing_more_where_the_frame_told_nothing_new(stochastic):
    beliefs = dataclasses.replace(stochastic.beliefs, posterior=stochastic.beliefs.prior)
    terms = BalancedKL(1.0)(dataclasses.replace(stochastic, beliefs=beliefs))
    assert {name: term.item() for name, term in terms.items()} == {"kl_dynamics": 1.0, "kl_representation": 1.0}


@pytest.mark.parametrize("objective", [KL, BalancedKL])
def test_kl__refuses(objective, make_views):
    with pytest.raises(ValueError, match=r"free_nats must be at least 0, got -1\.0"):
        objective(-1.0)
    with pytest.raises(ValueError, match=r"needs a model with a prior and a posterior, e\.g\. model=rssm"):
        objective()(make_views())
