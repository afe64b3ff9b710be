"""Features extractors that learn with the policy."""

from __future__ import annotations

from copy import deepcopy

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN

import envs  # noqa: F401
from agents.policies.extractors import SmallCNN, WorldModelExtractor
from agents.policies.pixels import Pixels
from agents.policies.vec_env import LatentVecEnv, ObservedVecEnv

OFF_POLICY = {"learning_starts": 4, "batch_size": 8, "buffer_size": 50, "train_freq": 4, "learning_rate": 1e-2}
SETTINGS: dict[str, dict] = {
    "PPO": {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "learning_rate": 1e-2},
    "SAC": OFF_POLICY,
    "TD3": OFF_POLICY,
    "DQN": OFF_POLICY,
}
WORLDS = {"CartPoleBalance": (16, 16, 3), "MovingDotReach": (16, 16, 1)}  # the second with goals


def worlds(name):
    return gymnasium.make_vec(f"jepa_worlds/{name}-v0", 4, size=16, max_episode_steps=5)


def learner(name, env, extractor, normalize_images, **given):
    kwargs = {"features_extractor_class": extractor, "features_extractor_kwargs": given, "net_arch": [8]}
    return getattr(stable_baselines3, name)(
        "CnnPolicy",
        env,
        policy_kwargs={**kwargs, "normalize_images": normalize_images},
        seed=0,
        device="cpu",
        **SETTINGS[name],
    )


def finetuner(name, model, frames=2):
    world = "CartPoleBalance" if name == "DQN" else "MovingDotReach"
    env = ObservedVecEnv(worlds(world), Pixels(frames))
    return learner(name, env, WorldModelExtractor, False, model=model, goal=env.seeks_goal)


def extractors_of(policy):
    """Those that are trained, by name: not those of target networks, which follow."""
    found = {name: part for name, part in policy.named_modules() if isinstance(part, WorldModelExtractor)}
    return {name: part for name, part in found.items() if "target" not in name}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("frames", [1, 2])
def test_world_model_extractor__begins_as_the_frozen_latent(frames, world, make_model):
    model = make_model(WORLDS[world], frames)
    frozen, tuned = LatentVecEnv(worlds(world), model), ObservedVecEnv(worlds(world), Pixels(frames))
    extractor = learner("PPO", tuned, WorldModelExtractor, False, model=model, goal=tuned.seeks_goal).policy
    rng = np.random.default_rng(0)
    for venv in (frozen, tuned):
        venv.seed(1)
    latents, images = frozen.reset(), tuned.reset()
    assert tuned.seeks_goal == (latents.shape[1] == 2 * model.latent_dim)
    found = []
    for _ in range(8):  # into the second episode
        found.append(extractor.extract_features(torch.from_numpy(images)).detach().numpy())
        np.testing.assert_allclose(found[-1], latents, atol=1e-4)
        discrete = isinstance(tuned.action_space, spaces.Discrete)
        actions = rng.integers(2, size=4) if discrete else rng.uniform(-4, 4, (4, 2)).astype(np.float32)
        latents, images = frozen.step(actions)[0], tuned.step(actions)[0]
    assert np.abs(np.diff(found, axis=0)).max() > 0.02


@pytest.mark.parametrize("name", SETTINGS)
def test_world_model_extractor__learns_with_the_policy(name, make_model, tmp_path):
    shape = WORLDS["CartPoleBalance" if name == "DQN" else "MovingDotReach"]
    model = make_model(shape, 2).requires_grad_(False)  # as it was frozen
    before = deepcopy(model.state_dict())
    learns = finetuner(name, model)
    first = deepcopy(learns.policy.state_dict())
    learns.learn(40)
    own = extractors_of(learns.policy)
    assert len(own) >= 1
    for place, extractor in own.items():
        assert extractor.model is not model
        for part, weights in extractor.model.named_parameters():
            moved = (weights != first[f"{place}.model.{part}"]).any()
            assert moved == part.startswith("encoder."), f"{place}: {part}"
        for part, statistics in extractor.model.named_buffers():
            assert torch.equal(statistics, before[part]), f"{place}: {part}"
    assert all(torch.equal(weights, before[part]) for part, weights in model.state_dict().items())
    assert not any(weights.requires_grad for weights in model.parameters())
    learns.save(tmp_path / "policy")
    loaded = getattr(stable_baselines3, name).load(tmp_path / "policy", device="cpu")
    images = learns.get_env().reset()
    actions = learns.predict(images, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(images, deterministic=True)[0], actions, strict=True)
    if name != "DQN":  # whose choices may well stay the same
        learns.policy.load_state_dict(first)
        assert (learns.predict(images, deterministic=True)[0] != actions).any()


