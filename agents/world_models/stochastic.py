"""The two kinds of stochastic state of an RSSM: Gaussian (PlaNet, Dreamer v1) and categorical (Dreamer v2, v3).

Each turns what a network says, raw numbers [..., R], into a distribution over states s [..., S]. Everything is computed
in float32, whatever the network computed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Stochastic(Protocol):
    """A family of distributions.

    Attributes:
        size: S, the numbers in a state.
        outputs: R, the numbers that say which distribution it is.
    """

    @property
    def size(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    def noise(self, like: Tensor) -> Tensor:
        """All that is random in one sample for each row: [..., ·] -> [..., S], from torch's global generator."""
        ...

    def sample(self, raw: Tensor, noise: Tensor) -> Tensor:
        """A state that sends gradients to its distribution: [..., R], [..., S] -> [..., S]."""
        ...

    def mean(self, raw: Tensor) -> Tensor:
        """The expected state: [..., R] -> [..., S]."""
        ...

    def divergence(self, raw: Tensor, other: Tensor) -> Tensor:
        """KL(raw ‖ other) in nats, summed over a state's dimensions: [..., R], [..., R] -> [...]."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions N(m, (softplus(r) + min_std)²), with raw = [m, r].

    As in PlaNet and Dreamer v1 (github.com/danijar/dreamer, models.py), which take 30 dimensions and min_std 0.1. A
    sample is reparameterised: s = m + std·ε.

    Args:
        dimensions: of the state.
        min_std: least standard deviation: no dimension can tell more than its signal-to-noise ratio.

    Raises:
        ValueError: an argument that is not positive.
    """

    dimensions: int = 30
    min_std: float = 0.1

    def __post_init__(self) -> None:
        if self.dimensions < 1 or self.min_std <= 0:
            raise ValueError(f"dimensions and min_std must be positive, got {self.dimensions!r} and {self.min_std!r}")

    @property
    def size(self) -> int:
        return self.dimensions

    @property
    def outputs(self) -> int:
        return 2 * self.dimensions

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn(*like.shape[:-1], self.size, device=like.device)

    def sample(self, raw: Tensor, noise: Tensor) -> Tensor:
        mean, std = self._moments(raw)
        return mean + std * noise

    def mean(self, raw: Tensor) -> Tensor:
        return self._moments(raw)[0]

    def divergence(self, raw: Tensor, other: Tensor) -> Tensor:
        """Σ ln(σ′/σ) + (σ² + (m − m′)²) / 2σ′² − ½."""
        (mean, std), (other_mean, other_std) = self._moments(raw), self._moments(other)
        ratio = std / other_std
        return (((mean - other_mean) / other_std).square() + ratio.square() - 1).mul(0.5).sub(ratio.log()).sum(dim=-1)

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = raw.float().chunk(2, dim=-1)
        return mean, F.softplus(spread) + self.min_std


@dataclass(frozen=True)
class Categorical:
    """Independent choices among classes, as one-hot vectors; raw holds the logits.

    As in Dreamer v3 (github.com/danijar/dreamerv3, dreamerv3/rssm.py), which takes 32 choices among 32: probabilities
    are mixed with 1 % of the uniform distribution, so that no divergence explodes. A sample is drawn by the Gumbel-max
    trick, and its gradient is that of the probabilities (straight-through). The expected state is the probabilities.

    The numbers of one class stand in a row, one for each choice: to normalise along the first of the two axes is eight
    times as fast on a CPU as along the last.

    Args:
        choices: independent of each other.
        classes: of each choice.
        unimix: share of the uniform distribution.

    Raises:
        ValueError: an argument that is out of range.
    """

    choices: int = 32
    classes: int = 8
    unimix: float = 0.01

    def __post_init__(self) -> None:
        if self.choices < 1 or self.classes < 2:
            raise ValueError(f"needs choices among at least 2 classes, got {self.choices!r} among {self.classes!r}")
        if not 0 < self.unimix < 1:
            raise ValueError(f"unimix is a share, between 0 and 1, got {self.unimix!r}")

    @property
    def size(self) -> int:
        return self.choices * self.classes

    @property
    def outputs(self) -> int:
        return self.size

    def noise(self, like: Tensor) -> Tensor:
        return -torch.empty(*like.shape[:-1], self.size, device=like.device).exponential_().log()  # Gumbel(0, 1)

    def sample(self, raw: Tensor, noise: Tensor) -> Tensor:
        p = self._probabilities(raw)  # [..., classes, choices]
        drawn = (p.log() + noise.view_as(p)).argmax(dim=-2, keepdim=True)
        hard = torch.zeros_like(p).scatter_(-2, drawn, 1)
        return (hard + (p - p.detach())).flatten(-2)

    def mean(self, raw: Tensor) -> Tensor:
        return self._probabilities(raw).flatten(-2)

    def divergence(self, raw: Tensor, other: Tensor) -> Tensor:
        """Σ p·ln(p/p′)."""
        p, q = self._probabilities(raw), self._probabilities(other)
        return (p * (p.log() - q.log())).sum(dim=(-2, -1))

    def _probabilities(self, raw: Tensor) -> Tensor:
        p = raw.float().unflatten(-1, (self.classes, self.choices)).softmax(dim=-2)
        return (1 - self.unimix) * p + self.unimix / self.classes
