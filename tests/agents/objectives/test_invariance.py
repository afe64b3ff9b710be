from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.invariance import Invariance


def test_invariance__is_the_mean_squared_error_of_the_future_steps(make_views):
    views = make_views()  # whose predictions of the first step are off too
    terms = Invariance()(views)
    assert terms.keys() == {"invariance"}
    error = (views.predictions - views.latents)[:, 1:].numpy()
    assert terms["invariance"].item() == pytest.approx(np.mean(error**2))


def test_invariance__collapsed_latents_pay_nothing(make_views):
    constant = torch.full((5, 4, 6), 0.7, dtype=torch.double)
    assert Invariance()(make_views(latents=constant, predictions=constant))["invariance"].item() == 0
