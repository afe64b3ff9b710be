"""What saved policies are for: data are collected with them, and they are filmed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize
from tqdm import tqdm

from agents.behaviours.mixture import Mixture
from agents.behaviours.sb3_policy import SB3Policy
from agents.behaviours.uniform import Uniform
from agents.policies.vec_env import ObservedVecEnv
from envs import random
from jepa_worlds import evaluate, record, train
from jepa_worlds.data.environments import HELD_OUT, make_worlds
from jepa_worlds.models.checkpoint import load
from jepa_worlds.pictures.video import Clip
from jepa_worlds.policies import acting
from jepa_worlds.policies.acting import play
from jepa_worlds.policies.behaviours import SB3_POLICY, identified, make_behaviour
from jepa_worlds.policies.downstream import Training, train_policy
from jepa_worlds.policies.saved import find_policy, make_observer, read_policy_card
from jepa_worlds.shared.app import composed, plain
from jepa_worlds.shared.files import Plain, write_json

MODEL = ["model.latent_dim=16", "encoder.width=8", "batch_size=8", "precision=fp32", "steps=2"]
TASK = ["env=moving_dot_reach", "distractor=uniform", "distractor.dynamics=static"]
COLLECTED = [*TASK, "behaviour=sb3"]
SMALL: Plain = {
    "algorithm": "PPO",
    "num_envs": 2,
    "normalise_observations": True,
    "normalise_rewards": True,
    "arguments": {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}},
}


@pytest.fixture(scope="module")
def run(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model that has learned a little."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        return train.main(composed("train", [f"data={dataset_path}", f"out={out}", "model.frames=2", *MODEL]))


@pytest.fixture(scope="module")
def task() -> Plain:
    """Worlds with a goal, like those that the world model was trained on."""
    given = plain(composed("collect", [*TASK, "out="]))
    return {"env": given["env"], "distractor": given["distractor"], "episode_length": 6}


@pytest.fixture(scope="module")
def policies(run: Path, task: Plain, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of policies by what they see."""
    folder, found = tmp_path_factory.mktemp("policies"), {}
    for kind, sees in {"latents": str(run), "pixels": 2, "state": ["location"]}.items():
        where = folder / kind / "seed-0"
        plan = Training(str(where), 0, {kind: sees}, None, task, SMALL, timesteps=8, evaluations=1, episodes=2)
        train_policy(plan, lambda steps: None)
        found[kind] = where / "best"
    return found


@pytest.fixture
def films(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Sequence[Clip]]]:
    """The scenes that would have been written."""
    scenes: list[Sequence[Sequence[Clip]]] = []
    monkeypatch.setattr(record, "write_video", lambda shown, columns, fps, file: scenes.append(shown))
    return scenes


def columns(folder: Path, name: str) -> np.ndarray:
    return np.concatenate([np.load(shard / f"{name}.npy") for shard in sorted(folder.glob("shard-*"))])


