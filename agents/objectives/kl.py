"""Divergence of what a frame tells from what was expected: the price of a stochastic state, in nats."""

from __future__ import annotations

from torch import nn

from agents.objectives.core import Beliefs, Terms, Views


class KL(nn.Module):
    """Term ``kl``: max(free, mean_{b,t} KL(posterior ‖ prior)) (Dreamer v1; github.com/danijar/dreamer, dreamer.py).

    Args:
        free_nats: what a step may cost on average without being charged. Dreamer v1 takes 3.

    Raises:
        ValueError: a negative number of nats; later, a model that is not stochastic.
    """

    def __init__(self, free_nats: float = 3.0) -> None:
        super().__init__()
        self.free_nats = _checked(free_nats)

    def forward(self, views: Views) -> Terms:
        beliefs = _beliefs(views)
        return {"kl": beliefs.divergence(beliefs.posterior, beliefs.prior).mean().clamp_min(self.free_nats)}


class BalancedKL(nn.Module):
    """The KL in two terms with one value and different gradients (Dreamer v3; danijar/dreamerv3, dreamerv3/rssm.py).

    - ``kl_dynamics``: mean_{b,t} max(free, KL(sg posterior ‖ prior)) teaches the prior to expect the posterior;
    - ``kl_representation``: mean_{b,t} max(free, KL(posterior ‖ sg prior)) keeps the posterior near the prior.

    Dreamer v3 weights them 1 and 0.1: the prior should learn to predict before the posterior learns to tell nothing.

    Args:
        free_nats: what every step may cost without being charged. Dreamer v3 takes 1.

    Raises:
        ValueError: a negative number of nats; later, a model that is not stochastic.
    """

    def __init__(self, free_nats: float = 1.0) -> None:
        super().__init__()
        self.free_nats = _checked(free_nats)

    def forward(self, views: Views) -> Terms:
        beliefs = _beliefs(views)
        dynamics = beliefs.divergence(beliefs.posterior.detach(), beliefs.prior)
        representation = beliefs.divergence(beliefs.posterior, beliefs.prior.detach())
        return {
            "kl_dynamics": dynamics.clamp_min(self.free_nats).mean(),
            "kl_representation": representation.clamp_min(self.free_nats).mean(),
        }


def _checked(free_nats: float) -> float:
    if free_nats < 0:
        raise ValueError(f"free_nats must be at least 0, got {free_nats!r}")
    return free_nats


def _beliefs(views: Views) -> Beliefs:
    if views.beliefs is None:
        raise ValueError("the KL needs a model with a prior and a posterior, e.g. model=rssm")
    return views.beliefs
