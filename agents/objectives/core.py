"""What objectives see, and how their terms become one loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

Terms = dict[str, Tensor]  # unweighted scalar losses by name


@dataclass(frozen=True)
class Beliefs:
    """What a stochastic model believes of every state, before and after it has seen the frame.

    Attributes:
        prior, posterior: [B, T, R] each, the numbers that say which distribution it is.
        divergence: [B, T, R], [B, T, R] -> [B, T], KL(first ‖ second) in nats.
    """

    prior: Tensor
    posterior: Tensor
    divergence: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Views:
    """One batch of sequences as a world model sees it.

    Attributes:
        latents: [B, T, D], encoded from each frame.
        predictions: [B, T, D], rolled open-loop from the first latent; ``predictions[:, 0]`` is ``latents[:, 0]``. Of a
            stochastic model: what it expected one step before.
        actions: [B, T−1, A], normalised.
        frames: [B, T, C, H, W], normalised.
        factors: {name: [B, T, F]}, in the units of the environment.
        imagine: normalised actions [N, B, T−1, A] -> [N, B, T−1, D]: predictions from the same first latents under
            other actions than those taken; None if the model has no predictor to ask.
        decode: [B, T, D] -> normalised frames [B, T, C, H, W]; None if the model has no decoder.
        beliefs: of a stochastic model; None of a deterministic one.
        targets: [B, T, D], made of the frames by a slower copy of the encoder, without gradient; None if there is none.
            An objective that reads them says so by a class attribute, ``uses_targets = True``.
    """

    latents: Tensor
    predictions: Tensor
    actions: Tensor
    frames: Tensor
    factors: Mapping[str, Tensor]
    imagine: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    beliefs: Beliefs | None = None
    targets: Tensor | None = None

    def changed(self, change: Callable[[Tensor], Tensor]) -> Views:
        """These views with other latents, predictions and targets, for objectives of parts: [..., D] -> [..., D'].

        The decoder knows nothing of the change, so there is none.
        """
        ask = self.imagine
        return replace(
            self,
            latents=change(self.latents),
            predictions=change(self.predictions),
            imagine=None if ask is None else lambda actions: change(ask(actions)),
            targets=None if self.targets is None else change(self.targets),
            decode=None,
        )

    def counterfactuals(self, count: int) -> Tensor:
        """Predictions from the same first latents under the actions of others: [count, B, T−1, D].

        Others are the sequences that follow in the batch, which is shuffled.

        Raises:
            ValueError: the model cannot imagine, or the batch has no ``count`` others.
        """
        if self.imagine is None:
            raise ValueError(
                "this objective asks what other actions would have led to, and the model has no predictor to ask: "
                "train it with model=jepa"
            )
        if count >= len(self.actions):
            raise ValueError(
                f"the actions of {count} other sequences are asked for in a batch of {len(self.actions)}: a larger "
                f"batch_size, more held-out episodes, or fewer others are needed"
            )
        return self.imagine(torch.stack([self.actions.roll(-shift, dims=0) for shift in range(1, count + 1)]))


def uses_targets(objectives: nn.Module) -> bool:
    """Whether any objective, or part of one, says that it uses `Views.targets`."""
    return any(getattr(objective, "uses_targets", False) for objective in objectives.modules())


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Σ weight·term.

    Raises:
        ValueError: a term without a weight, or a weight without a term.
    """
    if terms.keys() != weights.keys():
        raise ValueError(
            f"every term needs one weight: the loss has the terms {sorted(terms)}, the configuration weights "
            f"{sorted(weights)}"
        )
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
