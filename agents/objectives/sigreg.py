"""SIGReg: latents look like a standard normal distribution from every direction (Balestriero & LeCun, 2025, LeJEPA)."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views

Over = Literal["pooled", "step"]


class _EppsPulley(torch.autograd.Function):
    """[..., N, M] -> [..., M]: the statistic of each column over N, without the factor N.

    The gradient is a sum over knots as the statistic is, of the same sines and cosines: a third of the time and of the
    memory that automatic differentiation takes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: int) -> Tensor:
        width = 3 / (knots - 1)
        statistic, slope = torch.zeros_like(x[..., 0, :]), torch.zeros_like(x)
        for knot in range(1, knots):  # at t = 0 both functions are 1
            t = knot * width
            phi = math.exp(-(t**2) / 2)
            weight = width * phi * (1 if knot == knots - 1 else 2)
            cos, sin = (t * x).cos(), (t * x).sin()  # [..., N, M]
            real, imaginary = cos.mean(dim=-2, keepdim=True) - phi, sin.mean(dim=-2, keepdim=True)  # [..., 1, M]
            statistic += weight * (real.square() + imaginary.square()).squeeze(-2)
            slope.addcmul_(cos, 2 * weight * t * imaginary).addcmul_(sin, -2 * weight * t * real)
        ctx.save_for_backward(slope / x.shape[-2])
        return statistic

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient[0].unsqueeze(-2), None


def sigreg_loss(latents: Tensor, directions: Tensor, knots: int = 17) -> Tensor:
    """The Epps–Pulley statistic along directions: [..., N, D], [D, M] -> [], averaged over leading axes and directions.

    With x = latents·direction, their characteristic function is compared with that of N(0, 1), φ(t) = e^{−t²/2}:

        N·∫ [(mean_n cos t·x_n − φ(t))² + (mean_n sin t·x_n)²]·φ(t) dt, by the trapezoid rule on ``knots`` points of
        [0, 3], doubled since the integrand is even.

    Latents that are drawn from N(0, I) score ∫ (1 − φ(t)²)·φ(t) dt ≈ 1.05 on average, whatever N is.
    """
    return latents.shape[-2] * _EppsPulley.apply(latents @ directions, knots).mean()


class SIGReg(nn.Module):
    """Term ``sigreg`` of the encoder's latents, all steps, along random directions that are new in every call.

    It constrains how latents are distributed, not how they move: latents that copy what stays the same within a
    sequence satisfy it.

    Args:
        over: the samples of one distribution: ``pooled`` takes all B·T latents for one; ``step`` takes the B latents of
            each time step, and averages over steps (LeWM, Maes et al., 2026).
        directions: number M of directions.
        knots: number of points of the quadrature.

    Raises:
        ValueError: an argument that is out of range.

    Directions are drawn with the global random generator, whose state is part of a training's saved state.
    """

    def __init__(self, over: Over = "pooled", directions: int = 256, knots: int = 17) -> None:
        super().__init__()
        if over not in get_args(Over):
            raise ValueError(f"over must be one of {get_args(Over)}, got {over!r}")
        if directions < 1:
            raise ValueError(f"directions must be at least 1, got {directions!r}")
        if knots < 2:
            raise ValueError(f"knots must be at least 2, got {knots!r}")
        self.over, self.directions, self.knots = over, directions, knots

    def forward(self, views: Views) -> Terms:
        latents = views.latents
        samples = latents.flatten(0, 1) if self.over == "pooled" else latents.transpose(0, 1)  # [B·T, D] or [T, B, D]
        directions = torch.randn(latents.shape[-1], self.directions, dtype=latents.dtype, device=latents.device)
        return {"sigreg": sigreg_loss(samples, nn.functional.normalize(directions, dim=0), self.knots)}
