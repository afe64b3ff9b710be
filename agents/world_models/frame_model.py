"""What world models that encode frames have in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from agents.objectives.core import Beliefs, Terms, Views
from agents.world_models.core import Batch, WorldModel
from envs.arguments import require_whole


class FrameModel(WorldModel, ABC):
    """Statistics of the data, an encoder that sees K frames at a time, objectives, and perhaps a decoder.

    A subclass sets ``encoder``, ``objectives`` and ``decoder``; what they are is said in `EncoderPredictor`. The first
    frame stands for those before it, which have not been seen.

    Args:
        latent_dim: size D of a latent.
        frame_mean, frame_std: of the training frames, [C] each, on the scale 0…255.
        action_mean, action_std: of the training actions, [A] each.
        frames: number K of frames that the encoder sees.

    Raises:
        ValueError: a number of frames that is not positive; later, frames of another number of channels.
    """

    encoder: nn.Module
    decoder: nn.Module | None
    objectives: nn.ModuleDict
    frame_mean: Tensor
    frame_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(
        self,
        latent_dim: int,
        frame_mean: Sequence[float],
        frame_std: Sequence[float],
        action_mean: Sequence[float],
        action_std: Sequence[float],
        frames: int = 1,
    ) -> None:
        super().__init__()
        require_whole(frames=frames)
        self.latent_dim, self.context = latent_dim, frames
        self.register_buffer("frame_mean", torch.tensor(frame_mean).view(-1, 1, 1))  # [C, 1, 1]
        self.register_buffer("frame_std", torch.tensor(frame_std).view(-1, 1, 1))
        self.register_buffer("action_mean", torch.tensor(action_mean))
        self.register_buffer("action_std", torch.tensor(action_std))

    def decode(self, latents: Tensor) -> Tensor:
        if self.decoder is None:
            return super().decode(latents)
        return (self._decode(latents) * self.frame_std + self.frame_mean).clamp(0, 255)

    def _normalised(self, frames: Tensor) -> Tensor:
        if frames.shape[2] != len(self.frame_mean):  # a single channel would pass for any number of them
            raise ValueError(f"expected frames of {len(self.frame_mean)} channels, got {tuple(frames.shape)}")
        mean, std = (_along_rows(x, frames.shape[-1]) for x in (self.frame_mean, self.frame_std))
        return (frames - mean) / std

    def _normalised_actions(self, actions: Tensor) -> Tensor:
        return (actions - self.action_mean) / self.action_std

    def _from_the_first(self, frames: Tensor) -> Tensor:
        """Frames with those that were not seen before them: [B, T, C, H, W] -> [B, K−1+T, C, H, W]."""
        if self.context == 1:
            return frames
        return torch.cat([frames[:, :1].expand(-1, self.context - 1, -1, -1, -1), frames], dim=1)

    def _seen(self, kept: Tensor | None, frame: Tensor) -> Tensor:
        """The last K frames of an acting agent, of which it kept K−1: [B, (K−1)·C·H·W], [B, C, H, W] -> [B, K, …]."""
        last = frame.unsqueeze(1)  # [B, 1, C, H, W]
        if kept is None:
            return self._from_the_first(last)
        return torch.cat([kept.unflatten(1, (self.context - 1, *frame.shape[1:])), last], dim=1)

    def _encode(self, frames: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """What the encoder, or another one, makes of K normalised frames each: [B, T, C, H, W] -> [B, T−K+1, D]."""
        if self.context > 1:
            steps = frames.shape[1] - self.context + 1
            frames = torch.cat([frames[:, i : i + steps] for i in range(self.context)], dim=2)  # [B, T−K+1, K·C, H, W]
        encoder = self.encoder if encoder is None else encoder
        return encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # [B·T, D] -> [B, T, D]

    def _decode(self, latents: Tensor) -> Tensor:
        assert self.decoder is not None
        return self.decoder(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])  # [B·T, C, H, W] -> [B, T, C, H, W]

    def judged(
        self,
        batch: Batch,
        latents: Tensor,
        predictions: Tensor,
        imagine: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor] | None,
        frames: Tensor | None = None,
        beliefs: Beliefs | None = None,
        targets: Tensor | None = None,
    ) -> Terms:
        """The terms of all objectives, in float32: statistics over a batch need more digits than bfloat16 has.

        Args:
            batch: as `loss` takes it. Objectives see its steps K−1 … T−1.
            latents, predictions, imagine, decode, beliefs, targets: as in `Views`, of these steps.
            frames: of these steps, normalised; None if they are not at hand.

        Raises:
            ValueError: two objectives have a term of the same name.
        """
        first, prefix = self.context - 1, "factors."
        views = Views(
            latents=latents.float(),
            predictions=predictions.float(),
            actions=self._normalised_actions(batch["actions"][:, first:]),
            frames=self._normalised(batch["frames"][:, first:]) if frames is None else frames,
            factors={name.removeprefix(prefix): x[:, first:] for name, x in batch.items() if name.startswith(prefix)},
            imagine=imagine,
            decode=decode,
            beliefs=beliefs,
            targets=None if targets is None else targets.float(),
        )
        terms: Terms = {}
        with torch.autocast(views.frames.device.type, enabled=False):
            for objective in self.objectives.values():
                new = objective(views)
                if terms.keys() & new.keys():
                    raise ValueError(f"two objectives have terms named {sorted(terms.keys() & new.keys())}")
                terms |= new
        return terms


def _along_rows(statistic: Tensor, width: int) -> Tensor:
    """A number for every channel, repeated along rows of pixels, with channels last: [C, 1, 1] -> [C, 1, W].

    Frames of a dataset lie so in memory, and C numbers at a time are few to broadcast: 12 against 31 ms for 1344 frames
    of 64 px.
    """
    return statistic.view(1, -1).expand(width, -1).contiguous().t().unsqueeze(1)


def as_called(network: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """A network for objectives, which run without autocast: it computes in the caller's precision of now."""
    autocast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def call(*arguments: Tensor) -> Tensor:
        with torch.autocast(device, dtype, enabled=autocast):
            return network(*arguments).float()

    return call


def imagined(predict: Callable[[Tensor, Tensor], Tensor], start: Tensor, actions: Tensor) -> Tensor:
    """What a predictor makes of one start under many actions: [B, 1, D], [N, B, H, A] -> [N, B, H, D]."""
    starts = start.expand(len(actions), *start.shape).flatten(0, 1)  # [N·B, 1, D]
    return predict(starts, actions.flatten(0, 1)).unflatten(0, actions.shape[:2])
