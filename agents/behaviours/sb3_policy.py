"""A policy trained with Stable-Baselines3."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from agents.actions import described, vectors
from agents.behaviours.core import Behaviour, nested, part
from agents.behaviours.uniform import Uniform
from agents.policies.core import Goal, Observer
from agents.policies.pixels import Pixels
from agents.policies.true_state import TrueState
from envs import random
from envs.arguments import within
from envs.core import Factors, State
from envs.random import Key

# A setting that each algorithm saves and those after it do not.
MARKS = {
    "PPO": "clip_range",
    "SAC": "target_entropy",
    "TD3": "target_policy_noise",
    "DQN": "exploration_initial_eps",
    "A2C": "gae_lambda",
}


@dataclass(frozen=True)
class SB3Policy(Behaviour):
    """The deterministic actions of a policy that Stable-Baselines3's ``save`` has written, with random ones in between.

    **Such files hold pickled Python objects, which can run anything when they are loaded: open your own only.**

    The policy, and a world model that it sees through, run on one world at a time: in a batch of another size networks
    would round otherwise. The policy is on the CPU, and its file is read when the first episode starts.

    Attributes:
        path: the ``.zip`` file.
        algorithm: the name of its class in `stable_baselines3`; None: the one that the settings in the file tell (a
            DDPG policy is loaded as TD3, which acts alike).
        observe: what the policy was trained on: an observer; ``"frames"``, which is `Pixels`; or names of factors,
            which is `TrueState`.
        normaliser: what `VecNormalize.save` wrote of the environment that it was trained in; None: it had none.
        epsilon: share of the steps whose action is drawn uniformly instead.
    """

    path: str
    algorithm: str | None = None
    observe: Observer | Literal["frames"] | Sequence[str] = "frames"
    normaliser: str | None = None
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        within(0, 1, epsilon=self.epsilon)
        if self.algorithm is not None and self.algorithm not in (*MARKS, "DDPG"):
            raise ValueError(f"algorithm must be one of {[*MARKS, 'DDPG']}, or null, got {self.algorithm!r}")
        named = isinstance(self.observe, Sequence) and not isinstance(self.observe, str) and len(self.observe) > 0
        if not (named or self.observe == "frames" or isinstance(self.observe, Observer)):
            raise ValueError(f"observe must be 'frames', a list of factors or an observer, got {self.observe!r}")

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        if self._model.action_space != action_space:
            raise ValueError(
                f"the policy in {self.path!r} acts in {self._model.action_space}, the environment takes {action_space}"
            )
        random_actions = Uniform().start(random.fold_in(key, 1), action_space) if self.epsilon else {}
        return {
            "key": random.fold_in(key, 0),
            "acted": np.zeros(len(key), bool),
            "action": np.zeros((len(key), *(action_space.shape or ())), action_space.dtype),
            **nested("uniform", random_actions),
        }

    def look(self, state: State, frames: NDArray, factors: Factors, goal: Goal | None) -> State:
        goal = goal if self._sees(frames, factors, goal) else None
        begun = [
            self._observer.begin(
                frames[i],
                _of(factors, i),
                None if goal is None else Goal(goal.frames[i], _of(goal.factors, i)),
            )
            for i in _each(frames)
        ]
        return {**state, **nested("observer", _joined(begun))}

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        space = self._model.action_space
        done = vectors(torch.as_tensor(state["action"])[:, None], described(space))[:, 0].numpy()  # [n, A]
        actions, observed = np.empty_like(state["action"]), []
        for i in _each(frames):
            own = _of(part("observer", state), i)
            if state["acted"][i]:
                own = self._observer.advance(own, done[i], frames[i], _of(factors, i))
            seen = self._normalised(self._observer.observe(own))
            actions[i] = self._model.predict(seen[0], deterministic=True)[0]
            observed.append(own)
        if self.epsilon:
            state = {**state, "key": random.fold_in(state["key"], 0)}
            drawn, uniform = Uniform().act(part("uniform", state), frames, factors)
            state |= nested("uniform", uniform)
            explores = random.uniform(state["key"]) < self.epsilon
            actions[explores] = drawn[explores]
        own = nested("observer", _joined(observed))
        return actions, {**state, **own, "acted": np.ones(len(frames), bool), "action": actions.copy()}

    def _sees(self, frames: NDArray, factors: Factors, goal: Goal | None) -> bool:
        """Whether the policy sees the goal; one that was trained on frames alone may do without.

        Raises:
            ValueError: it sees something else altogether.
        """
        told = spaces.Dict({name: spaces.Box(-np.inf, np.inf, x.shape[1:], np.float32) for name, x in factors.items()})
        wanted = self._model.observation_space
        for with_goal in (goal is not None, False):
            given = self._observer.space(frames.shape[1:], told, with_goal)
            if given.shape == wanted.shape:
                return with_goal
        raise ValueError(f"the policy in {self.path!r} observes {wanted}, but would be given {given}; set observe")

    @cached_property
    def _observer(self) -> Observer:
        if isinstance(self.observe, Observer):
            return self.observe
        return Pixels() if self.observe == "frames" else TrueState(tuple(self.observe))

    @cached_property
    def _normalised(self) -> Callable[[NDArray], NDArray]:
        """What `VecNormalize` makes of observations [1, ...].

        Raises:
            ValueError: no such file, or one that is of other observations.
        """
        if self.normaliser is None:
            return lambda observations: observations
        try:
            normaliser = pickle.loads(Path(self.normaliser).read_bytes())
            sees, wanted = normaliser.observation_space.shape, self._model.observation_space.shape
        except Exception as error:  # what a file of another kind may raise
            raise ValueError(
                f"{self.normaliser!r} cannot be loaded: give what VecNormalize.save() wrote. {error!r}"
            ) from error
        if normaliser.norm_obs and sees != wanted:
            raise ValueError(f"{self.normaliser!r} normalises arrays of shape {sees}, the policy observes {wanted}")
        return normaliser.normalize_obs

    @cached_property
    def _model(self) -> Any:
        import stable_baselines3

        settings = _settings(self.path)
        algorithm = self.algorithm or next((name for name, mark in MARKS.items() if mark in settings), None)
        if algorithm is None:
            raise ValueError(f"{self.path!r} is of an algorithm that is none of {list(MARKS)}: it cannot be loaded")
        try:
            return getattr(stable_baselines3, algorithm).load(self.path, device="cpu")
        except Exception as error:  # what a file of another version, or of another algorithm, may raise
            raise ValueError(f"{self.path!r} cannot be loaded as a policy of {algorithm}: {error!r}") from error


def _settings(path: str) -> dict[str, Any]:
    """The settings in a saved policy, without unpickling anything.

    Raises:
        ValueError: no such file, or one that Stable-Baselines3 did not write.
    """
    if not Path(path).is_file():
        raise ValueError(f"no policy at path={path!r}: give the .zip file that Stable-Baselines3's save() wrote")
    try:
        with zipfile.ZipFile(path) as file:
            return dict(json.loads(file.read("data")))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path!r} is not a policy that Stable-Baselines3 saved: {error!r}") from error


def _each(frames: NDArray) -> Iterator[slice]:
    """The worlds of a batch one by one, each as a batch of one."""
    return (slice(i, i + 1) for i in range(len(frames)))


def _of(batch: State, worlds: slice) -> State:
    """Some worlds of a batch {name: [n, ...]}."""
    return {name: array[worlds] for name, array in batch.items()}


def _joined(states: Sequence[State]) -> State:
    """Batches of one as one batch."""
    return {name: np.concatenate([state[name] for state in states]) for name in states[0]}
