from __future__ import annotations

import torch
from torch import nn

from agents.averages import follow


def test_follow__goes_a_share_of_the_way():
    slow, fast = nn.Linear(2, 3), nn.Linear(2, 3)
    expected = [0.75 * a + 0.25 * b for a, b in zip(slow.parameters(), fast.parameters(), strict=True)]
    follow(slow, fast, 0.25)
    for found, weight in zip(slow.parameters(), expected, strict=True):
        torch.testing.assert_close(found, weight)