@pytest.mark.parametrize("kind", ["latents", "pixels", "state"])
def test_sb3__collects_the_same_with_a_policy_folder_in_batches_of_any_size(
    kind: str, policies: dict[str, Path], collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    for num_envs in (1, 5):
        given = [*COLLECTED, f"behaviour.path={policies[kind]}", f"num_envs={num_envs}", "episodes=10"]
        collect_to(tmp_path / str(num_envs), *given)
    for name in ("actions", "frames"):
        np.testing.assert_array_equal(columns(tmp_path / "5", name), columns(tmp_path / "1", name))
    assert len(np.unique(columns(tmp_path / "1", "actions"))) > 10
    manifest = json.loads((tmp_path / "1" / "dataset.json").read_text())
    assert manifest["behaviour"]["path"] == str(policies[kind])
    assert len(manifest["behaviour"]["policy_hash"]) == 64


@pytest.mark.parametrize("kind", ["latents", "pixels", "state"])
def test_sb3__acts_as_the_policy_does_in_plain_stable_baselines3(
    kind: str, policies: dict[str, Path], task: Plain, collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    data = collect_to(tmp_path / "data", *COLLECTED, f"behaviour.path={policies[kind]}", "seed=3")
    observer = make_observer(read_policy_card(policies[kind])["sees"])
    worlds = ObservedVecEnv(make_worlds(task, 1, held_out=False), observer)
    env = VecNormalize.load(str(policies[kind] / "normaliser.pkl"), worlds)
    env.training = False
    model = PPO.load(policies[kind] / "policy.zip", env)
    for episode in (0, 7):
        env.seed(int(random.fold_in(random.fold_in(np.full(1, 3, np.uint64), np.array([episode])), 0)[0]))
        seen = env.reset()
        for action in columns(data, "actions").reshape(20, 5, 2)[episode]:
            np.testing.assert_array_equal(action, model.predict(seen, deterministic=True)[0][0])
            seen, *_ = env.step(action[None])


def test_sb3__acts_by_all_that_a_folder_holds(policies: dict[str, Path], run: Path) -> None:
    behaviour = make_behaviour({"_target_": SB3_POLICY, "path": str(policies["latents"]), "epsilon": 0.25})
    assert isinstance(behaviour, SB3Policy)
    assert (behaviour.algorithm, behaviour.epsilon) == ("PPO", 0.25)
    assert behaviour.path == str(policies["latents"] / "policy.zip")
    assert behaviour.normaliser == str(policies["latents"] / "normaliser.pkl")
    sees, trained = behaviour.observe.model.state_dict(), load(run).state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(sees[name], trained[name]) for name in trained)


def test_sb3__may_be_part_of_a_mixture(policies: dict[str, Path]) -> None:
    part = {"_target_": SB3_POLICY, "path": str(policies["state"])}
    config = {
        "_target_": "agents.behaviours.mixture.Mixture",
        "parts": {"any": {"_target_": "agents.behaviours.uniform.Uniform"}, "policy": part},
        "weights": {"any": 1, "policy": 1},
    }
    mixture = make_behaviour(config)
    assert isinstance(mixture, Mixture)
    assert mixture.parts["policy"].path == str(policies["state"] / "policy.zip")  # type: ignore[attr-defined]
    assert identified(config)["parts"]["policy"] == identified(part)


def test_collect__follows_a_policy_over_a_foreign_world_model_only_if_it_is_trusted(
    policies: dict[str, Path],
    run: Path,
    collect_to: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "foreign.py").write_text(
        "from agents.world_models.encoder_predictor import EncoderPredictor\n\nclass Mine(EncoderPredictor): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(policies["latents"], tmp_path / "policy")
    card = json.loads((tmp_path / "run/model.json").read_text())
    write_json(tmp_path / "run/model.json", {**card, "model": {**card["model"], "_target_": "foreign.Mine"}})
    policy = read_policy_card(tmp_path / "policy")
    write_json(tmp_path / "policy/policy.json", {**policy, "sees": {"latents": str(tmp_path / "run")}})
    given = [*COLLECTED, f"behaviour.path={tmp_path / 'policy'}"]
    with pytest.raises(ValueError, match="trust="):
        collect_to(tmp_path / "data", *given)
    data = collect_to(tmp_path / "data", *given, "trust=[foreign]")
    theirs = collect_to(tmp_path / "same", *COLLECTED, f"behaviour.path={policies['latents']}")
    np.testing.assert_array_equal(columns(data, "actions"), columns(theirs, "actions"))


@pytest.mark.parametrize("changed", ["policy.zip", "normaliser.pkl", "model.safetensors"])
def test_collect__does_not_go_on_with_a_policy_that_has_changed(
    changed: str, policies: dict[str, Path], run: Path, collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    policy, model = shutil.copytree(policies["latents"], tmp_path / "best"), shutil.copytree(run, tmp_path / "run")
    card = json.loads((policy / "policy.json").read_text())
    (policy / "policy.json").write_text(json.dumps(card | {"sees": {"latents": str(model)}}))
    given = [tmp_path / "data", *COLLECTED, f"behaviour.path={policy}", "episode_length=1"]
    collect_to(*given)
    collect_to(*given)  # as it is, there is nothing left to do
    file = (model if changed == "model.safetensors" else policy) / changed
    content = bytearray(file.read_bytes())
    if changed == "model.safetensors":
        content[-1] ^= 1  # the last digit of the last weight
    else:
        content += b"\0"  # of no consequence, but who knows
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds a dataset collected otherwise, with behaviour\.policy_hash='"):
        collect_to(*given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["behaviour.observe=[location]"], r"tells what it is and sees: leave out \{'observe': \['location'\]\}"),
        (["behaviour.algorithm=SAC"], r"leave out \{'algorithm': 'SAC'\}"),
        (["env=moving_dot"], r"observes Box\(-inf, inf, \(32,\), .*, but would be given .* \(16,\)"),
        (["env.size=20"], r"the world model does not take frames of shape \(20, 20, 1\)"),
        (["env=pendulum", "env.size=28"], "acts in Box.*, the environment takes Box"),
    ],
)
def test_collect__refuses_worlds_and_settings_that_are_not_those_of_the_policy(
    given: list[str], message: str, policies: dict[str, Path], collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        collect_to(tmp_path / "data", *COLLECTED, f"behaviour.path={policies['latents']}", *given)
    assert not (tmp_path / "data").exists()


def test_collect__says_so_if_a_folder_holds_no_policy_or_its_model_is_gone(
    policies: dict[str, Path], collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    lost = shutil.copytree(policies["latents"], tmp_path / "lost")
    card = json.loads((lost / "policy.json").read_text())
    (lost / "policy.json").write_text(json.dumps(card | {"sees": {"latents": "runs/gone"}}))
    with pytest.raises(FileNotFoundError, match=r"no model in 'runs/gone'.*run this where the policy was trained"):
        collect_to(tmp_path / "data", *COLLECTED, f"behaviour.path={lost}")
    with pytest.raises(FileNotFoundError, match=r"no policy in '.*empty'; make one with jepa_worlds\.evaluate"):
        (tmp_path / "empty").mkdir()
        collect_to(tmp_path / "data", *COLLECTED, f"behaviour.path={tmp_path / 'empty'}")
    with pytest.raises(ValueError, match=r"no policy at path='nowhere': give the \.zip file"):
        collect_to(tmp_path / "data", *COLLECTED, "behaviour.path=nowhere")


def test_record__shows_a_policy_at_its_task_with_the_probe_of_its_latents(
    policies: dict[str, Path], task: Plain, films: list[Sequence[Sequence[Clip]]]
) -> None:
    record.main(composed("record", [f"run={policies['latents']}", "out=policy.mp4", "episodes=3", "at_once=2"]))
    [[*scenes]] = films
    env = make_worlds(task, 1, held_out=True)
    assert [len(scene) for scene in scenes] == [2, 1]
    clips = [clip for scene in scenes for clip in scene]
    for number, clip in enumerate(clips):
        assert clip.title == f"PPO on latents, held-out episode {number}"  # the row that its folder is in
        assert clip.frames.shape == (7, 28, 28, 1)
        assert clip.truth["location"].shape == clip.readout["location"].shape == (7, 2)
        assert clip.goal is not None and clip.returns is not None
        assert clip.returns[0] == 0
        key = random.fold_in(random.fold_in(np.zeros(1, np.uint64), HELD_OUT), np.array([number]))
        env.reset(seed=[int(random.fold_in(key, 0)[0])])
        np.testing.assert_array_equal(clip.goal, env.unwrapped.goal()[0][0])  # type: ignore[attr-defined]
        assert (np.diff(clip.returns) < 0).all()  # minus the distance to the goal, each step
        assert len(np.unique(clip.readout["location"])) > 5
    assert (clips[0].frames[0] != clips[1].frames[0]).any()
    record.main(composed("record", [f"run={policies['latents']}", "out=policy.mp4", "episodes=1", "steps=3"]))
    [[short]] = films[1]
    np.testing.assert_array_equal(short.frames, clips[0].frames[:4])
    np.testing.assert_allclose(short.readout["location"], clips[0].readout["location"][:4], rtol=1e-5)
    np.testing.assert_array_equal(short.returns, clips[0].returns[:4])  # type: ignore[index]


def test_play__no_episode_begins_as_one_of_a_dataset(
    task: Plain, collect_to: Callable[..., Path], tmp_path: Path
) -> None:
    data = collect_to(tmp_path / "data", *TASK, "seed=0", "behaviour=uniform")
    begun = columns(data, "frames").reshape(20, 6, 28, 28, 1)[:, 0]
    env, behaviour = make_worlds(task, 1, held_out=True), Uniform()
    for number in range(5):
        first = play(env, behaviour, number, 1, tqdm(disable=True)).frames[0]
        assert first.shape == begun[number].shape and not (begun == first).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("kind", ["pixels", "state"])
def test_record__shows_policies_that_see_no_latents_without_a_probe(
    kind: str, policies: dict[str, Path], films: list[Sequence[Sequence[Clip]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    made = lambda *given, held_out, trust: (asked.append(held_out), make_worlds(*given, held_out, trust))[1]  # noqa: E731
    monkeypatch.setattr(acting, "make_worlds", made)
    record.main(composed("record", [f"run={policies[kind]}", "out=policy.mp4", "episodes=1", "data=nowhere"]))
    [[[clip]]] = films
    assert asked == [True]
    assert clip.title == f"PPO on {kind}, held-out episode 0"
    assert not clip.truth and not clip.gauges
    assert clip.goal is not None and clip.returns is not None and len(clip.returns) == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=0"], "steps must be an integer of at least 1, or null, got 0"),
        (["run={model}", "steps=3"], r"steps is for films of policies; those of world models are as long as"),
        (["run={lost}"], r"no policy in '.*row'; make one with jepa_worlds\.evaluate"),
    ],
)
def test_record__refuses_what_no_policy_can_be_filmed_by(
    overrides: list[str], message: str, policies: dict[str, Path], run: Path, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text('{"command": "evaluate", "rows": [{"name": "row"}]}')
    names = {"model": run, "lost": tmp_path}
    given = [f"run={policies['latents']}", *(override.format(**names) for override in overrides)]
    if given[1].startswith("run="):
        del given[0]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        record.main(composed("record", [*given, f"out={tmp_path / 'policy.mp4'}"]))
    assert not (tmp_path / "policy.mp4").exists()


def test_record__shows_episodes_to_their_end(
    policies: dict[str, Path], films: list[Sequence[Sequence[Clip]]], tmp_path: Path
) -> None:
    policy = shutil.copytree(policies["state"], tmp_path / "best")
    card = json.loads((policy / "policy.json").read_text())
    card["task"]["env"] |= {"terminate": True, "reach": 100.0}  # it is there after a step
    (policy / "policy.json").write_text(json.dumps(card))
    record.main(composed("record", [f"run={policy}", "out=policy.mp4", "episodes=1"]))
    [[[clip]]] = films
    assert clip.title == "PPO on state, held-out episode 0"
    assert len(clip.frames) == len(clip.returns) == 2  # type: ignore[arg-type]


def test_pipeline__goes_round(
    collect_to: Callable[..., Path],
    films: list[Sequence[Sequence[Clip]]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """collect → train → evaluate → collect → record, with the probe fitted on what the policy collected."""
    monkeypatch.setattr(train, "training_curves", lambda run: None)
    pendulum = ["env=pendulum", "env.size=16", "episodes=20", "episode_length=5"]
    data = collect_to(tmp_path / "data", *pendulum, "behaviour=uniform")
    run = train.main(
        composed("train", [f"data={data}", f"out={tmp_path / 'run'}", "window=3", "model.frames=2", *MODEL])
    )
    small = ["policy.num_envs=2", *(f"policy.arguments.{x}" for x in ("n_steps=4", "batch_size=8", "n_epochs=1"))]
    short = ["protocol.evaluations=1", "protocol.episodes=2", "jobs=1", "seeds=1", "timesteps=8", "episode_length=5"]
    out = tmp_path / "policies"
    evaluate.main(composed("evaluate", [f"run={run}", f"out={out}", *small, *short, "compare=[]"]))
    moved = shutil.move(out, tmp_path / "moved")
    more = collect_to(tmp_path / "more", *pendulum, "behaviour=sb3", f"behaviour.path={moved}")
    assert len(np.unique(columns(more, "actions"))) > 50
    record.main(composed("record", [f"run={moved}", "out=policy.mp4", f"data={more}", "episodes=1"]))
    [[[clip]]] = films
    assert clip.title == "PPO on run, held-out episode 0"
    assert clip.goal is None
    assert clip.truth.keys() == clip.readout.keys() == {"location.tip"}
    values = np.concatenate([columns(more, "factors.angle"), columns(more, "factors.angular_velocity")], axis=1)
    assert len(clip.gauges) == values.shape[1]
    for gauge, known in zip(clip.gauges, values.T, strict=True):
        assert (gauge.low, gauge.high) == (known.min(), known.max())
        assert gauge.truth.shape == gauge.readout.shape == (6,)


def test_find_policy__is_the_best_of_a_row_and_of_the_first_row_of_an_evaluation(tmp_path: Path) -> None:
    for row, returns in {"a": (1.0, 3.0, 2.0), "b": (9.0,)}.items():
        for seed, value in enumerate(returns):
            (tmp_path / row / f"seed-{seed}" / "best").mkdir(parents=True)
            write_json(
                tmp_path / row / f"seed-{seed}" / "best" / "policy.json",
                {"format": "jepa_worlds/policy/1", "return": value},
            )
    write_json(tmp_path / "results.json", {"command": "evaluate", "rows": [{"name": "a"}, {"name": "b"}]})
    best = tmp_path / "a" / "seed-1" / "best"
    assert find_policy(tmp_path) == find_policy(tmp_path / "a") == find_policy(best) == best
    assert find_policy(tmp_path / "b" / "seed-0" / "best") == tmp_path / "b" / "seed-0" / "best"
