"""Models that were trained elsewhere: taken as if they had been trained here, and refused where they do not fit."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import jepa_worlds
from agents.world_models.core import WorldModel
from jepa_worlds import evaluate, plan, probe, record, train
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows
from jepa_worlds.models.adopting import adopt
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.pictures import figures as figures_module
from jepa_worlds.shared.app import composed
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import Plain

PACKAGE = "package_of_someone_else"
OWN: Plain = {"_target_": f"{PACKAGE}.models.Own", "latent_dim": 12}
JEPA: Plain = {
    "_target_": "agents.world_models.encoder_predictor.EncoderPredictor",
    "encoder": {"_target_": "agents.encoders.menet5.MeNet5", "frame_shape": [1, 28, 28], "latent_dim": 16, "width": 1},
    "predictor": {"_target_": "agents.predictors.mlp.MLPPredictor", "latent_dim": 16, "action_dim": 2},
    "objectives": {"vicreg": {"_target_": "agents.objectives.vicreg.VICReg"}},
    **{"latent_dim": 16, "frame_mean": [64.0], "frame_std": [64.0], "action_mean": [0.0] * 2, "action_std": [1.0] * 2},
}
SOURCE = '''
"""A world model of one's own, which imports nothing else of the project."""

import torch
from torch import nn

from agents.world_models.core import WorldModel


