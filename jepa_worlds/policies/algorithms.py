"""Algorithms of Stable-Baselines3 from configuration."""

from __future__ import annotations

from collections.abc import Sequence

import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.policies.extractors import SmallCNN, WorldModelExtractor
from agents.world_models.core import WorldModel
from jepa_worlds.shared.build import TRUSTED, build
from jepa_worlds.shared.files import Plain

ALGORITHMS = ("PPO", "A2C", "SAC", "TD3", "DDPG", "DQN")
CONTINUOUS, CHOICES = ("SAC", "TD3", "DDPG"), ("DQN",)  # algorithms whose actions are a Box, or Discrete
NATURE = 36  # px: the least side of frames that Stable-Baselines3's own convolutions take


def make_algorithm(
    policy: Plain, env: VecEnv, seed: int, device: str, finetune: WorldModel | None, trust: Sequence[str] = ()
) -> BaseAlgorithm:
    """An untrained algorithm of Stable-Baselines3.

    Args:
        policy: ``algorithm``, the name of its class, and its ``arguments``; those in ``policy_kwargs`` are built.
        env: what it learns in.
        seed, device: as there.
        finetune: a world model that becomes the features extractor, and is trained with the policy.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: an algorithm or arguments that do not exist, or an action space that it cannot act in.
    """
    arguments = build(policy["arguments"], (*TRUSTED, *trust))
    shape = env.observation_space.shape or ()
    kwargs = dict(arguments.pop("policy_kwargs", {}))
    if finetune is not None:
        kwargs |= {
            "features_extractor_class": WorldModelExtractor,
            "features_extractor_kwargs": {"model": finetune, "goal": env.unwrapped.seeks_goal},  # type: ignore[attr-defined]
            "normalize_images": False,
        }
    elif len(shape) == 3 and min(shape[1:]) < NATURE:
        kwargs["features_extractor_class"] = SmallCNN
    name = policy["algorithm"]
    if name not in ALGORITHMS:
        raise ValueError(f"policy.algorithm must be one of {list(ALGORITHMS)}, got {name!r}")
    space = env.action_space
    if (name in CONTINUOUS and not isinstance(space, spaces.Box)) or (
        name in CHOICES and not isinstance(space, spaces.Discrete)
    ):
        raise ValueError(
            f"{name} cannot act here, where actions are {space}: policy=ppo takes any, sac and td3 continuous ones (a "
            f"Box), dqn choices (Discrete)"
        )
    kind = "CnnPolicy" if len(shape) == 3 else "MlpPolicy"
    try:
        return getattr(stable_baselines3, name)(
            kind, env, seed=seed, device=device, verbose=0, policy_kwargs=kwargs, **arguments
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{name} does not take these policy.arguments: {' '.join(str(error).split())}") from error
