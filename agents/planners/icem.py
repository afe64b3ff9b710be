"""iCEM: the cross-entropy method, improved to plan in real time (Pinneri et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.planners.cem import CEM, best, refitted
from agents.planners.core import Judge, normal
from envs.arguments import at_least, within


@dataclass(frozen=True)
class ICEM(CEM):
    """CEM with noise that is correlated in time, elites that stay candidates, and fewer candidates every iteration.

    Iteration i draws N_i = max(N·γ^{−i}, 2·K) plans clip(μ + σ·ε), where ε has the power spectrum 1/f^β. To these it
    adds the share ξ of the last elites; in the first iteration, these are what the last plan has kept. The first
    iteration also judges the start, the last one its μ. μ and σ are then fitted to the K best, as in CEM.

    The defaults are those of the paper but for the number of candidates and iterations, for the least σ, where it has
    none, and for β, which it tunes for each task, from 0.25 for running to 4 for reaching. The paper starts from the μ
    of the last search; here that is the best plan of all that were judged.

    Attributes:
        beta: β; 0 is white noise, 2 a random walk, and 1 between these (pink) does well in many tasks (Eberhard et al.,
            2023).
        decay: γ.
        kept: ξ.
        Others are CEM's: N, K, the number of iterations, σ to begin with, its least, and α.
    """

    elites: int = 10
    momentum: float = 0.1
    beta: float = 1.0
    decay: float = 1.25
    kept: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, decay=self.decay)
        at_least(2 * self.elites, candidates=self.candidates)
        at_least(0, beta=self.beta)
        within(0, 1, kept=self.kept)

    def search(
        self, judge: Judge, start: Tensor, low: Tensor, high: Tensor, generator: torch.Generator, kept: Tensor
    ) -> Tensor:
        half = (high - low) / 2  # [H, A]
        mean, std = start, (self.std * half).expand_as(start)
        for i in range(self.iterations):
            count = max(int(self.candidates * self.decay**-i), 2 * self.elites)
            noise = coloured_noise(count, half, self.beta, generator)
            if i in (0, self.iterations - 1):
                noise[0] = 0
            candidates = torch.addcmul(mean[:, None], std[:, None], noise).clamp_(low, high)  # [B, N_i, H, A]
            candidates = torch.cat([candidates, kept], dim=1)
            elites, costs = best(candidates, judge(candidates), self.elites)
            mean, std = refitted(elites, costs, mean, std, self.momentum, self.min_std * half)
            kept = elites[:, : round(self.kept * self.elites)]
        return kept


def coloured_noise(count: int, like: Tensor, beta: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of variance 1 with the power spectrum 1/f^β over time: [count, H, A] for ``like`` [H, A].

    White noise is filtered by FFT (Timmer & König, 1995). The mean over time, of frequency 0, has as much power as the
    slowest wave, one period in H steps.
    """
    horizon = len(like)
    white = normal(count, like.mT, generator)  # [count, A, H]
    frequency = torch.fft.rfftfreq(horizon, device=like.device, dtype=like.dtype).clamp_min(1 / horizon)  # [H // 2 + 1]
    power = frequency**-beta
    both_sides = torch.cat([power, power[1 : (horizon + 1) // 2]])  # [H]: all but two frequencies stand for two waves
    scale = (power / both_sides.mean()).sqrt()
    return torch.fft.irfft(torch.fft.rfft(white) * scale, n=horizon).mT.contiguous()
