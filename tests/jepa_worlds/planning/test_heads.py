"""Heads: how they are fitted and kept; the configurations of costs and heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from agents.costs.core import Costs
from agents.heads.core import Head, Trajectories
from agents.heads.reward import Reward
from jepa_worlds.planning import heads
from jepa_worlds.planning.heads import fit_head, fitted_head, new_head
from jepa_worlds.shared.build import build

CONFIGS = Path(__file__).parents[3] / "configs"
SPEC = {"latent_dim": 4, "goal_dim": 4, "action_dim": 3, "action_sizes": [3]}


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
