"""What every world model can do; probes, planners, policies, videos and reports use nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from agents.objectives.core import Terms

Batch = Mapping[str, Tensor]
"""``frames`` uint8 [B, T, C, H, W], ``actions`` float [B, T−1, A], and ``factors.<name>`` [B, T, F] for every factor.

Choices among n come as one-hot vectors; actions and factors of any other shape in one row.
"""


class NoDecoder(RuntimeError):
    """The model cannot draw what it imagines."""


class WorldModel(nn.Module, ABC):
    """Frames to latents, and latents into the future.

    Frames are uint8 [B, T, C, H, W] and actions [B, T−1, A] in the environment's units: normalisation is the model's.

    Attributes:
        latent_dim: size D of a latent.
        context: number K of frames that a latent is made of. Latents 0 … K−2 of a sequence are made of fewer, and
            neither losses, rollouts nor scores take them into account: all of these begin at step K−1.
    """

    latent_dim: int
    context: int = 1

    @abstractmethod
    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """The latents of frames: [B, T, C, H, W], [B, T−1, A] -> [B, T, D].

        Models without memory ignore the actions; recurrent ones filter.
        """

    @abstractmethod
    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        """The latents that follow a context under actions, open loop: [B, K, D], [B, H, A] -> [B, H, D]."""

    @abstractmethod
    def loss(self, batch: Batch) -> Terms:
        """Named unweighted terms of the training loss, for a batch of sequences."""

    def after_step(self) -> None:
        """What is to be done after every step of the optimiser, such as to move averages of weights."""

    def decode(self, latents: Tensor) -> Tensor:
        """The frames that latents stand for: [B, T, D] -> float [B, T, C, H, W], on the scale 0…255.

        Raises:
            NoDecoder: the model was not trained to draw.
        """
        raise NoDecoder(f"{type(self).__name__} has no decoder")

    def achieved_goal(self, latents: Tensor) -> Tensor:
        """What of latents a goal can ask for, and is compared with: [..., D] -> [..., G].

        A goal is one frame, whatever came before it. All of a latent, unless part of it holds the past. Goals are made
        of latents in the same way.
        """
        return latents

    def update(self, state: Tensor | None, action: Tensor | None, frame: Tensor) -> Tensor:
        """The state of an acting agent after one more frame: [B, D'], [B, A], [B, C, H, W] -> [B, D'].

        The first `latent_dim` entries of a state are the latent; the first call has no state and no action.

        Raises:
            ValueError: a latent takes more than one frame, and the model does not say how to keep them.
        """
        if self.context > 1:
            raise ValueError(f"{type(self).__name__} makes latents of {self.context} frames: it needs its own update()")
        return self.encode(frame.unsqueeze(1))[:, 0]
