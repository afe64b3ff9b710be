from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import nn

from agents.probes.core import Samples, r2, rmse
from agents.probes.gradient import GradientProbe
from agents.probes.ridge import Ridge


def samples(n, seed=0, noise=0.5):
    """A linear map with noise, of features that differ in scale and are far from zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator) * torch.tensor([0.1, 1.0, 5.0, 20.0]) + 30
    y = (x - 30) @ torch.tensor([[10.0, 0.0], [1.0, -3.0], [0.2, 0.4], [0.0, 0.1]]) + torch.tensor([50.0, -9.0])
    return Samples(x, y + noise * torch.randn(n, 2, generator=generator))


def squares(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator)
    return Samples(x, (x**2)[:, :1] - x[:, 1:])


def fitted(probe, train, validation=None):
    probe.fit(train, validation or train)
    return probe


def test_gradient_probe__linear_comes_close_to_ridge():
    train, test = samples(1000), samples(500, seed=1)
    ridge = fitted(Ridge([1e-7]), train)
    probe = fitted(GradientProbe(lr=0.02, epochs=20, batch_size=100), train)
    best = rmse(ridge.predict(test.features), test.targets)
    ours = rmse(probe.predict(test.features), test.targets)
    assert best < 0.8
    assert ours < 1.05 * best


def test_gradient_probe__is_fitted_also_where_all_else_is_for_inference():
    train, probe = samples(200), GradientProbe(epochs=2)
    with torch.inference_mode():
        inside = fitted(GradientProbe(epochs=2), Samples(train.features * 1, train.targets * 1))
    assert torch.equal(inside.predict(train.features), fitted(probe, train).predict(train.features))


def test_gradient_probe__hidden_layers_fit_what_a_linear_probe_cannot():
    train, test = squares(1000), squares(500, seed=1)
    linear = fitted(GradientProbe(lr=0.02, epochs=15, batch_size=100), train)
    mlp = fitted(GradientProbe(hidden_dims=[32], lr=0.02, epochs=15, batch_size=100), train)
    assert r2(linear.predict(test.features), test.targets) < 0.45  # y is linear in one of two features
    assert r2(mlp.predict(test.features), test.targets) > 0.95


def test_gradient_probe__has_the_layers_asked_for():
    probe = fitted(GradientProbe(hidden_dims=[7, 3], epochs=1), squares(10))
    layers = [(type(x), getattr(x, "in_features", None), getattr(x, "out_features", None)) for x in probe.network]
    relu = (nn.ReLU, None, None)
    assert layers == [(nn.Linear, 2, 7), relu, (nn.Linear, 7, 3), relu, (nn.Linear, 3, 1)]
    assert all(x.bias is not None for x in probe.network if isinstance(x, nn.Linear))


def test_gradient_probe__the_paper_s_is_one_matrix_on_raw_features():
    train = samples(100)
    probe = fitted(GradientProbe(bias=False, standardise=False, epochs=2), train)
    (weight,) = probe.network.parameters()
    assert weight.shape == (2, 4)
    expected = train.features @ weight.T * train.targets.std(dim=0) + train.targets.mean(dim=0)
    torch.testing.assert_close(probe.predict(train.features), expected)


def test_gradient_probe__takes_as_many_steps_as_epochs_hold_batches(monkeypatch):
    steps, settings = [], {}
    adam = torch.optim.Adam

    class Counted(adam):
        def __init__(self, params, lr):
            settings["lr"] = lr
            super().__init__(params, lr=lr)

        def step(self, closure=None):
            steps.append(1)
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Counted)
    fitted(GradientProbe(lr=0.007, epochs=3, batch_size=40), squares(100))
    assert len(steps) == 3 * 3  # 40, 40 and 20 samples
    assert settings == {"lr": 0.007}


def test_gradient_probe__every_sample_is_seen_once_an_epoch_in_an_order_of_its_own():
    train = Samples(torch.arange(50.0)[:, None], torch.arange(50.0)[:, None])

    def epochs(seed):
        probe, seen = GradientProbe(epochs=2, batch_size=20, standardise=False, seed=seed), []
        build = probe._network

        def watched(inputs, outputs):
            network = build(inputs, outputs)
            network.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten().tolist()))
            return network

        probe._network = watched
        fitted(probe, train)
        assert [len(part) for part in seen] == [20, 20, 10] * 2
        return list(chain(*seen[:3])), list(chain(*seen[3:]))

    in_order = train.features.flatten().tolist()
    orders = [*epochs(seed=0), *epochs(seed=1)]
    assert all(sorted(order) == in_order for order in orders)
    assert len({tuple(order) for order in [*orders, in_order]}) == 5


def test_gradient_probe__depends_on_its_seed_alone():
    train, test = squares(100), squares(20, seed=1)
    predictions = []
    for seed in (3, 3, 4):
        torch.rand(7)  # the global random state differs each time
        predictions.append(fitted(GradientProbe([8], epochs=2, seed=seed), train).predict(test.features))
    assert torch.equal(predictions[0], predictions[1])
    assert not torch.equal(predictions[0], predictions[2])


def test_gradient_probe__leaves_the_global_random_state_alone(monkeypatch):
    def touched(seed):
        raise AssertionError("seeded other devices")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)  # which torch.manual_seed does
    before = torch.get_rng_state()
    fitted(GradientProbe([8], epochs=1), squares(100))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradient_probe__takes_frozen_features(mode):
    with mode():
        train = squares(200)
    with torch.no_grad():
        probe = fitted(GradientProbe(lr=0.02, epochs=10, batch_size=50), train)
    predictions = probe.predict(train.features)
    assert not predictions.requires_grad
    assert r2(predictions, train.targets) > 0.2  # it has learnt


def test_gradient_probe__survives_constant_features_and_targets():
    train = Samples(torch.cat([squares(100).features, torch.full((100, 1), 100.3)], dim=1), torch.full((100, 1), 7.7))
    probe = fitted(GradientProbe([8], lr=0.01, epochs=30, batch_size=20), train)
    torch.testing.assert_close(probe.predict(train.features), train.targets, atol=0.2, rtol=0)
