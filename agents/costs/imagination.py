"""What candidates lead to, as a world model imagines it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from agents.world_models.core import WorldModel


def imagine(model: WorldModel, state: Tensor, actions: Tensor, bf16: bool = False) -> Tensor:
    """The latents that follow a state under N candidates an environment, by `WorldModel.predict`.

    An environment's latents do not depend on which others are in the batch. Nothing is kept for gradients unless
    actions require them.

    Shape: state [B, D'], actions [B, N, H, A] -> [B, N, H, D], float32.

    Args:
        model: in evaluation mode.
        state: see `WorldModel.update`.
        actions: in the environment's units.
        bf16: compute in bfloat16 where autocast deems it safe. On a CPU without AMX this is slower.

    Raises:
        ValueError: a model in training mode.
    """
    if model.training:
        raise ValueError(f"{type(model).__name__} is in training mode: call its eval() first")
    batch, candidates = actions.shape[:2]
    latents = state[:, None, : model.latent_dim].repeat_interleave(candidates, dim=0)  # [B·N, 1, D]
    grad = torch.is_grad_enabled() and actions.requires_grad
    # cuDNN has no gradients of recurrent networks in evaluation mode; torch's own kernels have.
    kernels = torch.backends.cudnn.flags(enabled=False) if grad and actions.is_cuda else nullcontext()
    with kernels, torch.set_grad_enabled(grad), torch.autocast(actions.device.type, torch.bfloat16, enabled=bf16):
        imagined = model.predict(latents, actions.flatten(0, 1)).float()
    return imagined.unflatten(0, (batch, candidates))
