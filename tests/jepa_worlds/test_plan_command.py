"""The plan command: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import HydraException
from PIL import Image
from safetensors.torch import load_file

from agents.heads.gcbc import GCBC
from agents.planners.core import Planner
from jepa_worlds import plan, train
from jepa_worlds.planning import actors, heads
from jepa_worlds.planning import films as plan_pictures
from jepa_worlds.planning import rows as plan_rows
from jepa_worlds.planning.actors import Following
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.comparing import Comparison
from jepa_worlds.planning.replaying import followed
from jepa_worlds.policies.behaviours import SB3_POLICY, identified
from jepa_worlds.shared.app import EXPECTED, command, composed, explained
from jepa_worlds.shared.files import Plain

MODEL = ["model.latent_dim=16", "encoder.width=8", "batch_size=8", "precision=fp32", "steps=2"]
CEM = ["planner.candidates=12", "planner.elites=3", "planner.iterations=2"]
PROTOCOL = ["protocol=plan/moving_dot/v1", "protocol.episodes=3", "protocol.seeds=[0,5]", "protocol.budget=3"]
SMALL = [*PROTOCOL, "protocol.horizon=2", "fit.steps=2", "fit.batch_size=8"]
SHAPE = {"command", "metrics", "floors", "diagnostics", "seeds", "protocol", "dataset", "versions", "seconds"}
FLOORS = {"random actions", "no-op", "behaviour of the data", "already there"}


def trained(data: Path, out: Path, *overrides: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_curves", lambda run: None)
        return train.main(composed("train", [f"data={data}", f"out={out}", *MODEL, *overrides]))


@pytest.fixture(scope="module")
def run(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model that has learned a little, over static noise."""
    return trained(dataset_path, tmp_path_factory.mktemp("runs") / "tiny")


def planned(run: Path, out: Path, *overrides: str, draw: bool = False) -> Plain:
    undrawn = [] if draw else ["shown=0"]
    planner = [] if any(x.startswith("planner=") for x in overrides) else CEM
    return plan.main(composed("plan", [f"run={run}", f"out={out}", *SMALL, *planner, *undrawn, *overrides]))


