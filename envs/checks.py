"""What callers hand to the faces of a world, checked before anything is done with it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray


def checked_options(options: dict[str, Any] | None, known: set[str]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        ValueError: one that is not known.
    """
    unknown = set(options or {}) - known
    if unknown:
        raise ValueError(f"unknown reset options {sorted(unknown)}; known are {sorted(known)}")
    return dict(options or {})


def checked_mask(name: str, mask: Any, num_envs: int) -> NDArray[np.bool_]:
    """A mask over worlds, [num_envs]; None is all of them.

    Raises:
        ValueError: not a bool array of that shape, or one that chooses no world.
    """
    if mask is None:
        return np.ones(num_envs, bool)
    if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (num_envs,) and mask.any()):
        raise ValueError(f"{name} must be a bool array of shape ({num_envs},) with at least one True, got {mask!r}")
    return mask.copy()


def one_each(name: str, value: Any, num_envs: int) -> NDArray:
    """A state variable of all worlds: [num_envs, ...].

    Raises:
        ValueError: another number of rows.
    """
    array = np.asarray(value)
    if array.shape[:1] != (num_envs,):
        raise ValueError(
            f"state variable {name!r} needs one row for each of {num_envs} worlds, got shape {array.shape}"
        )
    return array


def checked_actions(
    actions: NDArray, space: gymnasium.Space, num_envs: int, ignored: NDArray[np.bool_] | None = None
) -> NDArray:
    """The actions of all worlds, in the dtype of their space: [num_envs, ...].

    Those of worlds that are ``ignored`` [num_envs] may be anything, and are replaced by harmless ones if they have to.

    Raises:
        ValueError: another shape, an action that is not finite, or is not among the discrete ones.
    """
    expected = (num_envs, *(space.shape or ()))
    if actions.shape != expected:
        raise ValueError(f"expected actions of shape {expected[1:]} each, {expected} in all, got {actions.shape}")
    if isinstance(space, gymnasium.spaces.Discrete):
        within = (actions >= space.start) & (actions < space.start + space.n) & (actions == np.floor(actions))
        bad, harmless = ~within, space.start
    else:
        actions = actions.astype(space.dtype, copy=False)  # what is recorded as an action is what was done
        bad, harmless = ~np.isfinite(actions).all(axis=tuple(range(1, actions.ndim))), 0
    if bad.any():
        if ignored is None or (bad & ~ignored).any():
            raise ValueError(f"actions must be finite and in {space}, got {actions[bad][0]!r}")
        actions = np.where(bad.reshape(-1, *[1] * (actions.ndim - 1)), harmless, actions)
    return actions
