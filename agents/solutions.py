"""Solutions of an objective that are constructed instead of learned: what is its loss if a model knows only this?

A solution is latents and open-loop predictions of them. `FittedObjective` puts an affine map and heads of the
objective's own on top, and `fit` fits both, so that no solution loses for want of the right scale or rotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, weighted_sum
from agents.probes.core import r2
from agents.world_models.core import Batch, NoDecoder
from agents.world_models.encoder_predictor import EncoderPredictor

Imagine = Callable[[Batch, Tensor], Tensor]
"""What a solution predicts under other actions: its windows, normalised actions [N, B, H, A] -> [N, B, H, D]."""


def fourier_features(values: Tensor, dim: int, bandwidth: float = 100.0, seed: int = 0) -> Tensor:
    """√2·cos(W·v + φ), W ~ N(0, bandwidth²), φ ~ U[0, 2π) (Rahimi & Recht, 2007): [..., F] -> [..., dim].

    A feature has mean 0 and variance 1. Those of values more than a few 1/bandwidth apart are nearly uncorrelated, and
    so are different features: such latents know the values, nothing else, and satisfy variance and covariance.
    """
    generator = torch.Generator().manual_seed(seed)
    frequencies = torch.randn(values.shape[-1], dim, generator=generator, dtype=torch.double) * bandwidth
    phases = torch.rand(dim, generator=generator, dtype=torch.double) * 2 * math.pi
    angles = values.cpu().double() @ frequencies + phases  # of hundreds of radians
    return (math.sqrt(2) * angles.cos()).to(values)


def knowing(values: Tensor, dim: int) -> Tensor:
    """Latents that know some values, and nothing else: [..., F] -> [..., dim].

    They are the values, which are to be standardised, and `fourier_features` of them in all other dimensions.
    """
    known = values[..., :dim]
    return torch.cat([known, fourier_features(values, dim - known.shape[-1])], dim=-1)


def regardless(batch: Batch, actions: Tensor) -> Tensor:
    """The `Imagine` of what actions make no difference to: the predictions that there are, whatever is done."""
    return batch["predictions"][:, 1:].expand(len(actions), -1, -1, -1)


@dataclass(frozen=True)
class LinearDynamics:
    """What actions do to factors, step by step: f' = clip(f + [a, 1]·W, low, high).

    Exact for what is moved by its action and stopped by walls, such as the moving dot; an approximation otherwise.

    Attributes:
        weight: W, [A + 1, F].
        low, high: [F], the least and the largest values there are.
        share: of the variance of f' − f away from low and high, what a and W explain: R².
    """

    weight: Tensor
    low: Tensor
    high: Tensor
    share: float

    @classmethod
    def fit(cls, factors: Tensor, actions: Tensor) -> LinearDynamics:
        """By least squares where no wall is met: factors [B, T, F], actions [B, T−1, A]."""
        low, high = factors.amin(dim=(0, 1)), factors.amax(dim=(0, 1))
        free = (((factors[:, 1:] > low) & (factors[:, 1:] < high)) | (low == high)).all(dim=-1)
        pairs = (factors[:, 1:] - factors[:, :-1])[free], _with_one(actions)[free]
        change, given = (x.cpu().double() for x in pairs)  # not every device has double precision
        if not len(change) or bool((change == change[0]).all()):
            return cls(factors.new_zeros(given.shape[-1], change.shape[-1]), low, high, 0.0)
        weight = torch.linalg.pinv(given.mT @ given, hermitian=True) @ (given.mT @ change)  # also of what never differs
        share = float(r2(given @ weight, change))
        return cls(weight.to(factors), low, high, share)

    def rollout(self, start: Tensor, actions: Tensor) -> Tensor:
        """Factors after every action: [..., F], [..., H, A] -> [..., H, F]."""
        found, now = [], start
        for change in (_with_one(actions) @ self.weight).unbind(dim=-2):
            now = (now + change).clamp(self.low, self.high)
            found.append(now)
        return torch.stack(found, dim=-2)


def _with_one(actions: Tensor) -> Tensor:
    return torch.cat([actions, torch.ones_like(actions[..., :1])], dim=-1)


class FittedObjective(nn.Module):
    """An affine map of standardised latents and predictions, the identity at first, under an objective with its heads.

    Args:
        model: a new one, whose objectives judge. Their parameters are fitted; of the others, only the moments of
            actions and frames are used.
        imagine: what the solution predicts under other actions.
        mean, std: [D], what standardises the solution's latents.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: EncoderPredictor, imagine: Imagine, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.model.objectives.requires_grad_(True)
        self.imagine = imagine
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.map = nn.Linear(len(mean), len(mean), device=mean.device)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, batch: Batch) -> Terms:
        """The terms of the objective.

        Args:
            batch: as `WorldModel.loss` takes it, and the solution's ``latents`` and ``predictions`` [B, T−K+1, D] of
                steps K−1 … T−1.

        Raises:
            NoDecoder: the objective draws.
        """
        return self.model.judged(
            batch,
            self._mapped(batch["latents"]),
            self._mapped(batch["predictions"]),
            imagine=lambda others: self._mapped(self.imagine(batch, others)),
            decode=None if self.model.decoder is None else _no_decoder,
        )

    def _mapped(self, latents: Tensor) -> Tensor:
        return self.map((latents - self.mean) / self.std)


def fit(
    objective: FittedObjective,
    train: Batch,
    weights: Mapping[str, float],
    batch_size: int,
    steps: int,
    lr: float = 3e-3,
    seed: int = 0,
) -> None:
    """Fit an objective's map and heads with Adam, whose learning rate goes to zero as a cosine.

    Args:
        objective: what to fit.
        train: windows with the solution, see `FittedObjective.forward`; each step draws some without replacement.
        weights: of the objective's terms.
        batch_size: windows a step; all, if there are fewer.
        steps: how many.
        lr: learning rate of the first.
        seed: of the order of windows. What objectives draw comes from the global generator.
    """
    optimizer = torch.optim.Adam([x for x in objective.parameters() if x.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    order = torch.Generator().manual_seed(seed)
    windows = train["latents"]
    objective.train()
    for _ in range(steps):
        chosen = torch.randperm(len(windows), generator=order)[:batch_size].to(windows.device)
        loss = weighted_sum(objective({name: x[chosen] for name, x in train.items()}), weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    objective.eval()


def _no_decoder(latents: Tensor) -> Tensor:
    raise NoDecoder("needs a decoder")
