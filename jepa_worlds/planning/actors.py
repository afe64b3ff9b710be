"""Who acts in the episodes of a protocol: planners, what they are compared with, floors and ceilings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.actions import described, vectors
from agents.behaviours.core import Behaviour
from agents.costs.core import Aims, Costs, plan_cost
from agents.heads.policy import GoalPolicy
from agents.mpc import MPC, SearchSpace
from agents.planners.core import Plan, Planner
from agents.policies.core import Goal
from agents.policies.latents import Latents
from agents.simulation import Wanted, simulated_cost
from agents.world_models.core import WorldModel
from envs.core import World
from envs.random import Key
from jepa_worlds.planning.arenas import Now
from jepa_worlds.planning.protocols import Protocol

Decided = Callable[[Plan, int], None]
Controller = Callable[[SearchSpace], MPC]
"""Plans over and over again, in the space of actions that it is given."""


def controller(planner: Planner, protocol: Protocol, seed: int, decided: Decided) -> Controller:
    """A planner as a protocol has it decide; ``seed`` and ``decided`` are as in `agents.mpc.MPC`."""
    ahead = (protocol.horizon, protocol.executed, protocol.action_repeat)
    return lambda space: MPC(planner, space, *ahead, seed, decided)


class Actor(ABC):
    """Acts in n worlds that are always at the same step; for one batch of episodes."""

    @abstractmethod
    def begin(self, now: Now, goal: Goal, space: gymnasium.Space, key: Key) -> None:
        """Take in where episodes begin and where they are to get. ``key`` [n] is for what is random in each.

        Raises:
            ValueError: worlds in which it cannot act.
        """

    @abstractmethod
    def act(self, now: Now) -> NDArray:
        """The actions of now: [n, *space.shape]."""


class Still(Actor):
    """Does nothing: action 0, or what is nearest to it within the bounds; of choices, the one in the middle."""

    def begin(self, now: Now, goal: Goal, space: gymnasium.Space, key: Key) -> None:
        if isinstance(space, gymnasium.spaces.Box):
            one = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
        else:
            one = np.asarray(space.start + (space.n - 1) // 2)  # type: ignore[attr-defined]
        self.actions = np.repeat(one[None], len(key), axis=0)

    def act(self, now: Now) -> NDArray:
        return self.actions


class Behaving(Actor):
    """Follows a behaviour, which does not know what for unless it looks at goals."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    def begin(self, now: Now, goal: Goal, space: gymnasium.Space, key: Key) -> None:
        state = self.behaviour.start(key, space)
        self.state = self.behaviour.look(state, now.frames, now.factors, goal)

    def act(self, now: Now) -> NDArray:
        actions, self.state = self.behaviour.act(self.state, now.frames, now.factors)
        return actions


class Seeing(Actor):
    """What acts by a world model's latents: it keeps the model's state, and encodes every frame once."""

    def __init__(self, model: WorldModel) -> None:
        self.model, self.observer = model, Latents(model)
        self.device = next(model.parameters()).device

    def begin(self, now: Now, goal: Goal, space: gymnasium.Space, key: Key) -> None:
        self.observer.space(now.frames.shape[1:], gymnasium.spaces.Dict(), goal=True)  # refuses frames of another size
        if goal.frames.shape != now.frames.shape:
            raise ValueError(f"goals should look like frames, {now.frames.shape}; got {goal.frames.shape}")
        self.space, self.described = SearchSpace.of(space, self.device), described(space)
        self.state = self.observer.begin(now.frames, now.factors, goal)
        self.last: NDArray | None = None
        self.goal = self.model.achieved_goal(self._tensor(self.state["goal"]))  # [n, G]

    def act(self, now: Now) -> NDArray:
        if self.last is not None:
            self.state = self.observer.advance(self.state, self.last, now.frames, now.factors)
        self.last = self._acts(self._tensor(self.state["model"]))
        taken = self.space.taken(torch.from_numpy(self.last))
        told = vectors(torch.from_numpy(taken)[:, None], self.described)[:, 0]
        self.last = told.numpy()  # what was done, as the model takes it
        return taken

    @abstractmethod
    def _acts(self, state: Tensor) -> NDArray[np.float32]:
        """Actions as vectors, from the states of the model: [n, D'] -> [n, A]."""

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, device=self.device)


class Planning(Seeing):
    """Plans in a world model.

    Args:
        model: what frames are encoded with.
        imagining: what plans are imagined with, the same model or a faster copy of it.
        bf16: imagine in bfloat16.
        costs: what plans are judged by.
        aims: what was fitted for that; goals and factors come from the episodes.
        plans: see `controller`.
    """

    def __init__(
        self,
        model: WorldModel,
        imagining: WorldModel,
        bf16: bool,
        costs: Costs,
        aims: Aims,
        plans: Controller,
    ) -> None:
        super().__init__(model)
        self.imagining, self.bf16, self.costs, self.fitted = imagining, bf16, costs, aims
        self.plans = plans

    def begin(self, now: Now, goal: Goal, space: gymnasium.Space, key: Key) -> None:
        super().begin(now, goal, space, key)
        factors = {name: self._tensor(x.reshape(len(x), -1)).float() for name, x in goal.factors.items()}
        self.aims = Aims(self.goal, factors, self.fitted.readouts, self.fitted.heads)
        self.mpc = self.plans(self.space)

    def _acts(self, state: Tensor) -> NDArray[np.float32]:
        cost = partial(plan_cost, self.costs, self.imagining, state, self.aims, self.bf16)
        return self.mpc.act(len(state), cost).cpu().numpy()


class Following(Seeing):
    """A goal-conditioned policy on a world model's latents, which plans nothing."""

    def __init__(self, model: WorldModel, policy: GoalPolicy) -> None:
        super().__init__(model)
        self.policy = policy

    def _acts(self, state: Tensor) -> NDArray[np.float32]:
        actions = self.policy.act(state[:, : self.model.latent_dim], self.goal)
        low, high = self.space.low, self.space.high
        return actions.clamp(low, high).cpu().numpy()


class Simulating(Actor):
    """The same planner on the true simulator and on what is truly wanted: the ceiling."""

    def __init__(self, world: World, protocol: Protocol, plans: Controller) -> None:
        self.world, self.protocol, self.plans = world, protocol, plans

    def begin(self, now: Now, goal: Goal, space: gymnasium.Space, key: Key) -> None:
        factor = self.protocol.success.factor
        self.wanted = Wanted(factor, goal.factors[factor]) if self.protocol.score == "success" else None
        self.space = SearchSpace.of(space)
        self.mpc = self.plans(self.space)

    def act(self, now: Now) -> NDArray:
        assert now.state is not None
        cost = partial(simulated_cost, self.world, now.state, self.space, self.wanted)
        return self.space.taken(self.mpc.act(len(now.frames), cost))
