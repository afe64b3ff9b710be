"""Episodes that were planned, played again from their actions: what was seen, and where plans were to lead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.actions import described, vectors
from agents.costs.imagination import imagine
from agents.policies.core import Goal
from agents.policies.latents import Latents
from envs.core import Factors
from jepa_worlds.data.dataset import is_position
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.comparing import Comparison
from jepa_worlds.planning.fitting import Fitted
from jepa_worlds.probing.clips import drawn
from jepa_worlds.shared.files import Plain


@dataclass(frozen=True)
class Scene:
    """Episodes that were planned, played again: n of them, over T steps with D decisions.

    Attributes:
        frames: [T+1, n, H, W, C].
        goal: of the episodes.
        returns: [T+1, n], the rewards until then.
        path: [T+1, n, 2], where what is followed is, (x, y) in px; None if no factor is a position.
        aim: [n, 2], where it is at the goal; None likewise.
        plans: [D, n, K, 2], where plans lead, as a probe reads it; None likewise.
        imagined: [D, n, H, W, C], what the model draws of the end of each plan; None if it does not draw.
    """

    frames: NDArray[np.uint8]
    goal: Goal
    returns: NDArray
    path: NDArray | None
    aim: NDArray | None
    plans: NDArray | None
    imagined: NDArray[np.uint8] | None


def followed(factors: Factors, success: str) -> str | None:
    """The factor whose path is drawn: that of success if it is a position (x, y) in the frame, else the last such."""
    found = [name for name, x in factors.items() if is_position(name) and x.shape[1:] == (2,)]
    return success if success in found else next(reversed(found), None)


@torch.inference_mode()
def played_again(comparison: Comparison, fitted: Fitted, episodes: list[Plain]) -> tuple[Scene, str | None]:
    """The episodes from their actions, and what the model made of its plans."""
    protocol, model = comparison.protocol, fitted.model
    numbers, trust = [x["number"] for x in episodes], comparison.settings["trust"]
    arena = Arena(protocol, comparison.distractor, episodes[0]["seed"], numbers, trust)
    observer, device, space = Latents(model), next(model.parameters()).device, described(arena.space)
    actions = np.array([x["actions"] for x in episodes], arena.space.dtype).swapaxes(0, 1)  # [T, n, ...]
    plans = torch.tensor([x["plans"] for x in episodes], device=device).transpose(0, 1)  # [D, n, H, A]
    now, goal = arena.begin()
    known = {name: now.factors[name] for name in fitted.dataset.factors if name in now.factors}
    factor = followed(known, protocol.success.factor)
    readout, every = (fitted.readout(factor) if factor else None), protocol.executed * protocol.action_repeat
    frames, factors, returns = [now.frames], [now.factors], [np.zeros(len(episodes))]
    ends: list[Tensor] = []
    led: list[NDArray] = []
    state = observer.begin(now.frames, now.factors, None)
    for t, taken in enumerate(actions):
        if t % every == 0:
            held = plans[t // every][:, None].repeat_interleave(protocol.action_repeat, dim=2)  # [n, 1, K, A]
            latents = imagine(model, torch.as_tensor(state["model"], device=device), held)[:, 0]  # [n, K, D]
            ends.append(latents[:, -1])
            if readout is not None:
                led.append(readout(latents).cpu().numpy())
        now, rewards = arena.step(taken)
        told = vectors(torch.from_numpy(taken)[:, None], space)[:, 0].numpy()
        state = observer.advance(state, told, now.frames, now.factors)
        frames.append(now.frames)
        factors.append(now.factors)
        returns.append(returns[-1] + rewards)
    arena.close()
    scene = Scene(
        frames=np.stack(frames),
        goal=goal,
        returns=np.stack(returns),
        path=np.stack([x[factor] for x in factors]) if factor else None,
        aim=goal.factors[factor] if factor else None,
        plans=np.stack(led) if factor else None,
        imagined=drawn(model, torch.stack(ends)),
    )
    return scene, factor