class Own(WorldModel):
    def __init__(self, latent_dim, gain=1.0):
        super().__init__()
        self.latent_dim, self.gain = latent_dim, gain
        self.encoder = nn.Sequential(nn.Linear(28 * 28, latent_dim), nn.BatchNorm1d(latent_dim), nn.Dropout(0.5))
        self.step = nn.Linear(2, latent_dim)

    def encode(self, frames, actions=None):
        flat = frames.flatten(2).float() / 255
        return self.gain * self.encoder(flat.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def predict(self, latents, actions):
        return latents[:, -1:] + self.step(actions).cumsum(dim=1)

    def loss(self, batch):
        return {}


class NoModel(nn.Linear):
    pass
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module of models in a package of someone else's."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / PACKAGE).mkdir()
    (folder / PACKAGE / "__init__.py").touch()
    (folder / PACKAGE / "models.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module(f"{PACKAGE}.models")
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def own(package: ModuleType) -> WorldModel:
    """A model of one's own, as a training loop of one's own leaves it: in training mode, with statistics of data."""
    model = package.Own(12)
    model.encode(torch.randint(256, (4, 5, 1, 28, 28), dtype=torch.uint8))
    return model


@pytest.fixture
def adopted(dataset_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """``adopted(model, config, …)``: a run folder; nothing is there if that fails."""

    def adopt_it(model: Any, config: Any = OWN, **more: Any) -> Path:
        settings = {"data": dataset_path, "out": tmp_path / "runs" / "mine", "trust": (PACKAGE,), **more}
        try:
            return adopt(model, config, **settings)
        except Exception:
            assert not (tmp_path / "runs").exists()
            raise

    return adopt_it


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, which take most of the time."""
    monkeypatch.setattr(figures_module, "save_figure", lambda figure, file: None)
    monkeypatch.setattr(probe, "draw", lambda *_: None)


def fitted(model: WorldModel, data: Path) -> WorldModel:
    """A model after a training loop that is not the project's."""
    windows, optimizer = Windows(Dataset(data), "train", 9), torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(3):
        optimizer.zero_grad()
        sum(model.loss(windows.batch(step, 8, seed=1)).values()).backward()
        optimizer.step()
    return model


def assert_same(model: WorldModel, loaded: WorldModel, data: Path) -> None:
    """They compute the same in evaluation mode, up to the rounding of kernels for gradients."""
    batch, modes = Windows(Dataset(data), "test", 17).take(torch.arange(4).numpy()), model.training
    with torch.no_grad():
        latents = model.eval().encode(batch["frames"], batch["actions"])
        assert torch.allclose(latents, loaded.encode(batch["frames"], batch["actions"]), atol=1e-5)
        futures = model.predict(latents[:, :1], batch["actions"])
        assert torch.allclose(futures, loaded.predict(latents[:, :1], batch["actions"]), atol=1e-5)
    model.train(modes)


# --- what it takes


def test_adopt__brings_back_a_model_of_ones_own(own: WorldModel, adopted: Callable[..., Path], dataset_path: Path):
    run = adopted(own)
    loaded = jepa_worlds.load(run, trust=(PACKAGE,))
    assert type(loaded) is type(own) and loaded is not own
    assert_same(own, loaded, dataset_path)
    with pytest.raises(ValueError, match="is not in agents"):
        jepa_worlds.load(run)


def test_adopt__brings_back_the_projects_model_from_another_loop(adopted: Callable[..., Path], dataset_path: Path):
    model = fitted(build(JEPA), dataset_path)
    run = adopted(model, JEPA, trust=())
    assert_same(model, jepa_worlds.load(run), dataset_path)
    assert read_card(run)["model"] == JEPA


@pytest.mark.parametrize("frames", [1, 2])
def test_adopt__makes_a_run_that_is_probed_as_the_one_that_train_made(
    adopted: Callable[..., Path], dataset_path: Path, tmp_path: Path, undrawn: None, frames: int
) -> None:
    tiny = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "precision=fp32", "steps=2", "seed=3"]
    here = train.main(
        composed("train", [f"data={dataset_path}", f"out={tmp_path / 'here'}", f"model.frames={frames}", *tiny])
    )
    card = read_card(here)
    there = adopted(jepa_worlds.load(here), card["model"], batch_size=8, seed=3, trust=())
    unknown = {"objective": {"terms": {}, "weights": {}}, "steps": None}
    assert read_card(there) == {**card, **unknown, "versions": read_card(there)["versions"]}
    found, wanted = (probe.main(composed("probe", [f"run={run}"])) for run in (there, here))
    assert set(found["metrics"]) == {"location", "background"} and found["seeds"] == [3]
    for part in ("metrics", "floors", "diagnostics", "seeds", "dataset", "protocol"):
        assert found[part] == wanted[part], part


def test_adopt__makes_a_run_that_every_command_takes(
    own: WorldModel, adopted: Callable[..., Path], tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = adopted(own, window=9)
    given, films = [f"run={run}", f"trust=[{PACKAGE}]"], []
    probed = probe.main(composed("probe", given))
    assert len(probed["metrics"]["location"]["per_step_rmse"]) == 9

    monkeypatch.setattr(record, "write_video", lambda scenes, columns, fps, file: films.append(scenes))
    record.main(composed("record", [*given, f"out={tmp_path / 'x.gif'}", "episodes=2"]))
    assert [clip.title for clip in films[0][0]] == ["mine, held-out episode 0", "mine, held-out episode 1"]

    small = ["protocol.episodes=2", "protocol.seeds=[0]", "protocol.budget=2", "protocol.horizon=2", "shown=0"]
    cem = ["planner.candidates=8", "planner.elites=2", "planner.iterations=1", "film=false"]
    planned = plan.main(composed("plan", [*given, "protocol=plan/moving_dot/v1", *small, *cem]))
    assert "mine" in planned["metrics"]


def test_adopt__makes_a_run_that_policies_are_trained_on(
    own: WorldModel, adopted: Callable[..., Path], undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["env=moving_dot_reach", "distractor=none", "episode_length=4", "timesteps=8", "seeds=1", "jobs=1"]
    protocol = ["protocol.evaluations=1", "protocol.episodes=2", "compare=[untrained]"]
    ppo = ["policy.num_envs=2", "policy.arguments.n_steps=4", "policy.arguments.batch_size=8"]
    evaluated = evaluate.main(
        composed("evaluate", [f"run={adopted(own)}", f"trust=[{PACKAGE}]", *small, *protocol, *ppo])
    )
    assert {"mine", "untrained"} <= set(evaluated["metrics"])
    assert "mine: trained elsewhere, on " in capsys.readouterr().out


def test_adopt__leaves_the_model_and_all_randomness_as_they_were(own: WorldModel, adopted: Callable[..., Path]):
    own.encoder[2].eval()
    before, state = {name: x.clone() for name, x in own.state_dict().items()}, torch.get_rng_state()
    adopted(own)
    assert [module.training for module in own.modules()] == [True, True, True, True, False, True]
    assert all(parameter.requires_grad for parameter in own.parameters())
    assert all(torch.equal(x, before[name]) for name, x in own.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_adopt__takes_a_model_that_draws_samples(
    own: WorldModel, adopted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = type(own).encode
    monkeypatch.setattr(type(own), "encode", lambda self, x, actions=None: torch.randn(1) * encode(self, x))
    assert adopted(own).is_dir()


def test_adopt__asks_for_predictions_from_the_first_latent_of_whole_context(
    own: WorldModel, adopted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, predict, asked = type(own).encode, type(own).predict, []

    def numbered(self: WorldModel, frames: Tensor, actions: Tensor) -> Tensor:
        return 0 * encode(self, frames) + torch.arange(frames.shape[1]).view(-1, 1)

    def noted(self: WorldModel, latents: Tensor, actions: Tensor) -> Tensor:
        asked.append((latents[0, :, 0].tolist(), actions.shape[1]))
        return predict(self, latents, actions)

    for name, x in {"context": 3, "encode": numbered, "predict": noted}.items():
        monkeypatch.setattr(type(own), name, x)
    adopted(own)
    assert asked and set(map(str, asked)) == {"([2.0], 14)"}


def test_adopt__writes_two_files_and_no_pickle(own: WorldModel, adopted: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    run = adopted(own)
    assert {file.name for file in run.iterdir()} == {"model.json", "model.safetensors"}
    for file in run.iterdir():
        assert not file.read_bytes().startswith((b"\x80", b"PK"))


# --- what it refuses


@pytest.mark.parametrize("there", ["folder", "file"])
def test_adopt__never_touches_what_is_there(own: WorldModel, dataset_path: Path, tmp_path: Path, there: str) -> None:
    kept = tmp_path / ("model.json" if there == "folder" else "out")
    kept.write_text("mine")
    with pytest.raises(ValueError, match="exists: choose another folder"):
        adopt(own, OWN, dataset_path, tmp_path if there == "folder" else kept, trust=(PACKAGE,))
    assert [*tmp_path.iterdir()] == [kept] and kept.read_text() == "mine"


def test_adopt__builds_only_classes_that_are_trusted(own: WorldModel, adopted: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=rf"'{PACKAGE}\.models\.Own' is not in agents"):
        adopted(own, trust=())
    with pytest.raises(ValueError, match="commands cannot import __main__"):
        adopted(own, trust=("__main__",))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**OWN, "gain": torch.ones(1)}, "config must hold dicts, .* Tensor is not JSON"),
        ({**OWN, "gain": float("nan")}, "config must hold dicts, .* finite numbers"),
        (
            {**OWN, "_target_": f"{PACKAGE}.models.NoModel", "latent_dim": 1},
            "missing a required argument: 'in_features'",
        ),
        ({"latent_dim": 12}, "config describes a dict, which is not a WorldModel"),
        ({**OWN, "width": 3}, "unexpected keyword argument 'width'"),
        ({**OWN, "latent_dim": -1}, "config describes no model that can be built: Trying to create tensor with neg"),
        ({**OWN, "latent_dim": 13}, r"encoder\.0\.weight \[12, 784\] given, \[13, 784\] rebuilt; .*; .*; and 5 more$"),
        (JEPA, r"encoder\.0\.weight \[12, 784\] given, \[16, 1, 5, 5\] rebuilt"),
    ],
)
def test_adopt__refuses_a_configuration_of_another_model(
    own: WorldModel, adopted: Callable[..., Path], config: Plain, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        adopted(own, config)


def test_adopt__names_weights_that_only_one_of_both_has(own: WorldModel, adopted: Callable[..., Path]) -> None:
    own.more = nn.Linear(1, 1, bias=False)
    with pytest.raises(ValueError, match=r"than the one given: more\.weight \[1, 1\] given, none rebuilt$"):
        adopted(own)
    del own.more, own.step.bias
    with pytest.raises(ValueError, match=r"than the one given: step\.bias none given, \[12\] rebuilt$"):
        adopted(own)


def test_adopt__refuses_what_depends_on_more_than_configuration_and_weights(
    own: WorldModel, adopted: Callable[..., Path]
) -> None:
    own.gain = 1.01
    with pytest.raises(ValueError, match=r"encode\(\) differs by up to .* must be in config, or a parameter or buffer"):
        adopted(own)
    assert adopted(own, {**OWN, "gain": 1.01}).is_dir()


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"encode": lambda z: z[:, :1]}, r"encode\(\) of uint8 \[\d, 17, 1, 28, 28\] and float32 \[\d, 16, 2\] must"),
        ({"encode": lambda z: z[..., :3]}, r"floats \[B, T, latent_dim\] = \[\d, 17, 12\], got float32 \[\d, 17, 3\]"),
        ({"encode": lambda z: (z, z)}, r"= \[\d, 17, 12\], got tuple"),
        ({"encode": lambda z: z.long()}, r"must give floats .*, got int64 \[\d, 17, 12\]"),
        ({"encode": lambda z: z / 0}, r"encode\(\) .* gives numbers that are not finite"),
        ({"encode": lambda z: z.nowhere}, r"encode\(\) of .* fails: AttributeError: .*nowhere"),
        ({"predict": lambda z: z[:, 1:]}, r"predict\(\) of float32 \[\d, 1, 12\] and float32 \[\d, 16, 2\] must give"),
        ({"predict": lambda z: z[:, 1:]}, r"floats \[B, H, latent_dim\] = \[\d, 16, 12\], got float32 \[\d, 15, 12\]"),
        ({"predict": lambda z: z * float("nan")}, r"predict\(\) .* gives numbers that are not finite"),
        ({"predict": lambda z: z @ z}, r"predict\(\) of .* fails: RuntimeError"),
        ({"loss": lambda _: {"a": torch.tensor(float("inf"))}}, r"finite numbers by name, \{\} for none, got .*inf"),
        ({"loss": lambda _: torch.ones(())}, r"loss\(\) must give .*; it fails: AttributeError"),
    ],
)
def test_adopt__refuses_what_does_not_do_what_world_models_do(
    own: WorldModel,
    adopted: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    faults: dict[str, Callable[[Any], Any]],
    message: str,
) -> None:
    for name, fault in faults.items():
        method: Callable[..., Any] = getattr(type(own), name)

        def faulty(self: WorldModel, *given: Tensor, method: Any = method, fault: Any = fault) -> Any:
            return fault(method(self, *given))

        monkeypatch.setattr(type(own), name, faulty)
    with pytest.raises(ValueError, match=message):
        adopted(own)
    assert own.training


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"latent_dim": None}, "the model's latent_dim must be an integer of at least 1, got None"),
        ({"context": 0}, "the model's context must be an integer of at least 1, got 0"),
        ({"context": 17}, "a window needs more frames than the 17 that a latent is made of"),
    ],
)
def test_adopt__refuses_attributes_that_say_nothing(
    package: ModuleType, adopted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, attributes: Plain, message: str
) -> None:
    build_it = package.Own.__init__

    def init(self: WorldModel, latent_dim: int) -> None:
        build_it(self, latent_dim)
        vars(self).update(attributes)

    monkeypatch.setattr(package.Own, "__init__", init)
    with pytest.raises(ValueError, match=message):
        adopted(package.Own(12))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"window": 18}, "windows of 18 frames do not fit"),
        ({"window": 1}, "a window needs at least 2 frames"),
        ({"batch_size": 1}, "batch_size must be an integer of at least 2, got 1"),
        ({"seed": None}, "seed must be an integer of at least 0, got None"),
    ],
)
def test_adopt__refuses_settings_that_do_not_fit(
    own: WorldModel, adopted: Callable[..., Path], more: Plain, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        adopted(own, **more)


def test_adopt__refuses_what_is_no_world_model(package: ModuleType, adopted: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"model must be a WorldModel .*, got NoModel"):
        adopted(package.NoModel(2, 2))
    with pytest.raises(ValueError, match="config describes a NoModel, which is not a WorldModel"):
        adopted(package.Own(12), {"_target_": f"{PACKAGE}.models.NoModel", "in_features": 2, "out_features": 2})


def test_adopt__refuses_a_model_without_parameters(own: WorldModel, adopted: Callable[..., Path]) -> None:
    del own.encoder, own.step
    with pytest.raises(ValueError, match="model has no parameters"):
        adopted(own)


def test_adopt__names_a_dataset_that_is_not_there(
    own: WorldModel, adopted: Callable[..., Path], tmp_path: Path, dataset_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        adopted(own, data=tmp_path / "nowhere")
    assert json.loads((dataset_path / "dataset.json").read_text())["complete"]
