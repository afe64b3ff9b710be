"""Likelihood: every latent has to tell its own frame, as precisely as a probabilistic model weighs it."""

from __future__ import annotations

from torch import nn

from agents.objectives.core import Terms, Views


class Likelihood(nn.Module):
    """Term ``reconstruction``: −ln N(o_t; decode(z_t), 1) without its constant, averaged over b and t = 0 … T−1.

    That is ½ Σ (decode(z_t) − o_t)² over all pixels of a normalised frame, in nats: with `agents.objectives.kl` the
    negative evidence lower bound. A sum as in Dreamer (github.com/danijar/dreamer, models.py), not a mean: what a frame
    tells has to outweigh the nats that it costs to remember. Frames of unit variance make its size that of Dreamer's
    (28·28·1 here; 64·64·3·0.25² ≈ 770 there), and they make noise that fills the frame, such as changing uniform noise,
    not worth remembering: telling a pixel saves at most ½ nat.

    Raises:
        ValueError: the model has no decoder.
    """

    def forward(self, views: Views) -> Terms:
        if views.decode is None:
            raise ValueError("the likelihood needs a model with a decoder, e.g. model=rssm")
        errors = (views.decode(views.latents) - views.frames).square()
        return {"reconstruction": 0.5 * errors.sum(dim=(2, 3, 4)).mean()}
