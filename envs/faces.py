"""The single face of a world, `gymnasium.Env` (a batch of one), and what it shares with that in `envs.vector_face`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from envs.arguments import check_types
from envs.checks import checked_actions, checked_options
from envs.core import Factors, State, World, replace
from envs.distractors.core import DistractedWorld, Distractor
from envs.random import Key
from envs.stacking import StackedWorld

RENDER_MODES = ("rgb_array",)


def build_world(
    world: str,
    distractor: Distractor | Sequence[Distractor] = (),
    held_out: bool = False,
    frame_stack: int = 1,
    **kwargs: Any,
) -> DistractedWorld | StackedWorld:
    """The world ``"module:Class"`` built with ``kwargs``, the distractors added to it, and its frames stacked.

    Raises:
        ValueError: no subclass of `World`; a world, or distractors, that refuse their arguments.
    """
    check_types(build_world, {"held_out": held_out})
    creator: Any = load_env_creator(world)
    if not (isinstance(creator, type) and issubclass(creator, World)):
        raise ValueError(f"world must be the 'module:Class' of a subclass of envs.core.World, got {world!r}")
    check_types(creator.__init__, kwargs)
    seen = DistractedWorld(creator(**kwargs), distractor, held_out)
    return seen if frame_stack == 1 else StackedWorld(seen, frame_stack)


class WorldEnv(gymnasium.Env[NDArray[np.uint8], Any]):
    """One world as a `gymnasium.Env`.

    Observation: uint8 [H, W, C]. ``info["factors"]`` holds the ground truth, described by ``factor_space``.
    ``reset(options={"state": {name: array}})`` starts from a given state (whatever it does not name is drawn as usual);
    ``state`` is the present one. Where ``seeks_goal`` is set, the task is to get to a goal that frames do not show:
    `goal` shows it.

    Args:
        world: ``"module:Class"`` of the world; registration fills it in.
        render_mode: None or ``"rgb_array"``: the frame that the agent saw, as [H, W, 3].
        distractor: one or several, added to the frames.
        held_out: whether distractors show the pictures kept for held-out episodes.
        frame_stack: how many frames an observation holds, along its channels, the newest last.
        kwargs: of the world.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES)}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, world: str, render_mode: str | None = None, **kwargs: Any) -> None:
        self.world = build_world(world, **kwargs)
        self.metadata = {**type(self).metadata, "render_fps": self.world.render_fps}
        self.render_mode = checked_render_mode(render_mode)
        self.observation_space = frame_space(self.world)
        self.action_space = self.world.action_space
        self.factor_space = self.world.factor_space
        self.seeks_goal = self.world.seeks_goal
        self.distractors = kwargs.get("distractor", ())
        self._state: State | None = None
        self._frame: NDArray[np.uint8] | None = None

    @property
    def state(self) -> State:
        """The present state, without the batch axis; `reset` takes it back."""
        return {name: array[0].copy() for name, array in started(self._state).items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        given = checked_options(options, {"state"}).get("state", {})
        state = self.world.initial(draw_keys([self.np_random]))
        self._state = replace(state, {name: np.asarray(value)[None] for name, value in given.items()})
        return self._observe()

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        state, batch = started(self._state), checked_actions(np.asarray(action)[None], self.action_space, 1)
        self._state = self.world.transition(state, batch)
        reward = self.world.reward(state, batch, self._state)
        frame, info = self._observe()
        return frame, float(reward[0]), bool(self.world.terminated(self._state)[0]), False, info

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None:
            return None
        if self._frame is None:
            raise ValueError("call reset() before render()")
        return rgb(self._frame, self.world)

    def scene(self) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        """How much of each pixel of the present frame the scene covers [H, W, 1], and the colour behind it [C]."""
        return self.world.coverage(started(self._state))[0], self.world.backdrop

    def goal(self) -> tuple[NDArray[np.uint8], Factors]:
        """What will be seen at this episode's goal [H, W, C], among the distractors of now, and the factors there.

        Raises:
            ValueError: a world without goals.
        """
        return self._seen(self.world.at_goal(started(self._state)))

    def _seen(self, state: State) -> tuple[NDArray[np.uint8], Factors]:
        factors = {name: array[0].copy() for name, array in self.world.factors(state).items()}
        return self.world.render(state)[0], factors

    def _observe(self) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        assert self._state is not None
        self._frame, factors = self._seen(self._state)
        return self._frame.copy(), {"factors": factors}


def frame_space(world: World) -> gymnasium.Space[NDArray[np.uint8]]:
    """What observations of a world are."""
    return gymnasium.spaces.Box(0, 255, world.frame_shape, np.uint8)


def rgb(frame: NDArray[np.uint8], world: World) -> NDArray[np.uint8]:
    """The newest frame of an observation, in colour: [H, W, C] -> [H, W, 3]."""
    newest = frame[..., -world.world.frame_shape[-1] :] if isinstance(world, StackedWorld) else frame
    return np.repeat(newest, 3, axis=-1) if newest.shape[-1] == 1 else newest.copy()


def draw_keys(generators: Sequence[np.random.Generator]) -> Key:
    """A new key of each generator."""
    return np.array([g.integers(0, 2**64, dtype=np.uint64) for g in generators], np.uint64)


def started(state: State | None) -> State:
    """A state that is there.

    Raises:
        ValueError: it is not, as before the first reset.
    """
    if state is None:
        raise ValueError("call reset() first")
    return state


def checked_render_mode(render_mode: str | None) -> str | None:
    """A render mode that there is.

    Raises:
        ValueError: another one.
    """
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be None or one of {RENDER_MODES}, got {render_mode!r}")
    return render_mode
