"""A predictor that attends to the start and to all actions since; V-JEPA 2-AC, DINO-WM and LeWM attend to the past."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class TransformerPredictor(nn.Module):
    """A causal transformer over the last latent and the actions after it: all H predictions in one pass.

    x_0 = W_z·z, x_k = W_a·a_{k−1}, both with sinusoidal positions; ẑ_k = z + head(LayerNorm(blocks(x)_k)). Open loop:
    nothing but actions enters after the context. What lies further ahead than it was trained for it may predict badly.

    Args:
        latent_dim: size D of a latent.
        action_dim: size A of an action.
        depth: number of blocks.
        heads: of attention.
        width: of tokens; divisible by ``heads``, and even.

    Raises:
        ValueError: a number that is not positive, or a width that cannot be split.

    Shape: context [B, K, D], actions [B, H, A] -> [B, H, D].
    """

    def __init__(self, latent_dim: int, action_dim: int, depth: int = 2, heads: int = 4, width: int = 256) -> None:
        super().__init__()
        if min(depth, heads, width) < 1:
            raise ValueError(f"depth, heads and width must be positive, got {depth!r}, {heads!r} and {width!r}")
        if width % heads or width % 2:
            raise ValueError(f"width must be even and divisible by heads, got width={width!r} and heads={heads!r}")
        self.width = width
        self.of_latent, self.of_action = nn.Linear(latent_dim, width), nn.Linear(action_dim, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_dim))

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        last = context[:, -1:]
        tokens = torch.cat([self.of_latent(last), self.of_action(actions)], dim=1)  # [B, 1+H, W]
        tokens = tokens + positions(tokens.shape[1], self.width, tokens.device)  # float32, under autocast too
        return last + self.head(self.blocks(tokens)[:, 1:])


class Block(nn.Module):
    """Causal attention, then a network of one hidden layer, each with a norm before and a way around it.

    Shape: [B, T, W] -> [B, T, W].
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))  # [B, T, 3, heads, W/heads]
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, T, W/heads] each
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))  # [B, heads, T, W/heads] -> [B, T, W]
        return x + self.network(self.norm(x))


def positions(count: int, width: int, device: torch.device | None = None) -> Tensor:
    """sin and cos of t/10000^(2i/W) (Vaswani et al., 2017): [count, width]."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    angles = torch.arange(count, device=device)[:, None] * rates  # [T, W/2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
