from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.objectives.reconstruction import Reconstruction


def test_reconstruction__is_the_mean_squared_error_of_every_pixel_at_every_step(make_views):
    drawn = torch.randn(5, 4, 1, 4, 4, dtype=torch.double)
    seen = []

    def decode(latents):
        seen.append(latents)
        return drawn

    views = make_views(decode=decode)
    terms = Reconstruction()(views)
    assert terms.keys() == {"reconstruction"}
    squares = [(a - b) ** 2 for a, b in zip(drawn.flatten().tolist(), views.frames.flatten().tolist(), strict=True)]
    assert terms["reconstruction"].item() == pytest.approx(np.mean(squares))
    assert len(seen) == 1
    assert seen[0] is views.predictions


def test_reconstruction__constant_drawings_pay_the_variance_of_frames(make_views):
    views = make_views()
    views = make_views(frames=views.frames, decode=lambda latents: views.frames.mean().expand(5, 4, 1, 4, 4))
    variance = views.frames.var(correction=0).item()
    assert Reconstruction()(views)["reconstruction"].item() == pytest.approx(variance)


def test_reconstruction__refuses_a_model_without_a_decoder(make_views):
    with pytest.raises(ValueError, match="needs a model with a decoder"):
        Reconstruction()(make_views())
