from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from agents.world_models.stochastic import Categorical, Gaussian

FAMILIES = [Gaussian(5), Gaussian(3, min_std=0.5), Categorical(3, 4), Categorical(2, 6, unimix=0.2)]


def reference(family, raw):
    """The distribution as torch has it."""
    if isinstance(family, Gaussian):
        mean, spread = raw[..., : family.dimensions], raw[..., family.dimensions :]
        return Independent(Normal(mean, F.softplus(spread) + family.min_std), 1)
    p = raw.unflatten(-1, (family.classes, family.choices)).mT.softmax(-1)
    return Independent(OneHotCategorical(probs=(1 - family.unimix) * p + family.unimix / family.classes), 1)


def state(family, moment):
    """A moment of the reference in the order of the numbers of a state: those of one class in a row."""
    return moment if isinstance(family, Gaussian) else moment.mT.flatten(-2)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_divergence__is_that_of_torch(family):
    raw, other = torch.randn(2, 4, 7, family.outputs).mul(2).unbind()
    expected = kl_divergence(reference(family, raw), reference(family, other))
    found = family.divergence(raw, other)
    assert found.shape == (4, 7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(family.divergence(raw, raw), torch.zeros(4, 7), atol=1e-6, rtol=0)


def test_divergence__of_two_normal_numbers_by_hand():
    spread = torch.tensor([0.5, 2.0]).sub(0.1).expm1().log()  # of standard deviations 0.5 and 2
    raw, other = torch.stack([torch.tensor(1.0), spread[0]]), torch.stack([torch.tensor(-1.0), spread[1]])
    expected = torch.tensor(2.0 / 0.5).log() + (0.25 + 4.0) / (2 * 4.0) - 0.5
    torch.testing.assert_close(Gaussian(1).divergence(raw, other), expected)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_mean__is_that_of_torch(family):
    raw = torch.randn(4, 7, family.outputs)
    torch.testing.assert_close(family.mean(raw), state(family, reference(family, raw).mean))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_sample__is_distributed_as_it_says(family):
    raw = torch.randn(family.outputs).expand(20_000, -1)
    noise = family.noise(torch.empty(20_000, 1))
    samples = family.sample(raw, noise)
    expected = reference(family, raw[0])
    torch.testing.assert_close(samples.mean(dim=0), state(family, expected.mean), atol=0.05, rtol=0)
    torch.testing.assert_close(samples.var(dim=0), state(family, expected.variance), atol=0.05, rtol=0.05)
    assert torch.equal(family.sample(raw, noise), samples)  # all that is random is in the noise


def test_sample__of_choices_is_one_hot():
    family = Categorical(3, 4)
    sample = family.sample(torch.randn(5, 6, 12), family.noise(torch.empty(5, 6, 1))).unflatten(-1, (4, 3))
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(sample.sum(dim=-2), torch.ones(5, 6, 3))


def test_sample__of_choices_is_never_certain():
    family = Categorical(1, 2, unimix=0.1)
    raw = torch.tensor([100.0, -100.0]).expand(20_000, -1)
    assert family.sample(raw, family.noise(raw))[:, 1].mean().item() == pytest.approx(0.05, abs=0.01)
    certain, other = torch.tensor([100.0, -100.0]), torch.tensor([-100.0, 100.0])
    assert family.divergence(certain, other).item() == pytest.approx(0.9 * torch.tensor(19.0).log().item(), rel=1e-4)


def test_sample__of_a_normal_number_is_reparameterised():
    family, raw, noise = Gaussian(2), torch.randn(4, requires_grad=True), torch.tensor([0.7, -1.3])
    (gradient,) = torch.autograd.grad(family.sample(raw, noise).sum(), raw)
    torch.testing.assert_close(gradient, torch.cat([torch.ones(2), noise * raw[2:].sigmoid()]))


def test_sample__of_a_choice_has_the_gradient_of_its_probabilities():
    family, raw = Categorical(2, 3), torch.randn(6, requires_grad=True)
    weight = torch.randn(6)
    (gradient,) = torch.autograd.grad((family.sample(raw, family.noise(raw)) * weight).sum(), raw)
    (expected,) = torch.autograd.grad((family.mean(raw) * weight).sum(), raw)
    torch.testing.assert_close(gradient, expected)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_stochastic__computes_in_float32(family):
    raw = torch.randn(2, 3, family.outputs).bfloat16()
    found = (family.sample(raw, family.noise(raw)), family.mean(raw), family.divergence(raw, raw), family.noise(raw))
    assert {x.dtype for x in found} == {torch.float32}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0), "dimensions and min_std must be positive, got 0 and 0.1"),
        (lambda: Gaussian(3, min_std=0.0), "dimensions and min_std must be positive, got 3 and 0.0"),
        (lambda: Categorical(0), "needs choices among at least 2 classes, got 0 among 8"),
        (lambda: Categorical(3, 1), "needs choices among at least 2 classes, got 3 among 1"),
        (lambda: Categorical(3, 4, unimix=0.0), "unimix is a share, between 0 and 1, got 0.0"),
        (lambda: Categorical(3, 4, unimix=1.0), "unimix is a share, between 0 and 1, got 1.0"),
    ],
)
def test_stochastic__refuses_what_is_no_distribution(make, message):
    with pytest.raises(ValueError, match=message):
        make()
