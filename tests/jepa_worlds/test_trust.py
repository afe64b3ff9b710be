"""``trust=[my_package]``: what the command line trusts is built wherever it may be named; nothing else is, ever."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import jepa_worlds
from jepa_worlds import collect, evaluate, plan, probe, record, train
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.policies.saved import read_policy_card
from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.files import Plain, write_json
from jepa_worlds.studies import scenes

MINE = "classes_of_the_user"
TRUST = f"trust=[{MINE}]"
CODE = """
from torch.optim import AdamW

from agents.behaviours.random_walk import RandomWalk
from agents.costs.factor_distance import FactorDistance
from agents.planners.random_shooting import RandomShooting
from agents.probes.ridge import Ridge
from envs.distractors.uniform import UniformNoise

BUILT = set()


class Told:
    def __new__(cls, *arguments, **named):
        BUILT.add(cls.__name__)
        return super().__new__(cls)


class Noise(Told, UniformNoise): ...
class Wander(Told, RandomWalk): ...
class Optimizer(Told, AdamW): ...
class Readout(Told, Ridge): ...
class Planner(Told, RandomShooting): ...
class Distance(Told, FactorDistance): ...


class Rate(Told):
    def __call__(self, left):
        return 1e-3 * left
"""
TINY = ["encoder.width=8", "model.latent_dim=16", "batch_size=8", "precision=fp32", "steps=1"]
EPISODES = ["episodes=48", "episode_length=16"]
NOISE = ["distractor=uniform", "distractor.dynamics=static", f"distractor.source._target_={MINE}.Noise"]
WANDER = f"behaviour._target_={MINE}.Wander"
READOUT = f"readout._target_={MINE}.Readout"
PLAN = [
    *("protocol=plan/moving_dot/v1", "protocol.episodes=2", "protocol.seeds=[0]", "protocol.budget=2"),
    *("protocol.horizon=2", "planner=random_shooting", "planner.candidates=5"),
]
EVALUATE = [
    *("env=moving_dot_reach", "episode_length=4", "timesteps=8", "jobs=1", "seeds=1", "compare=[]"),
    *("protocol.evaluations=1", "protocol.episodes=2", "policy.num_envs=2", "policy.arguments.n_steps=4"),
    *("policy.arguments.batch_size=8", "policy.arguments.n_epochs=1", "policy.arguments.policy_kwargs.net_arch=[8]"),
]


@pytest.fixture(scope="module", autouse=True)
def _undrawn_where_the_users_classes_are(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("user")
    (folder / f"{MINE}.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(train, "training_curves", lambda run: None)
        patch.setattr(probe, "draw", lambda *_: None)
        patch.setattr(evaluate, "learning_curves", lambda *_: None)
        patch.setattr(record, "write_video", lambda *_, **__: None)
        yield
    sys.modules.pop(MINE, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model is not of the user; distractor and behaviour in its ``dataset.json`` are."""
    folder = tmp_path_factory.mktemp("mine")
    data = collect.main(composed("collect", [*EPISODES, *NOISE, WANDER, TRUST, f"out={folder / 'data'}"]))
    return train.main(composed("train", [f"data={data}", f"out={folder / 'run'}", *TINY]))


