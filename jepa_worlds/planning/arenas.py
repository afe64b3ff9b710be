"""The worlds of a protocol: where episodes begin, where they are to get, and how they are walked through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.policies.core import Goal
from agents.simulation import inner_world
from envs import random
from envs.core import Factors, State, World, replace
from envs.random import Key
from jepa_worlds.data.environments import HELD_OUT, factors_of, make_worlds
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.policies.behaviours import make_behaviour
from jepa_worlds.shared.files import Plain


@dataclass(frozen=True)
class Now:
    """What there is to know of n worlds at a step.

    Attributes:
        frames: [n, H, W, C].
        factors: {name: [n, ...]}.
        state: {name: [n, ...]}; None for worlds that do not tell, because they are those of another library.
    """

    frames: NDArray[np.uint8]
    factors: Factors
    state: State | None


class Arena:
    """The worlds of some episodes of a protocol. An episode depends on its seed and number alone; it stays as it ends.

    Args:
        protocol: of them.
        distractor: its configuration; ``{}`` for none.
        seed: of the episodes.
        numbers: of the episodes.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: worlds that cannot be made, or that have no such goals.
    """

    def __init__(
        self, protocol: Protocol, distractor: Plain, seed: int, numbers: Sequence[int], trust: Sequence[str] = ()
    ) -> None:
        self.protocol, self.distractor, self.trust = protocol, distractor, trust
        self.key: Key = random.fold_in(
            random.fold_in(np.full(len(numbers), seed, np.uint64), HELD_OUT), np.asarray(numbers)
        )
        self.env = self._worlds(protocol.budget)

    @property
    def space(self) -> gymnasium.Space:
        """Of an action."""
        return self.env.single_action_space

    @property
    def world(self) -> World | None:
        """What happens, without what distracts from it; None for worlds of another library."""
        return inner_world(self.env.unwrapped)

    def begin(self) -> tuple[Now, Goal]:
        """The worlds as episodes begin, and where they are to get.

        Raises:
            ValueError: worlds that have no such goals.
        """
        frames, infos = self._reset(self.env)
        self._seen = now = self._now(frames.copy(), factors_of(self.env, infos))
        self._over = np.zeros(len(self.key), bool)
        goals = self.protocol.goals
        if goals.ahead is not None:
            return now, self._ahead(goals.ahead)
        there = self.env.unwrapped
        if goals.state is None:
            if not hasattr(there, "goal"):
                raise ValueError(
                    f"{self.protocol.env['id']} does not tell a goal: give protocol.goals.ahead and behaviour"
                )
            return now, Goal(*there.goal())
        if now.state is None:
            raise ValueError(f"{self.protocol.env['id']} takes no states: give protocol.goals.ahead and behaviour")
        state = replace(now.state, {n: _broadcast(n, x, now.state) for n, x in goals.state.items()})
        world: World = there.world  # type: ignore[attr-defined]
        return now, Goal(world.render(state), world.factors(state))

    def step(self, actions: NDArray) -> tuple[Now, NDArray[np.float64]]:
        """The worlds after an action, and its rewards [n]: of episodes that are over, those of the end, and 0."""
        frames, rewards, terminations, truncations, infos = self.env.step(actions)
        now, before = self._now(frames, factors_of(self.env, infos)), self._seen
        self._seen = Now(
            _kept(self._over, before.frames, now.frames),
            {name: _kept(self._over, before.factors[name], x) for name, x in now.factors.items()},
            {n: _kept(self._over, before.state[n], x) for n, x in now.state.items()}
            if before.state is not None and now.state is not None
            else None,
        )
        rewards = np.where(self._over, 0.0, np.asarray(rewards, np.float64))
        self._over = self._over | terminations | truncations
        return self._seen, rewards

    def close(self) -> None:
        """Give back what the worlds hold."""
        self.env.close()

    def _worlds(self, steps: int) -> gymnasium.vector.VectorEnv:
        task = {"env": self.protocol.env, "distractor": self.distractor, "episode_length": steps}
        return make_worlds(task, len(self.key), held_out=True, trust=self.trust)

    def _reset(self, env: gymnasium.vector.VectorEnv) -> tuple[NDArray, Plain]:
        return env.reset(seed=[int(word) for word in random.fold_in(self.key, 0)])  # type: ignore[arg-type]

    def _now(self, frames: NDArray, factors: Factors) -> Now:
        state = getattr(self.env.unwrapped, "state", None) if self.world is not None else None
        return Now(frames, factors, state)

    def _ahead(self, steps: int) -> Goal:
        """What is seen so many steps later, in worlds of their own, if the protocol's behaviour acts."""
        assert self.protocol.goals.behaviour is not None
        behaviour, env = make_behaviour(self.protocol.goals.behaviour, self.trust), self._worlds(steps)
        frames, infos = self._reset(env)
        factors, over = factors_of(env, infos), np.zeros(len(self.key), bool)
        state = behaviour.start(random.fold_in(self.key, 2), env.single_action_space)
        state, goal = behaviour.look(state, frames, factors, None), Goal(frames.copy(), factors)
        for _ in range(steps):
            actions, state = behaviour.act(state, frames, factors)
            frames, _, terminations, truncations, infos = env.step(actions)
            factors = factors_of(env, infos)
            goal = Goal(
                _kept(over, goal.frames, frames), {n: _kept(over, goal.factors[n], x) for n, x in factors.items()}
            )
            over = over | terminations | truncations  # an episode that has ended stays where it was
        env.close()
        return goal


def _kept(mask: NDArray[np.bool_], old: NDArray, new: NDArray) -> NDArray:
    """The old rows where a mask [n] is set, the new ones elsewhere."""
    return np.where(mask.reshape(-1, *[1] * (new.ndim - 1)), old, new)


def _broadcast(name: str, value: object, state: State) -> NDArray:
    """The same value in all worlds, [n, ...]; left as it is where `replace` is to refuse it."""
    array = np.asarray(value)
    return np.broadcast_to(array, state[name].shape) if name in state and array.ndim < state[name].ndim else array
