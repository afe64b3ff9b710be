"""Gymnasium's vector environments as Stable-Baselines3 wants them, seen through an observer.

    env = LatentVecEnv(gymnasium.make_vec("jepa_worlds/Reacher-v0", num_envs=32), jepa_worlds.load("runs/reacher"))
    PPO("MlpPolicy", env).learn(100_000)

Frames are encoded here and not in a policy's features extractor: so every frame is encoded once, and rollout and replay
buffers hold vectors. `stable_baselines3.common.vec_env.VecNormalize` around it keeps a running normalisation, and is
saved with ``VecNormalize.save``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.actions import described, vectors
from agents.policies.core import Goal, Observer
from agents.policies.latents import Latents
from agents.world_models.core import WorldModel
from envs.core import Factors, State, merge


class ObservedVecEnv(VecEnv):
    """A vector environment of frames, as Stable-Baselines3's `VecEnv` of what an observer makes of them.

    Worlds are stepped, drawn and observed together, in whatever autoreset mode they were made. Where an episode has
    ended, the observation is the first of the next, as Stable-Baselines3 wants it. ``infos[i]`` then holds the last one
    as ``terminal_observation``, ``TimeLimit.truncated``, whether it was cut off rather than over, and what else the
    environment told of the last step, such as ``is_success``; in all other steps it is empty.

    A goal that frames do not show is drawn at the beginning of every episode, if ``env.unwrapped.seeks_goal`` says that
    there is one. Gymnasium's own vector environments over single ones do not: `SyncVectorEnv` is refused then, in the
    workers of `AsyncVectorEnv` the goal goes unnoticed.

    Args:
        env: observes uint8 frames [n, H, W, C].
        observer: what the policy sees of them.

    Raises:
        ValueError: what is no vector environment, does not observe frames, has a goal and does not tell it, or is
            something that the observer cannot see.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv, observer: Observer) -> None:
        if not isinstance(env, gymnasium.vector.VectorEnv):
            raise ValueError(f"env must be a vector environment, such as gymnasium.make_vec makes, got {env!r}")
        space = env.single_observation_space
        if not (isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3):
            raise ValueError(
                f"policies see uint8 frames [H, W, C]; this environment observes {space}. One that renders rgb_array "
                f'shows frames as gymnasium.make_vec("jepa_worlds/Gymnasium-v0", num_envs=…, env_id=…)'
            )
        self.env, self.observer = env, observer
        self.seeks_goal = bool(getattr(env.unwrapped, "seeks_goal", False))
        singles = getattr(env.unwrapped, "envs", [])  # of a `SyncVectorEnv`
        if not self.seeks_goal and any(getattr(one.unwrapped, "seeks_goal", False) for one in singles):
            raise ValueError(
                "there is a goal that frames do not show, and Gymnasium's own vector environments do not tell it: make "
                "the worlds with gymnasium.make_vec, without a vectorization_mode"
            )
        factor_space = getattr(env.unwrapped, "factor_space", spaces.Dict())
        seen = observer.space(space.shape, factor_space, self.seeks_goal)
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._described = described(env.single_action_space)
        self._state: State = {}
        super().__init__(env.num_envs, seen, env.single_action_space)
        self.metadata = env.metadata  # with its frames a second, for `VecVideoRecorder`

    def reset(self) -> NDArray:
        # World i has the seed of the first plus i, as Gymnasium counts too; its options are those of all.
        frames, infos = self.env.reset(seed=self._seeds[0], options=dict(self._options[0]) or None)
        self._reset_seeds()
        self._reset_options()
        self._state = self._begun(np.ones(self.num_envs, bool), frames, infos)
        return self.observer.observe(self._state)

    def step_async(self, actions: NDArray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[NDArray, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        frames, rewards, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        last, final = self._last(done, frames, infos)
        as_vectors = vectors(torch.as_tensor(self._actions)[:, None], self._described)[:, 0].numpy()
        self._state = self.observer.advance(self._state, as_vectors, last, _factors(final))
        observations = self.observer.observe(self._state)
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            for i in np.flatnonzero(done).tolist():
                cut_off = bool(truncated[i] and not terminated[i])
                own = {"terminal_observation": observations[i].copy(), "TimeLimit.truncated": cut_off}
                told[i] = {**_told(final, i), **own}
            if self._mode != AutoresetMode.SAME_STEP:
                frames, infos = self.env.reset(options={"reset_mask": done.copy()})
            fresh = self._begun(done, frames, infos)
            self._state = merge(done, fresh, self._state)
            observations[done] = self.observer.observe(fresh)
        return observations, rewards.astype(np.float32), done, told

    def _begun(self, mask: NDArray[np.bool_], frames: NDArray, infos: dict[str, Any]) -> State:
        """The observer's states of the worlds in a mask [n], which begin an episode."""
        goal = Goal(*self.env.unwrapped.goal(mask)) if self.seeks_goal else None  # type: ignore[attr-defined]
        return self.observer.begin(frames[mask], {name: x[mask] for name, x in _factors(infos).items()}, goal)

    def _last(self, done: NDArray[np.bool_], frames: NDArray, infos: dict[str, Any]) -> tuple[NDArray, dict[str, Any]]:
        """What the step led to, and was told of it, also where the environment has begun the next episode already."""
        if self._mode != AutoresetMode.SAME_STEP or not done.any():
            return frames, infos
        frames, final = frames.copy(), infos["final_info"]
        frames[done] = np.stack(list(infos["final_obs"][done]))
        there = _factors(final)  # of the worlds that have ended
        factors = {name: x.copy() for name, x in _factors(infos).items()}
        for name, x in factors.items():
            x[done] = there[name][done]
        return frames, {**final, "factors": factors}

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[NDArray | None]:
        images: Any = self.env.render()
        return images or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """As in Stable-Baselines3, the same for all worlds; ``state`` is as the vector environment takes it."""
        if isinstance(options, list):
            raise ValueError(f"worlds are reset together: give one dictionary of options, got a list of {len(options)}")
        super().set_options(options)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise ValueError(f"worlds are stepped together: {attr_name!r} cannot be set for some; set it when making them")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise ValueError(f"worlds are stepped together: {method_name!r} cannot be called on each; use .env")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


class LatentVecEnv(ObservedVecEnv):
    """A vector environment of frames as Stable-Baselines3's `VecEnv` of a frozen world model's latents.

    Args:
        env: observes uint8 frames [n, H, W, C] of the shape that the model was trained on.
        model: a world model, such as `jepa_worlds.load` gives.

    Raises:
        ValueError: frames that the model does not take.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv, model: WorldModel) -> None:
        super().__init__(env, Latents(model))


def _factors(infos: dict[str, Any]) -> Factors:
    """The factors of all worlds, without the masks beside them; none if the environment tells none."""
    return {name: x for name, x in infos.get("factors", {}).items() if not name.startswith("_")}


def _told(infos: dict[str, Any], i: int) -> dict[str, Any]:
    """What an environment told of world i, as its masks say; factors aside."""
    plain = {name: x for name, x in infos.items() if not isinstance(x, dict)}
    return {name: x[i] for name, x in plain.items() if f"_{name}" in plain and plain[f"_{name}"][i]}
