"""Worlds seen through a frozen world model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from agents.policies.core import Goal, Observer
from agents.world_models.core import WorldModel
from envs.core import Factors, State


@dataclass(frozen=True)
class Latents(Observer):
    """z, the first D numbers of a world model's state (`WorldModel.update`); behind it z_goal, if there is a goal.

    Every frame is encoded once, those of all worlds in one batch. Observation: float32 [D] or [2·D].

    Attributes:
        model: used as it is and where it is; in evaluation mode, as `jepa_worlds.load` gives it.

    Raises:
        ValueError: what is no world model; one in training mode, whose latents would depend on the other worlds of a
            batch.
    """

    model: WorldModel

    def __post_init__(self) -> None:
        if not isinstance(self.model, WorldModel):
            raise ValueError(f"model must be a world model, such as jepa_worlds.load(run) gives, got {self.model!r}")
        if self.model.training:
            raise ValueError(f"{type(self.model).__name__} is in training mode: call its eval() first")

    def space(self, frame_shape: tuple[int, ...], factor_space: spaces.Dict, goal: bool) -> spaces.Box:
        try:
            self.begin(np.zeros((1, *frame_shape), np.uint8), {}, None)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the world model does not take frames of shape {tuple(frame_shape)} (H, W, C): make the environment "
                f"as the one that the model was trained on. It says: {error}"
            ) from error
        return spaces.Box(-np.inf, np.inf, (self.model.latent_dim * (1 + goal),), np.float32)

    def begin(self, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        state = {"model": self._updated(None, None, frames)}
        if goal is not None:
            state["goal"] = self._updated(None, None, goal.frames)[:, : self.model.latent_dim]
        return state

    def advance(self, state: State, actions: NDArray, frames: NDArray, factors: Factors) -> State:
        return {**state, "model": self._updated(state["model"], actions, frames)}

    def observe(self, state: State) -> NDArray:
        latents = state["model"][:, : self.model.latent_dim]
        return np.concatenate([latents, state["goal"]], axis=1) if "goal" in state else latents.copy()

    @torch.inference_mode()
    def _updated(self, state: NDArray | None, actions: NDArray | None, frames: NDArray) -> NDArray[np.float32]:
        """[n, D'], [n, A], [n, H, W, C] -> [n, D']."""
        device = next(self.model.parameters()).device
        before, done = (None if x is None else torch.as_tensor(x, device=device) for x in (state, actions))
        seen = torch.as_tensor(np.ascontiguousarray(frames), device=device).permute(0, 3, 1, 2)  # [n, C, H, W]
        return self.model.update(before, done, seen).float().cpu().numpy()
