"""What heads are fitted on, and what all of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms
from envs.arguments import require_whole, require_whole_or_none


@dataclass(frozen=True)
class Trajectories:
    """Episodes, or pieces of them, in a row: M frames together.

    Attributes:
        latents: [M, D], of every frame, or predicted for it.
        actions: [M, A]; ``actions[i]`` leads from ``latents[i]`` to ``latents[i + 1]``, and means nothing at the last
            frame of an episode.
        last: [M], the number of the last frame of the episode that a frame is from.
        rewards: [M], of ``actions[i]``; None if there are none.
        achieved: [M, G], what of the latents is compared with goals (`WorldModel.achieved_goal`); None: all of them.

    Raises:
        ValueError: shapes that do not fit, an episode that ends before it begins, or no step at all.
    """

    latents: Tensor
    actions: Tensor
    last: Tensor
    rewards: Tensor | None = None
    achieved: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.latents)
        shapes = {n: tuple(x.shape) for n in self.__dataclass_fields__ if (x := getattr(self, n)) is not None}
        flat = {len(shapes[name]) for name in ("last", "rewards") if name in shapes} == {1}
        fits = all(shape[:1] == (count,) for shape in shapes.values())
        if not (fits and flat and self.latents.ndim == self.actions.ndim == self.goals.ndim == 2):
            raise ValueError(
                f"latents must be [M, D], actions [M, A], last and rewards [M], achieved [M, G], got {shapes}"
            )
        number = torch.arange(count, device=self.last.device)
        if not ((self.last >= number) & (self.last < count)).all():
            raise ValueError("last must be the number of a frame that does not come before")
        if not (self.last > number).any():
            raise ValueError(f"episodes of {count} frames without a step: there is nothing to fit")

    @property
    def goals(self) -> Tensor:
        """The goals that frames would be: [M, G]."""
        return self.latents if self.achieved is None else self.achieved

    def steps(self) -> Tensor:
        """The numbers of all frames that another follows."""
        return torch.nonzero(self.last > torch.arange(len(self.last), device=self.last.device))[:, 0]

    def later(
        self, frames: Tensor, generator: torch.Generator, discount: float | None = None, horizon: int | None = None
    ) -> Tensor:
        """Frames that come later in the same episodes: [B] -> [B].

        Args:
            frames: numbers of frames that another follows.
            generator: of what is drawn.
            discount: γ of a geometric distribution of the steps in between, P(k) ∝ γᵏ; None for a uniform one.
            horizon: the most steps in between; None for any number.
        """
        room = self.last[frames] - frames  # at least 1
        if horizon is not None:
            room = room.clamp_max(horizon)
        uniform = torch.rand(len(frames), generator=generator, device=frames.device)
        if discount is None:
            return frames + 1 + (uniform * room).long().clamp_max(room - 1)
        reach = -torch.expm1(room * math.log(discount))  # the inverse of the distribution function, cut off at the room
        steps = torch.log1p(-uniform * reach) / math.log(discount)
        return frames + 1 + steps.long().clamp_max(room - 1)

    def anywhere(self, count: int, generator: torch.Generator) -> Tensor:
        """Any frames: [count]."""
        return torch.randint(len(self.latents), (count,), generator=generator, device=self.last.device)


class Head(nn.Module, ABC):
    """A network on frozen latents, which it standardises.

    Attributes:
        latent_dim: size D of a latent.
        imagined: whether it is fitted on latents that a model predicts, instead of those of frames.
    """

    imagined: bool = False
    mean: Tensor
    std: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        require_whole(latent_dim=latent_dim)
        self.latent_dim = latent_dim
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("std", torch.ones(latent_dim))

    @abstractmethod
    def loss(self, data: Trajectories, frames: Tensor, generator: torch.Generator) -> Terms:
        """What is to be minimised for steps from some frames, as a sum of terms: their numbers [B], see `steps`."""

    def prepare(self, data: Trajectories) -> None:
        """Take up the moments of the data, once, before it is fitted."""
        _take_up(self.mean, self.std, data.latents)

    def after_step(self) -> None:
        """What happens after each step of gradient descent: nothing, unless there are target networks."""
        return

    def standardised(self, latents: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return (latents.float() - self.mean) / self.std


class GoalHead(Head):
    """A head that is given goals, which it standardises too.

    Args:
        latent_dim: size D of a latent.
        goal_dim: size G of a goal, see `WorldModel.achieved_goal`; None: that of a latent.

    Raises:
        ValueError: a size that is not positive; in `prepare`, goals of another size.
    """

    goal_mean: Tensor
    goal_std: Tensor

    def __init__(self, latent_dim: int, goal_dim: int | None = None) -> None:
        super().__init__(latent_dim)
        require_whole_or_none(goal_dim=goal_dim)
        self.goal_dim = latent_dim if goal_dim is None else goal_dim
        self.register_buffer("goal_mean", torch.zeros(self.goal_dim))
        self.register_buffer("goal_std", torch.ones(self.goal_dim))

    def prepare(self, data: Trajectories) -> None:
        super().prepare(data)
        if data.goals.shape[1] != self.goal_dim:
            raise ValueError(f"the head takes goals of {self.goal_dim} numbers, these have {data.goals.shape[1]}")
        _take_up(self.goal_mean, self.goal_std, data.goals)

    def standardised_goals(self, goals: Tensor) -> Tensor:
        """[..., G] -> [..., G]."""
        return (goals.float() - self.goal_mean) / self.goal_std


def mlp(inputs: int, hidden_dims: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear, LayerNorm and GELU for every hidden layer, and a linear one: [..., inputs] -> [..., outputs].

    Raises:
        ValueError: a width that is not positive.
    """
    if any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in hidden_dims):
        raise ValueError(f"hidden_dims must be widths of at least 1, got {list(hidden_dims)!r}")
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.GELU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def expectile_loss(advantage: Tensor, error: Tensor, expectile: float) -> Tensor:
    """mean |τ − 1(advantage < 0)|·error² (Kostrikov et al., 2022): [...], [...] -> []."""
    weight = torch.where(advantage < 0, 1 - expectile, expectile)
    return (weight * error.square()).mean()


def _take_up(mean: Tensor, std: Tensor, rows: Tensor) -> None:
    """Moments of the columns of rows [M, F], into [F] each; those that hardly vary are not blown up."""
    spread = rows.std(dim=0)
    mean.copy_(rows.mean(dim=0))
    std.copy_(spread.clamp_min(1e-3 * float(spread.max()) + 1e-8))
