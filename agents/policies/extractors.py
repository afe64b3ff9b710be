"""What turns images into features inside a policy of Stable-Baselines3, where both are trained together.

kwargs = {"features_extractor_class": WorldModelExtractor, "features_extractor_kwargs": {"model": model},
          "normalize_images": False}
PPO("CnnPolicy", ObservedVecEnv(env, Pixels(model.context)), policy_kwargs=kwargs)
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Self

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.world_models.core import WorldModel


class WorldModelExtractor(BaseFeaturesExtractor):
    """The latent of images, as `agents.policies.latents.Latents` gives it, by a world model that learns on.

    It sees what `agents.policies.pixels.Pixels` gives: the last K frames, K being the model's context, and behind them
    the frame of the goal, if there is one. Its latent then stands behind that of the frames: [B, (K + goal)·C, H, W] on
    the scale 0…255 -> [B, D] or [B, 2·D].

    Every extractor has a copy of the model: the one that is given stays as it is, and actors and critics that do not
    share their extractor do not share their latents. The copy stays in evaluation mode while it is trained: batch
    normalisation goes on with the statistics of the world model's data, for batches of a policy are small and alike,
    and actions would otherwise be judged by other latents than those that they were chosen by.

    Args:
        observation_space: uint8 images, channels first.
        model: one whose latents are made of its last K frames.
        goal: whether the last C channels are a goal.

    Raises:
        ValueError: other observations, or images that the model does not take.
    """

    def __init__(self, observation_space: gymnasium.Space, model: WorldModel, goal: bool = False) -> None:
        images, shape = model.context + goal, observation_space.shape or ()
        if not is_image_space(observation_space) or shape[0] % images:
            raise ValueError(
                f"the world model sees {model.context} frames{' and a goal' if goal else ''}: observe the environment "
                f"through Pixels({model.context}), got {observation_space}"
            )
        super().__init__(observation_space, model.latent_dim * (1 + goal))
        self.scale_known = False
        self.images, self.context = images, model.context
        self.model = deepcopy(model).eval().requires_grad_()
        try:
            with torch.no_grad():
                self(torch.zeros(1, *shape, device=next(model.parameters()).device))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the world model does not take {images} images in {shape} (channels, H, W): make the environment as "
                f"the one that the model was trained on. It says: {error}"
            ) from error

    def forward(self, observations: Tensor) -> Tensor:
        """[B, (K + goal)·C, H, W] -> [B, features_dim].

        Raises:
            ValueError: images that Stable-Baselines3 has scaled to 0…1.
        """
        if not self.scale_known:  # looked at until an image tells, as a GPU has to be waited for
            if observations.frac().any():
                raise ValueError(
                    'world models see images from 0 to 255: give policy_kwargs={"normalize_images": False}'
                )
            self.scale_known = bool(observations.any())
        frames = observations.unflatten(1, (self.images, -1))  # [B, K + goal, C, H, W]
        seen = frames.split([self.context, self.images - self.context], dim=1)
        return torch.cat([self.model.encode(x)[:, -1] for x in seen if x.shape[1]], dim=1)

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Nothing: Stable-Baselines3 initialises the weights of PPO and A2C this way, and would lose the model's."""
        return self

    def train(self, mode: bool = True) -> Self:
        """As everywhere, but for the model, which stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self


class SmallCNN(BaseFeaturesExtractor):
    """Three convolutions and a linear layer for frames from 16 px; Stable-Baselines3's `NatureCNN` needs 36.

    It is `NatureCNN` with smaller kernels and strides. Images come as there, channels first and scaled to 0…1.

    Args:
        observation_space: uint8 images, channels first.
        features_dim: number of features.

    Raises:
        ValueError: other observations, or images that are too small.
    """

    def __init__(self, observation_space: gymnasium.Space, features_dim: int = 512) -> None:
        shape = observation_space.shape or ()
        if not (isinstance(observation_space, spaces.Box) and len(shape) == 3 and min(shape[1:]) >= 16):
            raise ValueError(f"SmallCNN sees images [C, H, W] of at least 16×16 px, got {observation_space}")
        super().__init__(observation_space, features_dim)
        self.cnn = nn.Sequential(
            *(nn.Conv2d(shape[0], 32, kernel_size=4, stride=2), nn.ReLU()),
            *(nn.Conv2d(32, 64, kernel_size=3, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, kernel_size=3), nn.ReLU()),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.cnn(torch.zeros(1, *shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(size, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, features_dim]."""
        return self.linear(self.cnn(observations))
