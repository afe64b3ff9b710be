"""Actions as world models see them: vectors of floats, whatever the action space."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor


def described(space: gymnasium.Space) -> dict[str, Any]:
    """What a dataset's manifest says of an action space. Choices have ``sizes``, of each set, and the first of each."""
    entry: dict[str, Any] = {"space": str(space), "shape": list(space.shape or ()), "dtype": str(space.dtype)}
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec
        entry |= {"sizes": np.ravel(sizes).tolist(), "start": np.ravel(space.start).tolist()}
    return entry


def space_of(entry: dict[str, Any]) -> gymnasium.Space:
    """The space that `described` describes; without bounds where they cannot be read off its name."""
    shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
    if "sizes" in entry:
        sizes, start = (np.reshape(entry[name], shape) for name in ("sizes", "start"))
        return spaces.MultiDiscrete(sizes, start=start) if shape else spaces.Discrete(int(sizes), start=int(start))
    bounds = re.match(r"Box\((\[.*?\]|[^\[,]+), (\[.*?\]|[^\[,]+), ", entry["space"])
    try:
        low, high = (np.broadcast_to(np.array(x.strip("[]").split(), dtype), shape) for x in bounds.groups())  # type: ignore[union-attr]
    except (AttributeError, ValueError):  # abbreviated, or of several axes
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (np.full(shape, x, dtype) for x in ((limits.min, limits.max) if limits else (-np.inf, np.inf)))
    return spaces.Box(low, high, shape, dtype)


def vectors(actions: Tensor, entry: dict[str, Any]) -> Tensor:
    """Actions as a dataset stores them, as a world model takes them: [B, T, *shape] -> float [B, T, A].

    A choice among n becomes its one-hot vector, several choices one after the other; all other numbers stay what they
    are, in one row.

    Args:
        actions: as stored.
        entry: what the manifest says of them, see `described`.
    """
    flat = actions.reshape(*actions.shape[:2], -1)
    if "sizes" not in entry:
        return flat.float()
    choices = (flat - torch.tensor(entry["start"], device=flat.device)).long()
    return torch.cat([F.one_hot(choices[..., i], size) for i, size in enumerate(entry["sizes"])], dim=-1).float()
