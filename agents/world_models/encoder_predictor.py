"""An encoder, a predictor that rolls its latents forward, and an objective.

This one class is the 2022 paper's JEPAs, its GRU autoencoder (with a decoder and reconstruction), its inverse-dynamics
and supervised models, and an untrained network: they differ in their objective and in nothing else. With a momentum it
is a JEPA whose targets a slower copy of the encoder makes, as in BYOL and I-JEPA.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from agents.averages import follow
from agents.objectives.core import Terms, uses_targets
from agents.world_models.core import Batch
from agents.world_models.frame_model import FrameModel, as_called, imagined


class EncoderPredictor(FrameModel):
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
        momentum: m of the slower copy of the encoder that makes targets, θ̄ ← m·θ̄ + (1 − m)·θ after every step of the
            optimiser (Grill et al., 2020); None for no copy.

    Raises:
        ValueError: a number of frames that is not positive, a momentum outside [0, 1] or without a use; later, frames
            of another number of channels.
    """

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
        momentum: float | None = None,
    ) -> None:
        super().__init__(latent_dim, frame_mean, frame_std, action_mean, action_std, frames)
        if momentum is not None and not (type(momentum) in (int, float) and 0 <= momentum <= 1):
            raise ValueError(f"momentum must be in [0, 1], or None, got {momentum!r}")
        self.encoder, self.predictor, self.decoder = encoder, predictor, decoder
        self.momentum = momentum
        self.target = None if momentum is None else copy.deepcopy(encoder).requires_grad_(False)
        self.objectives = nn.ModuleDict(dict(objectives))
        if momentum is not None and not uses_targets(self.objectives):
            raise ValueError(
                "momentum makes targets, and no objective says that it uses them (uses_targets): self_prediction does"
            )

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return self._encode(self._normalised(self._from_the_first(frames)))

    def update(self, state: Tensor | None, action: Tensor | None, frame: Tensor) -> Tensor:
        """As in `WorldModel`. After the latent, a state holds the last K−1 frames: D' = D + (K−1)·C·H·W."""
        seen = self._seen(None if state is None else state[:, self.latent_dim :], frame)
        return torch.cat([self._encode(self._normalised(seen))[:, 0], seen[:, 1:].flatten(1)], dim=1)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return self.predictor(latents, self._normalised_actions(actions))

    def loss(self, batch: Batch) -> Terms:
        first, device = self.context - 1, batch["frames"].device.type
        frames, actions = self._normalised(batch["frames"]), batch["actions"][:, first:]
        latents = self._encode(frames)
        predictions = torch.cat([latents[:, :1], self.predict(latents[:, :1], actions)], dim=1)
        return self.judged(
            batch,
            latents,
            predictions,
            imagine=as_called(lambda others: imagined(self.predictor, latents[:, :1], others), device),
            decode=None if self.decoder is None else as_called(self._decode, device),
            frames=frames[:, first:],
            targets=self._targets(frames),
        )

    def after_step(self) -> None:
        if self.target is not None and self.momentum is not None:
            follow(self.target, self.encoder, 1 - self.momentum)

    @torch.no_grad()
    def _targets(self, frames: Tensor) -> Tensor | None:
        """What the slower encoder makes of normalised frames."""
        return None if self.target is None else self._encode(frames, self.target)
