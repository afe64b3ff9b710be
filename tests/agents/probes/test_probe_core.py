from __future__ import annotations

import math

import pytest
import torch

from agents.probes.core import moments, r2, rmse


def test_rmse__by_hand():
    predictions, targets = torch.tensor([[1.0, 1.0], [4.0, 7.0]]), torch.tensor([[1.0, 1.0], [1.0, 3.0]])
    assert rmse(predictions, targets).item() == pytest.approx(math.sqrt((0 + 25) / 2))


def test_r2__by_hand():
    targets = torch.tensor([[0.0, 10.0], [2.0, 10.0], [4.0, 16.0]])  # around [2, 12]: 4 + 4 + 0 + 4 + 4 + 16 = 32
    predictions = torch.tensor([[1.0, 10.0], [2.0, 12.0], [4.0, 17.0]])  # residuals 1 + 4 + 1 = 6
    assert r2(predictions, targets).item() == pytest.approx(1 - 6 / 32)


@pytest.mark.parametrize("score", [rmse, r2])
def test_score__does_not_care_how_samples_are_grouped(score):
    predictions, targets = torch.randn(2, 4, 6, 3)
    grouped = score(predictions, targets)
    assert grouped.shape == ()
    torch.testing.assert_close(grouped, score(predictions.flatten(0, 1), targets.flatten(0, 1)))


def test_r2__of_the_truth_is_1_and_of_its_mean_is_0():
    targets = torch.randn(50, 3) + 5
    assert r2(targets, targets).item() == 1
    assert r2(targets.mean(dim=0).expand(50, 3), targets).item() == pytest.approx(0, abs=1e-5)


def test_moments__are_mean_and_standard_deviation_by_column():
    samples = torch.tensor([[1.0, 10.0], [3.0, 20.0]])
    mean, std = moments(samples)
    assert mean.tolist() == [2.0, 15.0]
    assert std.tolist() == pytest.approx([math.sqrt(2), math.sqrt(50)])


@pytest.mark.parametrize("value", [0.0, 0.1, 100.3, -1e6])
def test_moments__of_constant_columns_have_a_standard_deviation_of_1(value):
    constant = torch.full((10_000, 1), value)
    assert moments(constant)[1].tolist() == [1.0]  # whatever rounding makes of their mean
    both = torch.cat([constant, torch.randn(10_000, 1)], dim=1)
    assert moments(both)[1].tolist() == pytest.approx([1.0, both[:, 1].std().item()])
