from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.probes.core import Samples, rmse
from agents.probes.ridge import Ridge


def linear(n, features=5, targets=2, noise=0.0, seed=0):
    """Samples of one linear map, the same for every n."""
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(features, targets, generator=generator), torch.tensor([50.0, -3.0])[:targets]
    generator.manual_seed(2 + seed)
    x = torch.randn(n, features, generator=generator) * torch.linspace(0.5, 3, features) + 4
    return Samples(x, x @ weight + bias + noise * torch.randn(n, targets, generator=generator))


def reference(train: Samples, features: torch.Tensor, penalty: float) -> np.ndarray:
    """(XᵀX + λ·tr(XᵀX)/D·I)⁻¹ Xᵀy by numpy."""
    x, y = train.features.double().numpy(), train.targets.double().numpy()
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred
    dim = len(gram)
    weight = np.linalg.solve(gram + penalty * np.trace(gram) / dim * np.eye(dim), centred.T @ (y - y.mean(axis=0)))
    return (features.double().numpy() - x.mean(axis=0)) @ weight + y.mean(axis=0)


@pytest.mark.parametrize("penalty", [1e-4, 0.1, 3.0])
@pytest.mark.parametrize(("n", "features"), [(60, 5), (12, 30)])  # also with more features than samples
def test_ridge__is_the_closed_form(penalty, n, features):
    train, test = linear(n, features, noise=1.0), linear(40, features, seed=1)
    probe = Ridge([penalty])
    probe.fit(train, test)
    predictions = probe.predict(test.features)
    assert predictions.dtype == torch.float32
    np.testing.assert_allclose(predictions, reference(train, test.features, penalty), rtol=1e-4, atol=1e-4)


def test_ridge__chooses_the_penalty_on_validation_samples():
    penalties = (1e-6, 1e-2, 0.3, 10.0)
    train, test = linear(25, 20, noise=8.0), linear(100, 20, seed=2)
    validations = {
        "like the training samples": train,
        "fresh": linear(400, 20, noise=8.0, seed=1),
        "shrunk": Samples(train.features, (train.targets + 19 * train.targets.mean(dim=0)) / 20),
    }
    chosen = {}
    for name, validation in validations.items():
        guesses = np.stack([reference(train, validation.features, penalty) for penalty in penalties])
        least = ((guesses - validation.targets.numpy()) ** 2).mean(axis=1).argmin(axis=0)  # of each component
        chosen[name] = tuple(least)
        probe = Ridge(penalties)
        probe.fit(train, validation)
        expected = [reference(train, test.features, penalties[k])[:, i] for i, k in enumerate(least)]
        np.testing.assert_allclose(probe.predict(test.features), np.stack(expected, axis=1), rtol=1e-3, atol=1e-3)
    assert len(set(chosen.values())) == 3  # the three differ, so nothing but validation can have chosen


def test_ridge__recovers_an_exact_linear_map():
    probe, test = Ridge(), linear(50, seed=2)
    probe.fit(linear(200), linear(50, seed=1))
    assert rmse(probe.predict(test.features), test.targets).item() < 1e-4


def test_ridge__recovers_it_from_small_features_far_from_zero():
    def moved(samples):
        return Samples(1e-3 * samples.features.double() + 100, samples.targets)

    probe, test = Ridge(), moved(linear(50, seed=2))
    probe.fit(moved(linear(200)), moved(linear(50, seed=1)))
    assert rmse(probe.predict(test.features), test.targets).item() < 1e-4


def test_ridge__ignores_constant_and_repeated_features():
    def padded(samples, value):
        constant = torch.full((len(samples.features), 2), value)
        return Samples(torch.cat([samples.features, constant, samples.features], dim=1), samples.targets)

    probe, test = Ridge(), linear(50, seed=2)
    probe.fit(padded(linear(200), 100.3), padded(linear(50, seed=1), 100.3))
    assert rmse(probe.predict(padded(test, 100.3).features), test.targets).item() < 1e-3
    # A constant tells nothing in training, so it says nothing when it moves.
    assert rmse(probe.predict(padded(test, 101.3).features), test.targets).item() < 1e-3


def test_ridge__predicts_the_mean_from_features_that_tell_nothing():
    train = Samples(torch.full((100, 4), 0.25), torch.randn(100, 2) + 7)
    probe = Ridge()
    probe.fit(train, train)
    expected = train.targets.mean(dim=0).expand(3, 2)
    torch.testing.assert_close(probe.predict(torch.full((3, 4), 0.25)), expected)


def test_ridge__is_the_same_in_other_units():
    train, validation, test = linear(25, 10, noise=3.0), linear(50, 10, noise=3.0, seed=1), linear(50, 10, seed=2)
    probe, scaled = Ridge(), Ridge()
    probe.fit(train, validation)
    scaled.fit(Samples(1e3 * train.features, train.targets), Samples(1e3 * validation.features, validation.targets))
    torch.testing.assert_close(scaled.predict(1e3 * test.features), probe.predict(test.features), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("penalties", [[], "abc", ["a"], [0.0], [1e-3, float("nan")], [float("inf")]], ids=str)
def test_ridge__refuses_what_are_no_penalties(penalties):
    with pytest.raises(ValueError, match="penalties must be positive numbers, at least one, got "):
        Ridge(penalties)


def test_ridge__is_no_worse_than_the_mean_where_features_tell_nothing():
    generator = torch.Generator().manual_seed(0)

    def unrelated(n: int) -> Samples:
        return Samples(torch.randn(n, 150, generator=generator), torch.randn(n, 2, generator=generator))

    probe, test = Ridge(), unrelated(2000)
    probe.fit(unrelated(300), unrelated(500))
    assert rmse(probe.predict(test.features), test.targets) < 1.01 * rmse(torch.zeros(2000, 2), test.targets)


def test_ridge__chooses_a_penalty_for_each_component():
    train, validation, test = (linear(n, 20, seed=seed) for n, seed in ((60, 0), (60, 1), (100, 2)))
    generator = torch.Generator().manual_seed(0)

    def beside(samples: Samples, noise: float) -> Samples:
        unknown = noise * torch.randn(len(samples.targets), 1, generator=generator)
        return Samples(samples.features, torch.cat([samples.targets, unknown], dim=1))

    alone, together = Ridge(), Ridge()
    alone.fit(train, validation)
    together.fit(beside(train, 1e4), beside(validation, 1e4))
    np.testing.assert_allclose(together.predict(test.features)[:, :-1], alone.predict(test.features), atol=1e-4)