def test_world_model_extractor__gives_the_same_latents_while_it_is_trained(make_model):
    """Whatever else is in the batch: an update judges the very latents by which actions were chosen."""
    policy = finetuner("PPO", make_model((16, 16, 1), 2)).policy
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    policy.set_training_mode(False)
    acting = policy.extract_features(images)
    policy.set_training_mode(True)
    assert policy.training
    torch.testing.assert_close(policy.extract_features(images), acting)
    assert not any(part.training for part in policy.features_extractor.model.modules())


def test_world_model_extractor__refuses_scaled_images_after_black_ones(make_model):
    env = ObservedVecEnv(worlds("MovingDotReach"), Pixels(1))
    extractor = WorldModelExtractor(env.observation_space, make_model((16, 16, 1)), goal=True)
    images = torch.zeros(2, *env.observation_space.shape)
    extractor(images)
    with pytest.raises(ValueError, match="from 0 to 255"):
        extractor(images + 0.5)


def test_world_model_extractor__refuses_scaled_images(make_model):
    env = ObservedVecEnv(worlds("MovingDotReach"), Pixels(1))
    model = learner("PPO", env, WorldModelExtractor, True, model=make_model((16, 16, 1)), goal=True)
    with pytest.raises(ValueError, match=r'from 0 to 255: give policy_kwargs=\{"normalize_images": False\}'):
        model.learn(32)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Box(-np.inf, np.inf, (6,)),
            r"sees 2 frames and a goal: .* through Pixels\(2\), got Box\(-inf, inf, \(6,",
        ),
        (spaces.Box(0, 255, (4, 16, 16), np.uint8), r"through Pixels\(2\), got Box\(0, 255, \(4, 16, 16\), uint8\)"),
        (spaces.Box(0, 1, (9, 16, 16)), r"through Pixels\(2\), got Box\(0.0, 1.0, \(9, 16, 16\), float32\)"),
        (
            spaces.Box(0, 255, (9, 18, 18), np.uint8),
            r"does not take 3 images in \(9, 18, 18\) \(channels, H, W\)",
        ),
        (
            spaces.Box(0, 255, (6, 16, 16), np.uint8),
            r"does not take 3 images in \(6, 16, 16\) \(channels, H, W\)",
        ),
    ],
)
def test_world_model_extractor__refuses_other_observations(space, message, make_model):
    with pytest.raises(ValueError, match=message):
        WorldModelExtractor(space, make_model((16, 16, 3), 2), goal=True)


@pytest.mark.parametrize("size", [16, 28, 35])
def test_small_cnn__takes_frames_that_nature_cnn_does_not(size):
    space = spaces.Box(0, 255, (2, size, size + 3), np.uint8)
    with pytest.raises(RuntimeError):
        NatureCNN(spaces.Box(0, 255, (2, size, size), np.uint8))
    assert SmallCNN(space, features_dim=7)(torch.rand(5, 2, size, size + 3)).shape == (5, 7)


def test_small_cnn__is_of_use_where_nature_cnn_begins():
    NatureCNN(spaces.Box(0, 255, (1, 36, 36), np.uint8))


def test_small_cnn__finds_a_dot():
    size, points = 28, torch.randint(4, 24, (128, 2))
    offset = torch.arange(size) - points[:, :, None]  # [128, (x, y), size]
    profile = torch.exp(-(offset**2) / 4.5)
    frames = (profile[:, 1, :, None] * profile[:, 0, None, :]).unsqueeze(1)
    extractor = SmallCNN(spaces.Box(0, 255, (1, size, size), np.uint8), 64)
    head = torch.nn.Linear(64, 2)
    optimizer = torch.optim.Adam([*extractor.parameters(), *head.parameters()], 3e-3)
    wanted = (points - 14) / 6.0
    losses = []
    for _ in range(40):
        loss = (head(extractor(frames)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.7
    assert losses[-1] < 0.1


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_small_cnn__learns_with_the_policy(name):
    model = learner(name, ObservedVecEnv(worlds("MovingDotReach"), Pixels(2)), SmallCNN, True, features_dim=32)
    first = deepcopy(model.policy.state_dict())
    model.learn(40)
    weights = {part for part in first if "cnn.0.weight" in part}
    assert weights
    assert all((model.policy.state_dict()[part] != first[part]).any() for part in weights)
    seen = model.policy.obs_to_tensor(model.get_env().reset())[0]
    extractor = next(part for part in model.policy.modules() if isinstance(part, SmallCNN))
    actor = model.policy if name == "PPO" else model.policy.actor
    torch.testing.assert_close(actor.extract_features(seen, extractor), extractor(seen / 255))


@pytest.mark.parametrize(
    "space",
    [spaces.Box(0, 255, (1, 15, 28), np.uint8), spaces.Box(0, 255, (3, 28, 15), np.uint8), spaces.Box(-1, 1, (40,))],
)
def test_small_cnn__refuses_other_observations(space):
    with pytest.raises(ValueError, match=r"SmallCNN sees images \[C, H, W\] of at least 16×16 px, got Box\("):
        SmallCNN(space)
