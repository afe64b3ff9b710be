"""An encoder, a predictor that rolls its latents forward, and an objective.

This one class is the 2022 paper's JEPAs, its GRU autoencoder (with a decoder and reconstruction), its inverse-dynamics
and supervised models, and an untrained network: they differ in their objective and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views
from agents.world_models.core import Batch, WorldModel


class EncoderPredictor(WorldModel):
    """z_t = encoder(o_{t−K+1} … o_t), ẑ_{K−1} = z_{K−1}, ẑ_{t+1} = predictor(ẑ_t, a_t).

    What cannot be seen in one frame, such as a velocity, can be in K. In `encode` the first frame stands for those
    before it, which have not been seen; in `loss` sequences begin at step K−1, and nothing learns from those latents.

    Args:
        encoder: [N, K·C, H, W] -> [N, D], the newest of K frames in the last C channels; see `agents.encoders`.
        predictor: context [B, K, D], actions [B, H, A] -> [B, H, D], see `agents.predictors`.
        objectives: by name, each from `Views` to terms, see `agents.objectives`; none for an untrained model.
        decoder: [N, D] -> [N, C, H, W], the newest frame, see `agents.decoders`; None if the model does not draw.
        latent_dim: size D.
        frame_mean, frame_std: of the training frames, [C] each, on the scale 0…255.
        action_mean, action_std: of the training actions, [A] each.
        frames: number K of frames that the encoder sees.

    Raises:
        ValueError: a number of frames that is not positive; later, frames of another number of channels.
    """

    frame_mean: Tensor
    frame_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        objectives: Mapping[str, nn.Module],
        latent_dim: int,
        frame_mean: Sequence[float],
        frame_std: Sequence[float],
        action_mean: Sequence[float],
        action_std: Sequence[float],
        decoder: nn.Module | None = None,
        frames: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(frames, int) or frames < 1:
            raise ValueError(f"frames must be an integer of at least 1, got {frames!r}")
        self.encoder, self.predictor, self.decoder = encoder, predictor, decoder
        self.objectives = nn.ModuleDict(dict(objectives))
        self.latent_dim, self.context = latent_dim, frames
        self.register_buffer("frame_mean", torch.tensor(frame_mean).view(-1, 1, 1))  # [C, 1, 1]
        self.register_buffer("frame_std", torch.tensor(frame_std).view(-1, 1, 1))
        self.register_buffer("action_mean", torch.tensor(action_mean))
        self.register_buffer("action_std", torch.tensor(action_std))

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        if self.context > 1:
            unseen = frames[:, :1].expand(-1, self.context - 1, -1, -1, -1)
            frames = torch.cat([unseen, frames], dim=1)  # [B, K−1+T, C, H, W]
        return self._encode(self._normalised(frames))

    def update(self, state: Tensor | None, action: Tensor | None, frame: Tensor) -> Tensor:
        """As in `WorldModel`. After the latent, a state holds the last K−1 frames: D' = D + (K−1)·C·H·W."""
        last = frame.unsqueeze(1)  # [B, 1, C, H, W]
        if state is None:
            before = last.expand(-1, self.context - 1, -1, -1, -1)
        else:
            before = state[:, self.latent_dim :].unflatten(1, (self.context - 1, *frame.shape[1:]))
        seen = torch.cat([before, last], dim=1)  # [B, K, C, H, W]
        return torch.cat([self._encode(self._normalised(seen))[:, 0], seen[:, 1:].flatten(1)], dim=1)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return self.predictor(latents, (actions - self.action_mean) / self.action_std)

    def decode(self, latents: Tensor) -> Tensor:
        if self.decoder is None:
            return super().decode(latents)
        return (self._decode(latents) * self.frame_std + self.frame_mean).clamp(0, 255)

    def loss(self, batch: Batch) -> Terms:
        device = batch["frames"].device.type
        autocast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def decode(latents: Tensor) -> Tensor:
            with torch.autocast(device, dtype, enabled=autocast):  # the caller's, that objectives run without
                return self._decode(latents).float()

        def predict(latents: Tensor, actions: Tensor) -> Tensor:
            with torch.autocast(device, dtype, enabled=autocast):
                return self.predictor(latents, actions).float()

        first = self.context - 1
        frames, actions = self._normalised(batch["frames"]), batch["actions"][:, first:]
        latents = self._encode(frames)
        predictions = torch.cat([latents[:, :1], self.predict(latents[:, :1], actions)], dim=1)
        views = Views(
            latents=latents.float(),
            predictions=predictions.float(),
            actions=(actions - self.action_mean) / self.action_std,
            frames=frames[:, first:],
            factors={n.removeprefix("factors."): x[:, first:] for n, x in batch.items() if n.startswith("factors.")},
            predict=predict,
            decode=None if self.decoder is None else decode,
        )
        terms: Terms = {}
        with torch.autocast(device, enabled=False):  # statistics over a batch need more digits than bfloat16 has
            for objective in self.objectives.values():
                new = objective(views)
                if terms.keys() & new.keys():
                    raise ValueError(f"two objectives have terms named {sorted(terms.keys() & new.keys())}")
                terms |= new
        return terms

    def _normalised(self, frames: Tensor) -> Tensor:
        if frames.shape[2] != len(self.frame_mean):  # a single channel would pass for any number of them
            raise ValueError(f"expected frames of {len(self.frame_mean)} channels, got {tuple(frames.shape)}")
        return (frames - self.frame_mean) / self.frame_std

    def _encode(self, frames: Tensor) -> Tensor:
        """The latents of K normalised frames each: [B, T, C, H, W] -> [B, T−K+1, D]."""
        if self.context > 1:
            steps = frames.shape[1] - self.context + 1
            frames = torch.cat([frames[:, i : i + steps] for i in range(self.context)], dim=2)  # [B, T−K+1, K·C, H, W]
        return self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # [B·T, D] -> [B, T, D]

    def _decode(self, latents: Tensor) -> Tensor:
        assert self.decoder is not None
        return self.decoder(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])  # [B·T, C, H, W] -> [B, T, C, H, W]
