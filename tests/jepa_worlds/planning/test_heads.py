"""Heads: what they are fitted on, and how; the configurations of costs and heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from agents.actions import vectors
from agents.costs.core import Costs
from agents.heads.core import Head, Trajectories
from agents.heads.reward import Reward
from agents.objectives.core import Terms
from agents.world_models.core import Batch, WorldModel
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.planning import heads
from jepa_worlds.planning.heads import fit_head, fitted_head, new_head, sizes, trajectories
from jepa_worlds.shared.build import build

CONFIGS = Path(__file__).parents[3] / "configs"
SPEC = {"latent_dim": 4, "goal_dim": 4, "action_dim": 3, "action_sizes": [3]}


class FirstPixels(WorldModel):
    """A latent is the first three numbers of a frame, and the sum of the actions before it."""

    latent_dim = 4

    def __init__(self, context: int = 1) -> None:
        super().__init__()
        self.context, self.scale = context, torch.nn.Parameter(torch.ones(()))

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        assert actions is not None
        told = torch.cat([torch.zeros(len(frames), 1), actions.sum(dim=2).cumsum(dim=1)], dim=1)
        return self.scale * torch.cat([frames.flatten(2)[..., :3].float(), told[..., None]], dim=2)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(self, batch: Batch) -> Terms:
        raise NotImplementedError


@pytest.fixture
def races(race: list[str], collect_to: Callable[..., Path], tmp_path: Path) -> Dataset:
    """Episodes of different lengths, choices, and rewards that tell where they come from."""
    return Dataset(collect_to(tmp_path / "races", *race, "episodes=30"))


def one_by_one(model: WorldModel, dataset: Dataset) -> dict[str, np.ndarray]:
    """What `trajectories` should give, an episode at a time, in no order: a row of all columns for each frame."""
    rows, first = [], model.context - 1
    for shard in dataset.shards("train"):
        for frame, step, length in zip(shard.first_frame, shard.first_step, shard.lengths, strict=True):
            if length <= first:
                continue
            frames = torch.tensor(shard.columns["frames"][frame : frame + length + 1][None]).permute(0, 1, 4, 2, 3)
            taken = torch.tensor(shard.columns["actions"][step : step + length][None])
            actions = vectors(taken, dataset.manifest["action"])
            z = model.encode(frames, actions)[0, first:].detach().numpy()
            ends = np.zeros((1, 4), np.float32)
            told = np.concatenate([actions[0, first:], shard.columns["rewards"][step + first : step + length, None]], 1)
            left = np.arange(len(z))[::-1, None]
            rows.append(np.concatenate([z, np.concatenate([told, ends]), left], axis=1))
    return np.concatenate(rows)


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("at_a_time", [1024, 5])
def test_trajectories__are_the_latents_of_whole_episodes(
    races: Dataset, context: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "FRAMES", at_a_time)
    model = FirstPixels(context)
    data = trajectories(model, races)
    assert data.rewards is not None and len({*(data.last - torch.arange(len(data.last))).tolist()}) > 3
    left = (data.last - torch.arange(len(data.last)))[:, None]
    found = torch.cat([data.latents, data.actions, data.rewards[:, None], left], dim=1).numpy()
    np.testing.assert_array_equal(in_order(found), in_order(one_by_one(model, races)))
    # episodes are in one piece: the actions before a frame are what its latent says
    inside = data.steps()
    moved = data.latents[inside + 1, 3] - data.latents[inside, 3]
    torch.testing.assert_close(moved, data.actions[inside].sum(dim=1))


def test_trajectories__say_what_goals_latents_achieve(races: Dataset) -> None:
    class Sums(FirstPixels):
        def achieved_goal(self, latents: Tensor) -> Tensor:
            return latents[..., :3]

    whole, part = trajectories(FirstPixels(), races), trajectories(Sums(), races)
    assert torch.equal(whole.goals, whole.latents) and torch.equal(part.goals, part.latents[:, :3])
    assert sizes(Sums(), {"spec": {"action_dim": 3}})["goal_dim"] == 3


def test_trajectories__of_the_first_episodes(races: Dataset) -> None:
    model = FirstPixels()
    whole, some = len(trajectories(model, races).latents), trajectories(model, races, limit=20)
    assert 10 < len(some.latents) <= 20 < whole
    assert len(trajectories(model, races, limit=1).steps()) >= 1  # one episode at least


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_trajectories__that_are_imagined_begin_with_what_is_encoded(races: Dataset, steps: int, context: int) -> None:
    class Counting(FirstPixels):
        def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
            """The number of the step where pixels would be, and the sum of the actions as it is."""
            number = torch.arange(1.0, 1 + actions.shape[1])[None, :, None].expand(len(actions), -1, 3)
            return torch.cat([-number, latents[:, -1:, 3:] + actions.sum(dim=2).cumsum(dim=1)[..., None]], dim=2)

    whole, found = trajectories(FirstPixels(context), races), trajectories(Counting(context), races, imagined=steps)
    assert whole.rewards is not None and found.rewards is not None
    expected, first = [], 0
    while first < len(whole.last):
        last = int(whole.last[first])
        for start in range(first, last, steps):
            end = min(start + steps, last)
            row = torch.cat([whole.latents, whole.actions, whole.rewards[:, None]], dim=1)[start : end + 1]
            row[1:, :3] = -torch.arange(1.0, end - start + 1)[:, None]
            row[-1, 4:] = 0  # no action is taken there
            expected.append(torch.cat([row, torch.arange(end - start, -1, -1)[:, None]], dim=1))
        first = last + 1
    left = (found.last - torch.arange(len(found.last)))[:, None]
    rows = torch.cat([found.latents, found.actions, found.rewards[:, None], left], dim=1)
    np.testing.assert_array_equal(in_order(rows.numpy()), in_order(torch.cat(expected).numpy()))
    assert len(found.steps()) == len(whole.steps())  # none is lost


def test_trajectories__refuse_what_nothing_can_be_fitted_on(races: Dataset) -> None:
    with pytest.raises(ValueError, match="imagined must be an integer of at least 0, got -1"):
        trajectories(FirstPixels(), races, imagined=-1)
    with pytest.raises(ValueError, match="no train episode of at least 100 frames, and the model makes a latent of"):
        trajectories(FirstPixels(context=99), races)
    model = FirstPixels()
    model.scale.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model's latents are not finite"):
        trajectories(model, races)


# --- fitting


@pytest.fixture
def data() -> Trajectories:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        latents, actions = torch.randn(60, 4), torch.randn(60, 3)
    return Trajectories(latents, actions, (torch.arange(60) // 10 + 1) * 10 - 1, rewards=latents[:, 0] + 7)


def config_of(name: str) -> dict[str, Any]:
    config = OmegaConf.load(CONFIGS / "head" / f"{name}.yaml")
    resolved = OmegaConf.to_container(OmegaConf.merge({"spec": SPEC}, config), resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key != "spec"} | {"hidden_dims": [8]}


NAMES = sorted(file.stem for file in (CONFIGS / "head").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_fit_head__is_a_function_of_its_seed_and_leaves_the_random_state_alone(name: str, data: Trajectories) -> None:
    if name in ("gcbc", "gc_inverse_dynamics", "gciql"):
        data = Trajectories(data.latents, torch.eye(3)[data.actions.argmax(dim=1)], data.last)
    before = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        head = new_head(config_of(name), seed)
        losses = fit_head(head, data, steps=5, batch_size=16, seed=seed)
        assert losses and not head.training and not any(x.requires_grad for x in head.parameters())
        found.append(torch.cat([x.flatten() for x in head.state_dict().values()]))
        torch.rand(3)
    torch.set_rng_state(before)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_fit_head__lowers_the_loss(data: Trajectories) -> None:
    first, last = (fit_head(Reward(4, 3, (16,)), data, steps=steps, batch_size=64, lr=0.01) for steps in (1, 150))
    assert last["reward"] < 0.2 * first["reward"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"batch_size": 1.5}, "batch_size must be an integer of at least 1, got 1.5"),
        ({"lr": 0.0}, "lr must be a positive number, got 0.0"),
        ({"lr": float("nan")}, "lr must be a positive number, got nan"),
    ],
)
def test_fit_head__refuses_settings_that_are_out_of_range(
    change: dict[str, Any], message: str, data: Trajectories
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_head(Reward(4, 3), data, **change)


def test_fit_head__refuses_data_that_do_not_fit(data: Trajectories) -> None:
    with pytest.raises(ValueError, match="the head takes latents of 5 numbers, these have 4"):
        fit_head(Reward(5, 3), data)
    data.latents[0] = torch.inf
    with pytest.raises(ValueError, match="the loss of the head is not finite"):
        fit_head(Reward(4, 3), data, steps=3)


def test_new_head__refuses_what_is_no_head() -> None:
    with pytest.raises(ValueError, match=r"a head must be a class of agents\.heads"):
        new_head({"_target_": "agents.probes.ridge.Ridge"}, 0)


# --- keeping


def test_fitted_head__is_fitted_once(data: Trajectories, tmp_path: Path) -> None:
    config, calls = config_of("reward"), []

    def give(_: Head) -> Trajectories:
        calls.append(1)
        return data

    def get(inputs: str = "a", seed: int = 0, steps: int = 3) -> Head:
        return fitted_head("reward", config, give, tmp_path, {"weights": inputs}, seed=seed, steps=steps, batch_size=8)

    first, again = get(), get()
    assert len(calls) == 1
    for name, tensor in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert not again.training and not any(x.requires_grad for x in again.parameters())
    assert json.loads((tmp_path / "reward.json").read_text())["loss"].keys() == {"reward"}
    for number, change in enumerate(({"inputs": "b"}, {"seed": 1}, {"steps": 4}), start=2):
        get(**change)  # type: ignore[arg-type]
        assert len(calls) == number


def test_fitted_head__refuses_damaged_weights(data: Trajectories, tmp_path: Path) -> None:
    arguments = ("reward", config_of("reward"), lambda head: data, tmp_path, {})
    fitted_head(*arguments, steps=2, batch_size=8)
    (tmp_path / "reward.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged"):
        fitted_head(*arguments, steps=2, batch_size=8)
    other = {name: torch.zeros(3) for name in ("mean", "std")}
    heads.save_tensors(other, tmp_path / "reward.safetensors")
    with pytest.raises(ValueError, match=r"does not fit reward\.json: remove both to fit the head again"):
        fitted_head(*arguments, steps=2, batch_size=8)


# --- configurations


@pytest.mark.parametrize("name", NAMES)
def test_head_config__builds_what_it_says_with_its_defaults(name: str) -> None:
    config = OmegaConf.load(CONFIGS / "head" / f"{name}.yaml")
    said = OmegaConf.to_container(OmegaConf.merge({"spec": SPEC}, config), resolve=True)
    assert isinstance(said, dict)
    del said["spec"]
    needed = {key: said[key] for key in ("_target_", "latent_dim", "action_dim", "action_sizes") if key in said}
    whole, defaults = (new_head(one, 0) for one in (said, needed))
    kept = [{key: x for key, x in vars(head).items() if not key.startswith("_")} for head in (whole, defaults)]
    assert kept[0] == kept[1]
    assert [x.shape for x in whole.parameters()] == [x.shape for x in defaults.parameters()]


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "cost").glob("*.yaml")))
def test_cost_config__builds(name: str) -> None:
    costs = Costs(**build(OmegaConf.to_container(OmegaConf.load(CONFIGS / "cost" / f"{name}.yaml"))))
    assert list(costs.terms) == [name]


def test_sizes__are_what_a_run_s_card_and_its_model_say() -> None:
    card = {"spec": {"action_dim": 3, "frame_shape": [1, 2, 2]}}
    found = sizes(FirstPixels(), card)
    assert found == {"action_dim": 3, "frame_shape": [1, 2, 2], "latent_dim": 4, "goal_dim": 4, "action_sizes": []}
