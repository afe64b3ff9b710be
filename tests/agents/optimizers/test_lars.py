from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from agents.optimizers.lars import LARS

SETTINGS = {"lr": 2.0, "momentum": 0.5, "eta": 0.1, "weight_decay": 0.5}


def parameter(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.double))


def step(optimizer, weight, *gradient):
    weight.grad = torch.tensor(gradient, dtype=torch.double)
    optimizer.step()
    return weight.detach().flatten().tolist()


def test_lars__two_steps_by_hand():
    weight = parameter([3.0, 4.0])  # ‖w‖ = 5
    optimizer = LARS([weight], **SETTINGS)
    # g + wd·w = [6, 8], of norm 10; λ = .1·5/10 = .05; v = [.3, .4]
    assert step(optimizer, weight, [4.5, 6.0]) == pytest.approx([2.4, 3.2])  # ‖w‖ = 4
    # g + wd·w = [0, 2]; λ = .1·4/2 = .2; v = .5·[.3, .4] + [0, .4] = [.15, .6]
    assert step(optimizer, weight, [-1.2, 0.4]) == pytest.approx([2.1, 2.0])


def test_lars__one_dimension_takes_neither_decay_nor_adaptive_rate():
    bias = parameter(3.0, 4.0)
    optimizer = LARS([bias], **SETTINGS)
    assert step(optimizer, bias, 0.5, -1.0) == pytest.approx([2.0, 6.0])  # w − 2·g
    assert step(optimizer, bias, 0.25, 0.0) == pytest.approx([1.0, 7.0])  # v = [.5, −.5]


def test_lars__the_norm_is_over_the_whole_tensor():
    kernel = parameter([[[3.0]], [[0.0]]], [[[0.0]], [[4.0]]])  # [2, 2, 1, 1], ‖w‖ = 5
    optimizer = LARS([kernel], lr=1.0, momentum=0.0, eta=0.1, weight_decay=0.0)
    moved = step(optimizer, kernel, [[[0.0]], [[0.6]]], [[[0.8]], [[0.0]]])  # ‖g‖ = 1, λ = .5
    assert moved == pytest.approx([3.0, -0.3, -0.4, 4.0])


def test_lars__zero_weights_move_by_the_plain_gradient():
    weight = parameter([0.0, 0.0])
    assert step(LARS([weight], **SETTINGS), weight, [0.5, -1.0]) == pytest.approx([-1.0, 2.0])


def test_lars__zero_gradients_move_nothing():
    weight = parameter([3.0, 4.0])
    optimizer = LARS([weight], **{**SETTINGS, "weight_decay": 0.0})
    assert step(optimizer, weight, [0.0, 0.0]) == [3.0, 4.0]


def test_lars__zero_weights_and_gradients_stay_zero():
    weight = parameter([0.0, 0.0])
    assert step(LARS([weight], **SETTINGS), weight, [0.0, 0.0]) == [0.0, 0.0]


def test_lars__skips_parameters_without_gradient():
    used, unused = parameter([3.0, 4.0]), parameter([1.0, 2.0])
    optimizer = LARS([used, unused], **SETTINGS)
    step(optimizer, used, [1.0, 1.0])
    assert unused.tolist() == [[1.0, 2.0]]
    assert unused not in optimizer.state


def test_lars__leaves_gradients_as_they_are():
    weight, bias = parameter([3.0, 4.0]), parameter(1.0, 2.0)
    optimizer = LARS([weight, bias], **SETTINGS)
    weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
    optimizer.step()
    optimizer.step()
    assert (weight.grad == 1).all()
    assert (bias.grad == 1).all()


def test_lars__defaults_are_the_paper_s():
    defaults = LARS([parameter([1.0])], lr=0.3).defaults
    assert defaults == {"lr": 0.3, "momentum": 0.9, "eta": 1e-3, "weight_decay": 1e-6}


def test_lars__groups_have_settings_of_their_own():
    slow, fast = parameter(1.0), parameter(1.0)
    optimizer = LARS([{"params": [slow], "lr": 0.1}, {"params": [fast]}], lr=0.5)
    slow.grad = fast.grad = torch.ones(1, dtype=torch.double)
    optimizer.step()
    assert (slow.item(), fast.item()) == pytest.approx((0.9, 0.5))


def test_lars__step_evaluates_the_closure_with_gradients():
    weight = parameter([3.0, 4.0])
    optimizer = LARS([weight], lr=1.0, momentum=0.0, eta=0.1, weight_decay=0.0)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum() / 2
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 12.5
    assert weight.flatten().tolist() == pytest.approx([2.7, 3.6])  # g = w, so λ = η


def test_lars__goes_on_from_its_state_as_if_never_stopped():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x, y = torch.randn(16, 4), torch.randn(16, 2)

    def train(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()

    optimizer = LARS(model.parameters(), lr=1.0, eta=0.05)
    train(model, optimizer)
    other = copy.deepcopy(model)
    resumed = LARS(other.parameters(), lr=9.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = [weight.clone() for weight in model.parameters()]
    train(model, optimizer)
    train(other, resumed)
    for old, ours, theirs in zip(before, model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, old)


def test_lars__fits_a_small_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    x = torch.randn(64, 4)
    y = x[:, :1] * x[:, 1:2]
    optimizer = LARS(model.parameters(), lr=0.2, eta=0.1)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1])
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("name", ["lr", "momentum", "eta", "weight_decay"])
def test_lars__refuses_negative_settings(name):
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -0.1"):
        LARS([parameter([1.0])], **{"lr": 0.1, name: -0.1})
