"""Reconstruction: every prediction has to tell the frame of its step."""

from __future__ import annotations

from torch import nn

from agents.objectives.core import Terms, Views


class Reconstruction(nn.Module):
    """Term ``reconstruction``: mean squared error per pixel between decode(ẑ_t) and the frame, t = 0 … T−1.

    Raises:
        ValueError: the model has no decoder.
    """

    def forward(self, views: Views) -> Terms:
        if views.decode is None:
            raise ValueError("reconstruction needs a model with a decoder, e.g. model=gru_autoencoder")
        return {"reconstruction": (views.decode(views.predictions) - views.frames).square().mean()}