@pytest.fixture(scope="module")
def out(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with every kind of row, drawn."""
    out = tmp_path_factory.mktemp("plans") / "out"
    planned(run, out, "baselines=[gcbc,gciql]", "shown=2", draw=True)
    return out


def test_plan__writes_results_in_the_shape_of_every_command(out: Path, run: Path) -> None:
    found = json.loads((out / "results.json").read_text())
    assert found.keys() == SHAPE | {"rows", "notes"} and found["command"] == "plan" and found["seeds"] == [0, 5]
    assert set(found["metrics"]) == {"tiny", "gcbc on tiny", "gciql on tiny", "true simulator"}
    assert set(found["floors"]) == FLOORS and found["notes"] == []
    assert found["protocol"]["id"] == "plan/moving_dot/v1" and len(found["protocol"]["hash"]) == 12
    assert found["dataset"]["hash"] == json.loads((run / "model.json").read_text())["dataset"]["hash"]
    kinds = ["planner", "baseline", "baseline", "ceiling", "floor", "floor", "floor"]
    assert [row["kind"] for row in found["rows"]] == kinds
    for row in found["rows"]:
        assert row.keys() >= SHAPE | {"name", "config"} and row["protocol"] == found["protocol"]
        assert row["config"]["protocol"] == found["protocol"]
        assert (row["dataset"] is None) == (row["kind"] in ("ceiling", "floor"))
        assert row["metrics"]["episodes"] == 6 and set(row["metrics"]["by_seed"]) == {"0", "5"}
    tiny, simulator = (found["metrics"][name] for name in ("tiny", "true simulator"))
    assert tiny["candidates_per_decision"] == simulator["candidates_per_decision"] == 25
    assert tiny["seconds_per_decision"] > 0 and tiny["peak_memory_mib"] > 50
    assert simulator["final_distance"] < found["floors"]["no-op"]["final_distance"]
    assert found["floors"]["already there"]["final_distance"] == found["floors"]["no-op"]["final_distance"]


def test_plan__draws_paths_and_a_film(out: Path) -> None:
    assert np.asarray(Image.open(out / "paths.png")).std() > 5 and (out / "film.mp4").stat().st_size > 5000
    for seed in (0, 5):
        kept = out / "heads" / "tiny" / f"seed-{seed}"
        assert {file.name for file in kept.iterdir()} >= {"gcbc.json", "gciql.safetensors"}
        assert json.loads((kept / "gcbc.json").read_text())["seed"] == seed


def test_plan__goes_on_and_says_so(
    out: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    before = json.loads((copy / "results.json").read_text())
    file = plan_rows.row_file(copy, "tiny")
    row = json.loads(file.read_text())
    whole, row["episodes"] = row["episodes"], row["episodes"][:4]
    file.write_text(json.dumps(row))
    played = []
    actual = plan_rows._play
    monkeypatch.setattr(plan_rows, "_play", lambda *given: played.append(given) or actual(*given))
    found = planned(run, copy, "baselines=[gcbc,gciql]", "shown=2", "film=false", draw=True)
    assert len(played) == 1 and json.loads(file.read_text())["episodes"] == whole
    scores = ("success_end", "final_distance", "return")
    assert all(found["metrics"][name][x] == before["metrics"][name][x] for name in found["metrics"] for x in scores)
    said = capsys.readouterr().out
    assert "\nplan/moving_dot/v1, 2 × 3 episodes of 3 steps:\n" in said and "| **tiny** | " in said
    assert "| already there | " in said and f"Protocol plan/moving_dot/v1 ({found['protocol']['hash']})" in said


def test_plan__plays_the_episodes_of_a_seed_with_the_heads_of_that_seed(
    out: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on fits the heads of seeds that have episodes left, and no others."""
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    file = plan_rows.row_file(copy, "gcbc on tiny")
    row = json.loads(file.read_text())
    assert row["settings"]["fit"]["seeds"] == [0, 5]
    whole, row["episodes"] = row["episodes"], row["episodes"][:4]
    file.write_text(json.dumps(row))
    shutil.rmtree(copy / "heads")
    fitted, acting = [], []
    fit, begin = heads.fit_head, Following.begin
    monkeypatch.setattr(heads, "fit_head", lambda *given, **more: fitted.append(more["seed"]) or fit(*given, **more))
    monkeypatch.setattr(Following, "begin", lambda self, *given: acting.append(self.policy) or begin(self, *given))
    planned(run, copy, "baselines=[gcbc,gciql]", "shown=2", "film=false", draw=True)
    assert fitted == [5] and json.loads(file.read_text())["episodes"] == whole
    weights = load_file(copy / "heads" / "tiny" / "seed-5" / "gcbc.safetensors")
    other = load_file(out / "heads" / "tiny" / "seed-0" / "gcbc.safetensors")
    [policy] = acting
    assert all(torch.equal(x, weights[name]) for name, x in policy.state_dict().items())
    assert not torch.equal(weights["policy.0.weight"], other["policy.0.weight"])


def test_plan__asks_of_a_recurrent_model_for_what_the_goal_s_frame_tells(
    dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["model=rssm", "model.hidden_dim=8", "stochastic.choices=2", "stochastic.classes=3", "decoder.width=4"]
    run = trained(dataset_path, tmp_path / "rssm", *small)
    asked: list[Any] = []
    cost, act = actors.plan_cost, GCBC.act
    monkeypatch.setattr(actors, "plan_cost", lambda *given: asked.append(given[3].goal) or cost(*given))
    monkeypatch.setattr(GCBC, "act", lambda self, z, goals: asked.append(goals) or act(self, z, goals))
    costs = ["cost=[latent_distance,temporal_distance]", "baselines=[gcbc]"]
    found = planned(run, tmp_path / "out", *costs, "protocol.seeds=[0]", "ceiling=false")
    assert list(found["metrics"]) == ["rssm", "gcbc on rssm"] and found["rows"][1]["config"]["head"]["goal_dim"] == 6
    assert {tuple(goal.shape) for goal in asked} == {(3, 6)} and len(asked) == 6
    sums = {goal.unflatten(1, (3, 2)).sum(dim=1).mul(1e3).round().unique().item() for goal in asked}
    assert sums == {1000}  # they are probabilities, as s is


def test_plan__interrupted_keeps_what_is_finished(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    actual, calls = plan_rows._play, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return actual(*given)

    out = tmp_path / "out"
    monkeypatch.setattr(plan_rows, "_play", interrupted)
    words = [f"run={run}", f"out={out}", *SMALL, *CEM, "shown=0", "film=false"]
    monkeypatch.setattr(sys, "argv", ["plan", *plan.words_with_group(words)])
    with pytest.raises(SystemExit) as stopped:
        command("plan")(plan.main)()
    assert stopped.value.code == 130
    assert "what was finished is kept; run plan again to go on" in capsys.readouterr().err
    assert len(json.loads(plan_rows.row_file(out, "tiny").read_text())["episodes"]) == 3
    assert not (out / "results.json").exists()
    assert planned(run, out)["metrics"]["tiny"]["episodes"] == 6


def test_plan__finds_the_same_whatever_is_planned_at_once(run: Path, tmp_path: Path) -> None:
    def played(at_once: int) -> list[Plain]:
        out = tmp_path / str(at_once)
        planned(run, out, f"num_envs={at_once}", "protocol.seeds=[0]", "ceiling=false", "planner.candidates=40")
        episodes: list[Plain] = json.loads(plan_rows.row_file(out, "tiny").read_text())["episodes"]
        return episodes

    for one, other in zip(played(1), played(3), strict=True):
        assert all(one[name] == pytest.approx(other[name], abs=1e-3) for name in ("start", "final", "path_length"))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_plan__imagines_in_fewer_bits(
    run: Path, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "has_int8", lambda: True)
    found = planned(run, tmp_path / "out", f"precision={precision}", "ceiling=false")
    assert set(found["metrics"]) == {"tiny"} and found["rows"][0]["config"]["precision"] == precision


def test_plan__refuses_8_bits_on_cpus_that_are_slow_at_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "has_int8", lambda: False)
    with pytest.raises(ValueError, match="precision=int8 is for CPUs with AVX-512 VNNI, which this one lacks"):
        planned(run, tmp_path / "out", "precision=int8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("planner", ["random_shooting", "icem", "mppi", "gradient", "cem_gradient"])
def test_plan__takes_every_planner(run: Path, tmp_path: Path, planner: str) -> None:
    few = {"gradient": ["planner.starts=2", "planner.iterations=2"], "random_shooting": ["planner.candidates=9"]}
    small = few.get(planner, ["planner.candidates=40"])
    found = planned(run, tmp_path / "out", f"planner={planner}", *small, "protocol.seeds=[0]")
    gradients = "gradient" in planner
    assert planned(run, tmp_path / "out", f"planner={planner}", *small, "protocol.seeds=[0]", draw=True)  # none is kept
    assert not (tmp_path / "out" / "paths.png").exists()
    assert found["notes"] == (["true simulator: by CEM, for it has no gradients."] if gradients else [])
    assert set(found["metrics"]) == {"tiny", "true simulator"}


@pytest.mark.parametrize(
    "cost",
    [
        ["cost=factor_distance"],
        ["cost=factor_predicate"],
        ["cost=temporal_distance"],
        ["cost=[latent_distance,action_cost]", "cost.terms.latent_distance.distance=cosine"],
    ],
)
def test_plan__takes_every_cost(run: Path, tmp_path: Path, cost: list[str]) -> None:
    found = planned(run, tmp_path / "out", *cost, "protocol.seeds=[0]", "ceiling=false")
    config = found["rows"][0]["config"]
    assert ("readout" in config) == ("factor" in cost[0]) and ("heads" in config) == ("temporal" in cost[0])


def test_plan__sees_the_distractor_of_the_data_in_held_out_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Arena] = []
    actual = Arena.__init__
    monkeypatch.setattr(Arena, "__init__", lambda self, *given: (made.append(self), actual(self, *given))[1])
    noisy = planned(run, tmp_path / "a", "protocol.seeds=[0]", "ceiling=false")
    worlds = [arena.env.unwrapped.world for arena in made]
    assert all(type(w.layers.distractors[0]).__name__ == "Background" and w.layers.held_out for w in worlds)
    made.clear()
    clean = planned(run, tmp_path / "b", "protocol.seeds=[0]", "ceiling=false", "protocol.distractor=none")
    assert not any(arena.env.unwrapped.world.layers.distractors for arena in made)
    assert noisy["protocol"]["hash"] != clean["protocol"]["hash"]


def test_plan__without_a_simulator_says_that_there_is_no_ceiling(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Arena, "world", None)
    ahead = ["protocol.goals.ahead=2", "protocol.goals.behaviour={_target_: agents.behaviours.uniform.Uniform}"]
    found = planned(run, tmp_path / "out", *ahead, "protocol.seeds=[0]")
    note = "No ceiling: jepa_worlds/MovingDotReach-v0 cannot be simulated from a state that is given."
    assert found["notes"] == [note] and f"\n{note}\n" in capsys.readouterr().out
    assert set(found["metrics"]) == {"tiny"} and set(found["floors"]) == FLOORS


def test_plan__compares_runs_under_one_protocol_only(run: Path, collect_to, tmp_path: Path) -> None:
    data = collect_to(tmp_path / "clean", "episodes=24", "episode_length=16")
    other = trained(data, tmp_path / "other", "model.latent_dim=12")
    with pytest.raises(ValueError, match="other was trained under another distractor than tiny: their numbers belong"):
        planned(run, tmp_path / "out", f"runs=[{other}]")
    assert not (tmp_path / "out").exists()
    both = planned(
        run, tmp_path / "out", f"runs=[{other}]", "protocol.distractor=none", "cost=temporal_distance", "ceiling=false"
    )
    assert list(both["metrics"]) == ["tiny", "other"] and both["rows"][1]["dataset"]["path"] == str(data)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["protocol.horizon=0"], "protocol.horizon must be an integer of at least 1, got 0"),
        (["precision=fp16"], "precision must be one of fp32, bf16, int8, got 'fp16'"),
        (["precision=int8", "device=meta"], "precision=int8 is for CPUs, not meta"),
        (["precision=int8", "planner=gradient"], "precision=int8 has no gradients, which this planner needs"),
        (["planner=categorical_cem"], "CategoricalCEM does not search Box"),
        (["num_envs=0"], "num_envs must be an integer of at least 1, got 0"),
        (["shown=-1"], "shown must be an integer of at least 0, got -1"),
        (["baselines=gcbc"], "baselines must be a list"),
        (["baselines=[dreams]"], r"there is no head 'dreams' among heads: \['gc_inverse_dynamics', 'gcbc', "),
        (["baselines=[reward]"], "baselines are policies for goals, such as gcbc; 'reward' is a Reward"),
        (
            ["protocol=plan/pendulum/v1"],
            r"Pendulum-v0 are Box\(-2.0, 2.0, \(1,\), float32\), the model in tiny takes 2",
        ),
        (
            ["protocol=plan/two_rooms/v1"],
            "the data of tiny are from jepa_worlds/MovingDot-v0, and the protocol is of another world, jepa_worlds/Two",
        ),
        (["protocol.env.size=32"], "the world model does not take frames of shape"),
        (["cost=factor_distance", "cost.terms.factor_distance.factor=x"], "an aim for the factor 'x', and goals have"),
        (["cost=factor_predicate", "cost.terms.factor_predicate.factor=x"], "reads the factor 'x', the dataset has"),
        (["cost=reward"], "rewards of the dataset are 0.0: there is nothing to tell apart"),
        (["protocol.success.factor=angle"], "protocol.success.factor='angle' is none of the factors of the worlds"),
        (["protocol.goals.state={goal: [1, 2], speed: 3}"], "unknown state variable 'speed'"),
    ],
)
def test_plan__refuses_bad_input(run: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(EXPECTED, match=message):
        planned(run, tmp_path / "out", *overrides)
    assert not (tmp_path / "out" / "results.json").exists()


def test_plan__notes_settings_of_worlds_that_the_data_are_not_from(run: Path, tmp_path: Path) -> None:
    found = planned(run, tmp_path / "out", "+protocol.env.max_step=6.0", "protocol.seeds=[0]", "ceiling=false")
    said = "The data of tiny are of other settings than the protocol: env.max_step=4.0 (now 6.0)."
    assert found["notes"] == [said]


def test_plan__notes_plans_that_reach_further_than_a_model_was_trained(run: Path, tmp_path: Path) -> None:
    trained = json.loads((run / "model.json").read_text())["window"] - 1
    found = planned(run, tmp_path / "out", f"protocol.horizon={trained + 1}", "protocol.seeds=[0]", "ceiling=false")
    said = f"Plans reach {trained + 1} steps ahead; tiny was trained on rollouts of {trained}."
    assert found["notes"] == [said]


def test_plan__lists_protocols_where_none_is_given(run: Path) -> None:
    with pytest.raises(ValueError, match=r"protocol=… must be given, one of cart_pole_swing_up/v1, moving_dot/v1, "):
        plan.main(composed("plan", [f"run={run}"]))


def test_plan__guesses_which_protocol_was_meant() -> None:
    with pytest.raises(HydraException) as error:
        composed("plan", ["protocol=plan/two_roms/v1"])
    said = explained(error.value, "plan", [])
    assert said.startswith("unknown option protocol/plan=two_roms/v1: did you mean 'two_rooms/v1'? Known: cart_pole_")


def test_plan__refuses_what_is_something_else(run: Path, dataset_path: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists and holds no evaluation of planning: choose another folder"):
        planned(run, dataset_path)
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    before = (copy / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"tiny.json' holds episodes that were played otherwise, with planner.iter"):
        planned(run, copy, "planner.iterations=3")
    assert (copy / "config.yaml").read_bytes() == before
    with pytest.raises(ValueError, match=r"runs are told apart by the names of their folders.*\['tiny', 'tiny'\]"):
        planned(run, tmp_path / "new", f"runs=[{run}]")
    with pytest.raises(FileNotFoundError, match="no model in 'nowhere'"):
        planned(Path("nowhere"), tmp_path / "new")


def test_plan__a_goal_of_another_shape_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actual = Arena.begin

    def begin(self):
        now, goal = actual(self)
        return now, type(goal)(goal.frames[:, :20], goal.factors)

    monkeypatch.setattr(Arena, "begin", begin)
    with pytest.raises(ValueError, match=r"goals should look like frames, \(1, 28, 28, 1\); got \(1, 20, 28, 1\)"):
        planned(run, tmp_path / "out")


def test_plan__plans_are_never_worse_than_what_they_begin_with(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole chain hands planners finite costs of the right candidates."""
    seen = []
    actual = Planner.plan

    def spied(self, cost, start, *given):
        found = actual(self, cost, start, *given)
        seen.append((cost(start[:, None])[:, 0] - found.costs).tolist())
        return found

    monkeypatch.setattr(Planner, "plan", spied)
    planned(run, tmp_path / "out", "protocol.seeds=[0]")
    assert len(seen) == 2 * 3 and np.isfinite(seen).all() and (np.array(seen) >= -1e-5).all()


def test_words_with_group__is_a_shorthand() -> None:
    given = ["run=x", "protocol=two_rooms/v1", "protocol.budget=3", "protocol=plan/two_rooms/v1"]
    assert plan.words_with_group(given) == ["run=x", given[3], "protocol.budget=3", given[3]]


def test_followed__is_the_position_that_is_scored_or_the_last() -> None:
    place, angle = np.zeros((3, 2)), np.zeros((3, 1))
    assert followed({"location": place, "location.tip": place}, "location") == "location"
    assert followed({"angle": angle, "location.cart": place, "location.tip": place}, "angle") == "location.tip"
    assert followed({"location.cart": place, "location.height": angle}, "location.height") == "location.cart"
    assert followed({"angle": angle}, "angle") is None


def test_plan__plans_choices_in_episodes_that_end(collect_to, tmp_path: Path) -> None:
    data = collect_to(
        tmp_path / "data", "env=cart_pole_balance", "env.size=28", "behaviour=uniform", "episode_length=8"
    )
    run = trained(data, tmp_path / "balance", "window=5")
    goals = "protocol.goals.state={position: 0, velocity: 0, angle: 0, angular_velocity: 0}"
    worlds = ["protocol.env={id: jepa_worlds/CartPoleBalance-v0, size: 28}", goals, "protocol.success.factor=angle"]
    cost = ["cost=factor_distance", "cost.terms.factor_distance.factor=angle", "baselines=[gcbc]", "shown=1"]
    overrides = [*worlds, *cost, "protocol.seeds=[0]", "planner=categorical_cem", *CEM]
    found = planned(run, tmp_path / "out", *overrides, "film=false", draw=True)
    assert set(found["metrics"]) == {"balance", "gcbc on balance", "true simulator"}
    assert (tmp_path / "out" / "paths.png").is_file()  # of location.tip
    [row] = [json.loads(plan_rows.row_file(tmp_path / "out", "balance").read_text())]
    assert set(row["episodes"][0]["actions"]) <= {0, 1} and row["episodes"][0]["return"] == 3


def test_plan__films_what_a_model_of_several_frames_draws(
    dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(dataset_path, tmp_path / "drawing", "model=gru_autoencoder", "model.frames=2")
    filmed = []
    monkeypatch.setattr(plan_pictures, "write_video", lambda scenes, **given: filmed.extend(scenes))
    planned(run, tmp_path / "out", "protocol.seeds=[0]", "shown=2", "ceiling=false", draw=True)
    [[clip, _]] = filmed
    assert clip.frames.shape == clip.imagined.shape == (4, 196, 196, 3) and clip.goal.shape == (196, 196, 3)
    assert clip.returns.shape == (4,) and clip.returns[0] == 0 > clip.returns[3]
    assert (clip.frames[1] != clip.frames[0]).any() and (clip.imagined[0] != clip.frames[0]).any()


def floors(behaviour: Plain, *trust: str) -> tuple[list[str], list[str]]:
    """The rows of floors, and the notes, where data were collected with this behaviour."""
    dataset = SimpleNamespace(manifest={"behaviour": behaviour})
    comparison = SimpleNamespace(
        fitted={"a run": SimpleNamespace(dataset=dataset)},
        notes=[],
        _row=lambda name, *_: name,
        settings={"trust": list(trust)},
    )
    return Comparison._floors(comparison), comparison.notes  # type: ignore[arg-type, return-value]


def test_plan__of_imported_episodes_has_no_row_for_who_acted_in_them() -> None:
    rows, notes = floors({"imported": "mine", "first_episode": "0"})
    assert rows == ["random actions", "no-op"]
    assert notes == ["No row for the behaviour of the data: imported episodes do not say who acted in them"]


def test_plan__has_no_row_for_a_policy_that_is_not_the_one_of_the_data(tmp_path: Path) -> None:
    file = tmp_path / "policy.zip"
    file.write_bytes(b"a policy")
    config = identified({"_target_": SB3_POLICY, "path": str(file)})
    assert floors(config, "stable_baselines3") == (["random actions", "no-op", "behaviour of the data"], [])
    for change in (lambda: file.write_bytes(b"another one"), file.unlink):
        change()
        rows, notes = floors(config, "stable_baselines3")
        assert rows == ["random actions", "no-op"]
        assert notes == [
            "No row for the behaviour of the data: the policy that acted is gone, or another one is in its place"
        ]


def test_plan__loads_no_policy_that_a_dataset_names_unless_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(b"a policy")
    policy = identified({"_target_": SB3_POLICY, "path": str(tmp_path / "policy.zip")})
    mixture = {
        "_target_": "agents.behaviours.mixture.Mixture",
        "parts": {"any": {"_target_": "agents.behaviours.uniform.Uniform"}, "policy": policy},
        "weights": {"any": 1, "policy": 1},
    }
    for config in (policy, mixture):
        rows, [note] = floors(config, "json")
        assert rows == ["random actions", "no-op"]
        assert note == (
            "No row for the behaviour of the data: a policy acted whose file can run anything when it is loaded; "
            "trust=[stable_baselines3] if it is yours"
        )
        assert floors(config, "stable_baselines3")[0][2:] == ["behaviour of the data"]
