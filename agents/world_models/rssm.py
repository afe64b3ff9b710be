"""The recurrent state-space model of PlaNet and Dreamer (Hafner et al., 2019, 2020, 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from agents.objectives.core import Beliefs, Terms
from agents.world_models.core import Batch
from agents.world_models.frame_model import FrameModel, as_called, imagined
from agents.world_models.stochastic import Stochastic


class RSSM(FrameModel):
    """z = [h, s]: memory h_t = GRU(h_{t−1}, [s_{t−1}, a_{t−1}]), prior p(s_t | h_t), posterior q(s_t | h_t, o_t).

    The networks are those of Dreamer v1 (github.com/danijar/dreamer, models.py): one hidden layer before the GRU, in
    the prior and in the posterior, normalised as in Dreamer v3. h_0 is learned, and no action comes before it. What
    does not depend on the state of the step before is computed for all steps at once.

    Training samples s_t. `encode`, `update` and `predict` take the expected state instead, and are deterministic:
    `encode` filters (posteriors), `predict` imagines from the last latent of the context (priors).

    Args:
        encoder: [N, K·C, H, W] -> [N, D], an embedding as wide as a latent; see `agents.encoders`.
        decoder: [N, D] -> [N, C, H, W], see `agents.decoders`.
        objectives: by name, each from `Views` to terms: `agents.objectives.likelihood` and `agents.objectives.kl`. In
            these views z is sampled, and ẑ_t is what was expected one step before: [h_t, E p(s_t | h_t)], ẑ_0 = z_0.
        stochastic: the family of s, see `agents.world_models.stochastic`.
        latent_dim: size D of [h, s]; what s leaves of it is h's.
        action_dim: size A.
        frame_mean, frame_std: of the training frames, [C] each, on the scale 0…255.
        action_mean, action_std: of the training actions, [A] each.
        hidden_dim: width of the hidden layers.
        frames: number K of frames that the encoder sees. Losses begin at step K−1; filtering begins at step 0.

    Raises:
        ValueError: latents too small for s, a number of frames that is not positive; later, frames of another number of
            channels, or an encoding of more than one frame without its actions.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        objectives: Mapping[str, nn.Module],
        stochastic: Stochastic,
        latent_dim: int,
        action_dim: int,
        frame_mean: Sequence[float],
        frame_std: Sequence[float],
        action_mean: Sequence[float],
        action_std: Sequence[float],
        hidden_dim: int = 256,
        frames: int = 1,
    ) -> None:
        super().__init__(latent_dim, frame_mean, frame_std, action_mean, action_std, frames)
        if latent_dim <= stochastic.size:
            raise ValueError(
                f"latent_dim must be above the {stochastic.size} numbers of the stochastic state, got {latent_dim!r}"
            )
        self.encoder, self.decoder = encoder, decoder
        self.objectives = nn.ModuleDict(dict(objectives))
        self.stochastic, self.memory_dim = stochastic, latent_dim - stochastic.size
        self.first = nn.Parameter(torch.zeros(self.memory_dim))  # h_0 before tanh
        self.from_state = nn.Linear(stochastic.size, hidden_dim)
        self.from_action = nn.Linear(action_dim, hidden_dim, bias=False)
        self.inner = _activation(hidden_dim)
        self.cell = nn.GRUCell(hidden_dim, self.memory_dim)
        self.prior = nn.Sequential(
            nn.Linear(self.memory_dim, hidden_dim), *_activation(hidden_dim), nn.Linear(hidden_dim, stochastic.outputs)
        )
        self.from_memory = nn.Linear(self.memory_dim, hidden_dim)
        self.from_embedding = nn.Linear(latent_dim, hidden_dim, bias=False)
        self.posterior = nn.Sequential(*_activation(hidden_dim), nn.Linear(hidden_dim, stochastic.outputs))

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        embedded = self._embedded(self._normalised(self._from_the_first(frames)))
        return torch.cat(self._filtered(embedded, actions)[:2], dim=-1)

    def achieved_goal(self, latents: Tensor) -> Tensor:
        """s. What h holds is the way there, and one frame tells nothing of that: [..., D] -> [..., S]."""
        return self._split(latents)[1]

    def update(self, state: Tensor | None, action: Tensor | None, frame: Tensor) -> Tensor:
        """As in `WorldModel`. After the latent, a state holds the last K−1 frames: D' = D + (K−1)·C·H·W."""
        seen = self._seen(None if state is None else state[:, self.latent_dim :], frame)
        embedded = self._embedded(self._normalised(seen))[:, 0]
        if state is None or action is None:
            memory = self._start(embedded)
        else:
            memory = self._step(*self._split(state[:, : self.latent_dim]), self._told(action))
        latent = torch.cat([memory, self.stochastic.mean(self._posterior(memory, embedded))], dim=-1)
        return torch.cat([latent, seen[:, 1:].flatten(1)], dim=1)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return self._imagined(latents, self._normalised_actions(actions))

    def loss(self, batch: Batch) -> Terms:
        first, device = self.context - 1, batch["frames"].device.type
        frames = self._normalised(self._from_the_first(batch["frames"]))
        embedded = self._embedded(frames)
        noise = self.stochastic.noise(embedded)
        memory, states, posterior = (x[:, first:] for x in self._filtered(embedded, batch["actions"], noise))
        prior = self.prior(memory)
        latents = torch.cat([memory, states], dim=-1)
        expected = torch.cat([memory, self.stochastic.mean(prior)], dim=-1)
        return self.judged(
            batch,
            latents,
            predictions=torch.cat([latents[:, :1], expected[:, 1:]], dim=1),
            imagine=as_called(lambda others: imagined(self._imagined, latents[:, :1], others), device),
            decode=as_called(self._decode, device),
            frames=frames[:, 2 * first :],
            beliefs=Beliefs(prior.float(), posterior.float(), self.stochastic.divergence),
        )

    def _filtered(
        self, embedded: Tensor, actions: Tensor | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h, s and what the posterior is, step by step; s is sampled if there is noise, and expected if there is none.

        Shape: [B, T, hidden], [B, T−1, A], [B, T, S] -> [B, T, D−S], [B, T, S], [B, T, R].
        """
        steps = embedded.shape[1]
        if steps > 1 and actions is None:
            raise ValueError("an RSSM filters: to encode more than one frame it needs the actions between them")
        told = None if actions is None else self._told(actions)
        memory = self._start(embedded[:, 0])
        memories: list[Tensor] = []
        states: list[Tensor] = []
        posteriors: list[Tensor] = []
        for t in range(steps):
            if t and told is not None:
                memory = self._step(memory, states[-1], told[:, t - 1])
            posterior = self._posterior(memory, embedded[:, t])
            state = self.stochastic.mean(posterior) if noise is None else self.stochastic.sample(posterior, noise[:, t])
            memories.append(memory)
            states.append(state)
            posteriors.append(posterior)
        return torch.stack(memories, dim=1), torch.stack(states, dim=1), torch.stack(posteriors, dim=1)

    def _imagined(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Context [B, K, D], normalised actions [B, H, A] -> [B, H, D]."""
        memory, state = self._split(latents[:, -1])
        future = []
        for told in self.from_action(actions).unbind(dim=1):
            memory = self._step(memory, state, told)
            state = self.stochastic.mean(self.prior(memory))
            future.append(torch.cat([memory, state], dim=-1))
        return torch.stack(future, dim=1)

    def _start(self, like: Tensor) -> Tensor:
        return self.first.tanh().expand(len(like), -1)  # [B, D−S]

    def _step(self, memory: Tensor, state: Tensor, told: Tensor) -> Tensor:
        """The next h: [B, D−S], [B, S], [B, hidden] -> [B, D−S]."""
        return self.cell(self.inner(self.from_state(state) + told), memory).float()

    def _told(self, actions: Tensor) -> Tensor:
        return self.from_action(self._normalised_actions(actions))

    def _embedded(self, frames: Tensor) -> Tensor:
        """What normalised frames tell the posterior: [B, K−1+T, C, H, W] -> [B, T, hidden]."""
        return self.from_embedding(self._encode(frames))

    def _posterior(self, memory: Tensor, embedded: Tensor) -> Tensor:
        return self.posterior(self.from_memory(memory) + embedded)

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        memory, state = latents.split([self.memory_dim, self.stochastic.size], dim=-1)
        return memory, state


def _activation(size: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(size), nn.ELU())
