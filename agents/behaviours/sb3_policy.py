"""A policy trained with Stable-Baselines3."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.behaviours.core import Behaviour
from agents.behaviours.uniform import Uniform
from envs import random
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

    The policy runs on the CPU, on one world at a time: in a batch of another size its network would round otherwise.
    That is about a thousand actions a second from frames. The file is read when the first episode starts.

    Attributes:
        path: the ``.zip`` file.
        algorithm: the name of its class in `stable_baselines3`; None: the one that the settings in the file tell (a
            DDPG policy is loaded as TD3, which acts alike).
        observe: what the policy was trained on: ``"frames"``, or names of factors, whose numbers it sees one after the
            other as one vector.
        epsilon: share of the steps whose action is drawn uniformly instead.
    """

    path: str
    algorithm: str | None = None
    observe: Literal["frames"] | Sequence[str] = "frames"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be from 0 to 1, got {self.epsilon!r}")
        if self.algorithm is not None and self.algorithm not in (*MARKS, "DDPG"):
            raise ValueError(f"algorithm must be one of {[*MARKS, 'DDPG']}, or null, got {self.algorithm!r}")
        named = isinstance(self.observe, Sequence) and not isinstance(self.observe, str) and len(self.observe) > 0
        if not (named or self.observe == "frames"):
            raise ValueError(f"observe must be 'frames' or a list of factors, got {self.observe!r}")

    def start(self, key: Key, action_space: gymnasium.Space) -> State:
        if self._model.action_space != action_space:
            raise ValueError(
                f"the policy in {self.path!r} acts in {self._model.action_space}, the environment takes {action_space}"
            )
        random_actions = Uniform().start(random.fold_in(key, 1), action_space) if self.epsilon else {}
        return {"key": random.fold_in(key, 0), **{f"uniform.{name}": array for name, array in random_actions.items()}}

    def act(self, state: State, frames: NDArray, factors: Factors) -> tuple[NDArray, State]:
        observations = self._observed(frames, factors)
        space = self._model.action_space
        actions = np.stack([self._model.predict(seen, deterministic=True)[0] for seen in observations])
        actions = actions.reshape(len(frames), *space.shape).astype(space.dtype)
        if not self.epsilon:
            return actions, state
        key = random.fold_in(state["key"], 0)
        own = {name.removeprefix("uniform."): array for name, array in state.items() if name.startswith("uniform.")}
        drawn, own = Uniform().act(own, frames, factors)
        explores = (random.uniform(key) < self.epsilon).reshape(-1, *[1] * (actions.ndim - 1))
        return np.where(explores, drawn, actions), {"key": key, **{f"uniform.{name}": x for name, x in own.items()}}

    def _observed(self, frames: NDArray, factors: Factors) -> NDArray:
        """What the policy sees of each world: frames [n, H, W, C], or factors [n, D]."""
        if self.observe == "frames":
            seen, shape = frames, frames.shape[1:]
            shapes = {shape, (shape[2], *shape[:2])}  # SB3 moves the channels of frames to the front, and says so
        else:
            if missing := sorted(set(self.observe) - factors.keys()):
                raise ValueError(f"observe names the factors {missing}, which are not among {sorted(factors)}")
            seen = np.concatenate([factors[name].reshape(len(frames), -1) for name in self.observe], axis=1)
            shapes = {seen.shape[1:]}
        if self._model.observation_space.shape not in shapes:
            raise ValueError(
                f"the policy in {self.path!r} observes {self._model.observation_space}, but observe={self.observe!r} "
                f"gives {seen.dtype} arrays of shape {seen.shape[1:]}"
            )
        return seen

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
