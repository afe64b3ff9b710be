from __future__ import annotations

import pytest
import torch

from agents.planners.core import Judge, mean_and_std, shifted


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, [1, 2, 3]), (1, [2, 3, 9]), (2, [3, 9, 9]), (3, [9, 9, 9]), (7, [9, 9, 9])]
)
def test_shifted__drops_what_was_executed_and_fills_the_end(steps, expected):
    plans = torch.tensor([1.0, 2.0, 3.0])[:, None] * torch.tensor([1.0, -1.0])  # [H, A]
    fill = torch.tensor([9, -9])
    for leading in ((), (4,), (4, 2)):
        moved = shifted(plans.expand(*leading, 3, 2), steps, fill)
        assert moved.dtype == plans.dtype
        assert moved.shape == (*leading, 3, 2)
        assert (moved[..., 0] == torch.tensor(expected)).all()
        assert (moved[..., 1] == -torch.tensor(expected)).all()


def test_shifted__refuses_to_go_back():
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        shifted(torch.zeros(2, 3, 1), -1, torch.zeros(1))


def test_mean_and_std__by_hand_and_without_what_is_not_valid():
    samples = torch.tensor([[1.0, 3.0, 100.0], [1.0, 3.0, 8.0], [5.0, 6.0, 7.0], [5.0, 6.0, 7.0]])
    valid = torch.tensor([[True, True, False], [True, True, True], [False, True, False], [False, False, False]])
    mean, std = mean_and_std(samples, valid)
    assert mean.tolist() == pytest.approx([2, 4, 6, 0])
    assert std.tolist() == pytest.approx([1, (26 / 3) ** 0.5, 0, 0])
    wide = samples[:, :, None, None] * torch.tensor([1.0, 10.0])  # [4, 3, 1, 2]
    for one, many in zip((mean, std), mean_and_std(wide, valid), strict=True):
        torch.testing.assert_close(many, one[:, None, None] * torch.tensor([1.0, 10.0]))


def test_judge__remembers_the_best_of_all_calls():
    judge = Judge(lambda actions: actions[:, :, 0, 0], at_once=100)
    for first, second in ([5.0, 7.0], [6.0, 4.0]), ([5.5, 3.0], [8.0, 9.0]), ([4.0, 4.0], [2.0, torch.nan]):
        judge(torch.tensor([first, second])[:, :, None, None])
    assert judge.actions.flatten().tolist() == [3, 2]
    assert judge.costs.tolist() == [3, 2]


def test_judge__slopes_are_gradients_and_judge_too():
    actions = torch.randn(2, 7, 3, 2, dtype=torch.double)
    judge = Judge(lambda actions: (actions**3).sum(dim=(-1, -2)), at_once=4)
    torch.testing.assert_close(judge.slopes(actions), 3 * actions**2)
    torch.testing.assert_close(judge.costs, (actions**3).sum(dim=(-1, -2)).min(dim=1).values)


def test_judge__slopes_are_zero_where_they_are_none():
    actions = torch.tensor([[-1.0, 0.0, 4.0]])[:, :, None, None]
    slopes = Judge(lambda actions: actions.sqrt().sum(dim=(-1, -2)), at_once=100).slopes(actions)
    assert slopes.flatten().tolist() == [0, 0, 0.25]


def test_judge__keeps_the_first_of_equals():
    judge = Judge(lambda actions: actions[:, :, 0, 0].abs(), at_once=100)
    for value in (2.0, -2.0, 5.0):
        judge(torch.full((1, 1, 1, 1), value))
    assert judge.actions.item() == 2
