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
    """z_t = encoder(o_t), ẑ_0 = z_0, ẑ_{t+1} = predictor(ẑ_t, a_t).

    Args:
        encoder: [N, C, H, W] -> [N, D], see `agents.encoders`.
        predictor: context [B, K, D], actions [B, H, A] -> [B, H, D], see `agents.predictors`.
        objectives: by name, each from `Views` to terms, see `agents.objectives`; none for an untrained model.
        decoder: [N, D] -> [N, C, H, W], see `agents.decoders`; None if the model does not draw.
        latent_dim: size D.
        frame_mean, frame_std: of the training frames, [C] each, on the scale 0…255.
        action_mean, action_std: of the training actions, [A] each.
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
    ) -> None:
        super().__init__()
        self.encoder, self.predictor, self.decoder = encoder, predictor, decoder
        self.objectives = nn.ModuleDict(dict(objectives))
        self.latent_dim = latent_dim
        self.register_buffer("frame_mean", torch.tensor(frame_mean).view(-1, 1, 1))  # [C, 1, 1]
        self.register_buffer("frame_std", torch.tensor(frame_std).view(-1, 1, 1))
        self.register_buffer("action_mean", torch.tensor(action_mean))
        self.register_buffer("action_std", torch.tensor(action_std))

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return self._encode(self._normalised(frames))

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

        frames = self._normalised(batch["frames"])
        latents = self._encode(frames)
        predictions = torch.cat([latents[:, :1], self.predict(latents[:, :1], batch["actions"])], dim=1)
        views = Views(
            latents=latents.float(),
            predictions=predictions.float(),
            actions=(batch["actions"] - self.action_mean) / self.action_std,
            frames=frames,
            factors={name.removeprefix("factors."): x for name, x in batch.items() if name.startswith("factors.")},
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
        return (frames - self.frame_mean) / self.frame_std

    def _encode(self, frames: Tensor) -> Tensor:
        return self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # [B·T, D] -> [B, T, D]

    def _decode(self, latents: Tensor) -> Tensor:
        assert self.decoder is not None
        return self.decoder(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])  # [B·T, C, H, W] -> [B, T, C, H, W]
