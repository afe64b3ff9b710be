"""The vector face of a world, `gymnasium.vector.VectorEnv` (a batch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.arguments import require_whole
from envs.checks import checked_actions, checked_mask, checked_options, one_each
from envs.core import Factors, State, merge, replace
from envs.faces import RENDER_MODES, build_world, checked_render_mode, draw_keys, frame_space, rgb, started


class WorldVectorEnv(gymnasium.vector.VectorEnv[NDArray[np.uint8], NDArray, NDArray]):
    """Many worlds as one `gymnasium.vector.VectorEnv`, stepped and drawn together.

    Behaves as `gymnasium.vector.SyncVectorEnv` over `WorldEnv` does, number for number, in all three autoreset modes;
    ``infos["factors"]`` is ``{name: [n, ...]}``. ``reset(options={"state": {name: [n, ...]}})`` starts from given
    states, ``reset(options={"reset_mask": [n] bool})`` resets some worlds and leaves the others where they are.

    Args:
        num_envs: the number of worlds.
        world, render_mode, kwargs: as in `WorldEnv`.
        max_episode_steps: steps until an episode is truncated; None or -1 for never.
        autoreset_mode: what happens to a world whose episode is over: reset in the next step (Gymnasium's default), in
            the same step, or by the caller.

    Raises:
        ValueError: a number of worlds that is no integer of at least 1, or what is not known among the other arguments.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES)}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(
        self,
        num_envs: int,
        world: str,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        require_whole(num_envs=num_envs)
        self.world = build_world(world, **kwargs)
        self.num_envs = num_envs
        self.render_mode = checked_render_mode(render_mode)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            **type(self).metadata,
            "render_fps": self.world.render_fps,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = frame_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.world.action_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.factor_space = self.world.factor_space
        self.seeks_goal = self.world.seeks_goal
        self.max_episode_steps = max_episode_steps if max_episode_steps and max_episode_steps > 0 else None
        self._generators: list[np.random.Generator] | None = None
        self._state: State | None = None
        self._frames: NDArray[np.uint8] | None = None
        self._elapsed = np.zeros(num_envs, np.int64)
        self._done = np.zeros(num_envs, bool)

    @property
    def state(self) -> State:
        """The present states, batch first; `reset` takes them back."""
        return {name: array.copy() for name, array in started(self._state).items()}

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the worlds, one each."""
        if self._generators is None:
            self._generators = [np.random.default_rng() for _ in range(self.num_envs)]
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of these generators."""
        return tuple(generator.bit_generator.seed_seq.entropy for generator in self.np_random)  # type: ignore[attr-defined]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start new episodes. An integer seed gives world ``i`` the seed ``seed + i``."""
        options = checked_options(options, {"state", "reset_mask"})
        mask = checked_mask("reset_mask", options.get("reset_mask"), self.num_envs)
        if self._state is None and not mask.all():
            raise ValueError("the first reset() must reset every world: leave reset_mask out")
        self._seed(seed, mask)
        initial = self._initial(mask)
        given = {name: one_each(name, value, self.num_envs) for name, value in options.get("state", {}).items()}
        self._begin(mask, replace(initial, {name: array[mask] for name, array in given.items()}))
        return self._observe(mask)

    def step(
        self, actions: NDArray
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        old, over = started(self._state), self._done
        actions = checked_actions(np.asarray(actions), self.single_action_space, self.num_envs, ignored=over)
        if self.autoreset_mode == AutoresetMode.DISABLED and over.any():
            raise ValueError(
                f"worlds {np.flatnonzero(over).tolist()} have ended: reset them with options={{'reset_mask': ...}}"
            )
        self._state = self.world.transition(old, actions)
        self._elapsed += 1
        reward = np.asarray(self.world.reward(old, actions, self._state), np.float64)
        terminated = self.world.terminated(self._state)
        truncated = np.zeros(self.num_envs, bool)
        if self.max_episode_steps is not None:
            truncated = self._elapsed >= self.max_episode_steps
        if over.any():  # NEXT_STEP: this step only resets them, whatever the action
            reward, terminated, truncated = np.where(over, 0.0, reward), terminated & ~over, truncated & ~over
            self._restart(over)
        done = terminated | truncated
        final: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and done.any():
            final = self._final(done)
            self._restart(done)
        else:
            self._done = done
        frames, infos = self._observe(np.ones(self.num_envs, bool))
        return frames, reward, terminated, truncated, {**final, **infos}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        if self.render_mode is None:
            return None
        if self._frames is None:
            raise ValueError("call reset() before render()")
        return tuple(rgb(frame, self.world) for frame in self._frames)

    def goal(self, mask: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.uint8], Factors]:
        """As `WorldEnv.goal`, of the k worlds in a mask [n], or of all: [k, H, W, C] and {name: [k, ...]}."""
        chosen = checked_mask("mask", mask, self.num_envs)
        there = self.world.at_goal({name: array[chosen] for name, array in started(self._state).items()})
        return self.world.render(there), self.world.factors(there)

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        if seed is None:
            return
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, (int, np.integer)) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected one seed for each of {self.num_envs} worlds, got {len(seeds)}")
        generators = (
            list(self.np_random) if self._generators or None in seeds or not mask.all() else [None] * len(seeds)
        )
        self._generators = [
            np.random.default_rng(new) if chosen and new is not None else old  # type: ignore[misc]
            for old, new, chosen in zip(generators, seeds, mask, strict=True)
        ]

    def _restart(self, mask: NDArray[np.bool_]) -> None:
        self._begin(mask, self._initial(mask))

    def _initial(self, mask: NDArray[np.bool_]) -> State:
        """New worlds where the mask is set."""
        generators = self.np_random  # a new tuple each time
        return self.world.initial(draw_keys([generators[i] for i in np.flatnonzero(mask)]))

    def _begin(self, mask: NDArray[np.bool_], initial: State) -> None:
        self._state = initial if mask.all() else merge(mask, initial, started(self._state))
        self._elapsed = np.where(mask, 0, self._elapsed)
        self._done = self._done & ~mask

    def _observe(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        assert self._state is not None
        self._frames = self.world.render(self._state)
        return self._frames.copy(), {
            "factors": _masked(self.world.factors(self._state), mask),
            "_factors": mask,
        }

    def _final(self, done: NDArray[np.bool_]) -> dict[str, Any]:
        """Gymnasium's record of the last step of the episodes that have just ended."""
        assert self._state is not None
        frames = self.world.render(self._state)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            final_obs[i] = frames[i]
        info = {"factors": _masked(self.world.factors(self._state), done), "_factors": done.copy()}
        return {"final_obs": final_obs, "_final_obs": done.copy(), "final_info": info, "_final_info": done.copy()}


def _masked(factors: Factors, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Factors as Gymnasium batches them: zero where the mask [n] is not set, and the mask beside each."""
    infos: dict[str, Any] = {}
    for name, array in factors.items():
        keep = mask.reshape(-1, *[1] * (array.ndim - 1))
        infos[name], infos[f"_{name}"] = (array.copy() if mask.all() else np.where(keep, array, 0)), mask.copy()
    return infos