@pytest.fixture(scope="module")
def common(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that names nothing of the user."""
    return train.main(
        composed("train", [f"data={dataset_path}", f"out={tmp_path_factory.mktemp('run') / 'run'}", *TINY])
    )


@pytest.fixture(scope="module")
def policy(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy on the run's latents, whose ``policy.json`` names a distractor of the user."""
    out = tmp_path_factory.mktemp("evaluations") / "out"
    content = evaluate.main(composed("evaluate", [f"run={run}", f"out={out}", *EVALUATE, TRUST]))
    return Path(content["rows"][0]["best"])


def built_only_if_trusted(name: str, command: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trust nothing of the user's is as much as imported, with it the class is used."""
    monkeypatch.delitem(sys.modules, MINE, raising=False)
    for others in ([], ["trust=[json]"]):
        with pytest.raises(ValueError, match=rf"'{MINE}\.{name}' is not in .*; a command that has trust="):
            command(*others)
        assert MINE not in sys.modules
    command(TRUST)
    assert name in sys.modules[MINE].BUILT


@pytest.mark.parametrize(("name", "given"), [("Noise", NOISE), ("Wander", [WANDER])])
def test_collect__builds_distractors_and_behaviours_of_trusted_packages_only(
    name: str, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"

    def command(*more: str) -> None:
        assert not out.exists()
        collect.main(composed("collect", ["episodes=20", "episode_length=2", *given, f"out={out}", *more]))

    built_only_if_trusted(name, command, monkeypatch)
    plainly = [word for word in given if MINE not in word]
    same = composed("collect", ["episodes=20", "episode_length=2", *plainly, f"out={tmp_path / 'same'}"])
    frames = (np.load(folder / "shard-00000/frames.npy") for folder in (out, collect.main(same)))
    np.testing.assert_array_equal(*frames)


def test_train__builds_an_optimizer_of_trusted_packages_only(
    dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def command(*more: str) -> None:
        assert not out.exists()
        mine = f"optimizer._target_={MINE}.Optimizer"
        train.main(composed("train", [f"data={dataset_path}", f"out={out}", *TINY, mine, *more]))

    built_only_if_trusted("Optimizer", command, monkeypatch)


def test_train__builds_optimizers_of_torch_whatever_is_trusted(dataset_path: Path, tmp_path: Path) -> None:
    given = [f"data={dataset_path}", *TINY, TRUST]
    assert (train.main(composed("train", [*given, f"out={tmp_path / 'run'}"])) / "model.json").is_file()
    other = [f"out={tmp_path / 'other'}", "optimizer._target_=torch.nn.Linear"]
    with pytest.raises(ValueError, match=rf"'torch\.nn\.Linear' is not in agents or {MINE} or torch\.optim"):
        train.main(composed("train", [*given, *other]))


def test_probe__builds_a_readout_of_trusted_packages_only(
    common: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"run={common}", f"out={tmp_path / 'probe'}", READOUT]
    built_only_if_trusted("Readout", lambda *more: probe.main(composed("probe", [*given, *more])), monkeypatch)


def test_record__builds_a_readout_of_trusted_packages_only(common: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [f"run={common}", "out=film.mp4", "episodes=1", READOUT]
    built_only_if_trusted("Readout", lambda *more: record.main(composed("record", [*given, *more])), monkeypatch)


@pytest.mark.parametrize(("name", "given"), [("Noise", []), ("Readout", [READOUT])])
def test_record__builds_what_a_policy_needs_of_trusted_packages_only(
    name: str, given: list[str], policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"run={policy}", "out=film.mp4", "episodes=1", *given]
    built_only_if_trusted(name, lambda *more: record.main(composed("record", [*given, *more])), monkeypatch)


def test_record__wants_a_list_of_packages_for_policies_that_see_no_latents_too(policy: Path, tmp_path: Path) -> None:
    blind = Path(shutil.copytree(policy, tmp_path / "best"))
    write_json(blind / "policy.json", {**read_policy_card(policy), "sees": {"state": ["location"]}})
    with pytest.raises(ValueError, match=r"trust must be a list, as in \[a, b\], got 'json'"):
        record.main(composed("record", [f"run={blind}", "out=film.mp4", "trust=json"]))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("Planner", [f"planner._target_={MINE}.Planner"]),
        ("Distance", ["cost=factor_distance", f"cost.terms.factor_distance._target_={MINE}.Distance"]),
        ("Readout", ["cost=factor_distance", READOUT]),
        ("Wander", ["protocol.goals.ahead=2", f"protocol.goals.behaviour={{_target_: {MINE}.Wander}}"]),
    ],
)
def test_plan__builds_what_the_command_names_of_trusted_packages_only(
    name: str, given: list[str], common: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"run={common}", f"out={tmp_path / 'plan'}", *PLAN, "shown=0", *given]
    built_only_if_trusted(name, lambda *more: plan.main(composed("plan", [*given, *more])), monkeypatch)


@pytest.mark.parametrize(("name", "given"), [("Noise", []), ("Wander", ["protocol.distractor=none"])])
def test_plan__builds_what_a_dataset_names_of_trusted_packages_only(
    name: str, given: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"run={run}", f"out={tmp_path / 'plan'}", *PLAN, "shown=1", "film=false", *given]
    built_only_if_trusted(name, lambda *more: plan.main(composed("plan", [*given, *more])), monkeypatch)
    assert (tmp_path / "plan" / "paths.png").is_file()


def test_plan__asks_a_trusted_planner_whether_it_needs_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["run=-", *PLAN, f"planner._target_={MINE}.Planner", "precision=int8"]
    checked = lambda *more: plan.check(plan.read_settings(composed("plan", [*given, *more])))  # noqa: E731
    built_only_if_trusted("Planner", checked, monkeypatch)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("Noise", []),
        ("Rate", ["distractor=none", f"policy.arguments.learning_rate={{_target_: {MINE}.Rate}}"]),
    ],
)
def test_evaluate__builds_what_a_dataset_and_the_command_name_of_trusted_packages_only(
    name: str, given: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"run={run}", f"out={tmp_path / 'out'}", *EVALUATE, *given]
    built_only_if_trusted(name, lambda *more: evaluate.main(composed("evaluate", [*given, *more])), monkeypatch)


def test_report__trusts_what_it_is_told_to_not_what_a_run_was_probed_with(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.main(composed("probe", [f"run={run}", READOUT, TRUST]))
    assert MINE in (run / "probe" / "config.yaml").read_text()
    data = read_card(run)["dataset"]
    row: Plain = {"run": run.name, "data": Path(data["path"]).name, "dataset": data}
    study: Any = SimpleNamespace(out=run.parent)

    def clip(*given: str) -> None:
        trust = plain(composed("report", ["run=-", *given]))["trust"]
        scenes._clip(study, row, "title", "cpu", trust)

    built_only_if_trusted("Readout", clip, monkeypatch)


def test_build__is_told_what_is_trusted_by_every_command_that_has_the_setting() -> None:
    without = {"benchmarking.py", "gallery.py", "planning_speed.py"}  # whose commands have no trust
    calls = [
        (file.name, node)
        for file in Path(jepa_worlds.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "build" and node.args
    ]
    assert len(calls) > 10
    assert {name for name, node in calls if len(node.args) < 2} == without
