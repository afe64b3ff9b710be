"""What a comparison of policies is made of: worlds to act in, and rows of policies that see them differently."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from agents.policies.vec_env import ObservedVecEnv
from agents.simulation import inner_world
from envs.core import World
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.environments import Task, make_worlds
from jepa_worlds.models.checkpoint import CARD, load, read_card, save, untrained
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.policies.downstream import Training, new_algorithm, require_same
from jepa_worlds.policies.saved import make_observer
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import run_name

OTHERS = ("untrained", "pixels", "state", "finetuned")  # rows beside those of runs

Rows = dict[str, list[Training]]
"""The policies to train, one for each seed, by what they see."""


def chosen_task(settings: Plain) -> Task:
    """The worlds to act in: those that the model was trained on, as far as nothing else is asked for.

    Raises:
        FileNotFoundError: they are to be those, and the dataset is not where it was.
    """
    env, distractor = settings.get("env"), settings.get("distractor")  # distractor=none is {}
    if env is None or distractor is None:
        path = read_card(settings["run"])["dataset"]["path"]
        try:
            manifest = Dataset(path, verify=False).manifest
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}. Say what to act in instead: env=… distractor=… (none: none)") from error
        env = manifest["env"] if env is None else env
        distractor = (manifest["distractor"] or {}) if distractor is None else distractor  # None if it was imported
    return {"env": env, "distractor": distractor, "episode_length": settings["episode_length"]}


def compared_rows(settings: Plain, task: Task, out: Path) -> Rows:
    """The policies that are to be trained.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: bad input.
    """
    run, compare, trust = str(settings["run"]), settings["compare"], tuple(settings["trust"])
    device = str(chosen_device(settings["device"]))
    seeds = range(settings["first_seed"], settings["first_seed"] + settings["seeds"])
    frames = {"pixels": load(run, trust=trust).context}
    sees: dict[str, list[Plain]] = {run_name(r): [{"latents": str(r)}] * len(seeds) for r in (run, *settings["runs"])}
    if "untrained" in compare:
        sees["untrained"] = [{"latents": str(out / "untrained" / f"model-{seed}")} for seed in seeds]
    sees |= {name: [frames] * len(seeds) for name in ("pixels", "finetuned") if name in compare}
    if "state" in compare:
        sees["state"] = [{"state": _factors(task)}] * len(seeds)
    return {
        name: [
            Training(
                folder=str(out / name / f"seed-{seed}"),
                seed=seed,
                sees=seen,
                finetune=run if name == "finetuned" else None,
                task=task,
                policy=_policy(settings["policy"], seen),
                timesteps=settings["timesteps"],
                evaluations=settings["protocol"]["evaluations"],
                episodes=settings["protocol"]["episodes"],
                device=device,
                trust=trust,
            )
            for seed, seen in zip(seeds, row, strict=True)
        ]
        for name, row in sees.items()
    }


def _policy(policy: Plain, sees: Plain) -> Plain:
    """The settings of a policy that sees this: ``pixel_arguments`` are among its ``arguments``, or left out.

    Raises:
        ValueError: either are none.
    """
    given = {"arguments": policy["arguments"], "pixel_arguments": policy.get("pixel_arguments", {})}
    for name, value in given.items():
        if type(value) is not dict:
            raise ValueError(f"policy.{name} must be key: value, …, got {value!r}")
    arguments = {**given["arguments"], **(given["pixel_arguments"] if "pixels" in sees else {})}
    return {**{name: policy[name] for name in policy if name not in given}, "arguments": arguments}


def _factors(task: Task) -> list[str]:
    """The factors of a task's worlds, without those of its distractors.

    Raises:
        ValueError: it tells none.
    """
    worlds = make_worlds({**task, "distractor": {}}, 1, held_out=False)
    found = [name for name in getattr(worlds.unwrapped, "factor_space", {}) if name != "background"]  # which is black
    worlds.close()
    if not found:
        raise ValueError("this environment tells no factors, which are the true state: leave state out of compare")
    return found


def check_rows(rows: Rows, run: str) -> None:
    """Refuse what would fail in every process, before any begins and anything is written.

    Raises:
        ValueError: bad input, or policies that were begun otherwise.
    """
    for training in rows.get("untrained", []):
        folder = Path(training.sees["latents"])
        if (folder / CARD).is_file() and read_card(folder) != _untrained_card(run, training.seed):
            raise ValueError(f"{str(folder)!r} is no untrained model like {run!r}: choose another out")
    for name, trainings in rows.items():
        for training in trainings:
            require_same(training)
        if name != "untrained":  # which fails as the first row does, and is not there yet
            _try_out(trainings[0])


def write_untrained(rows: Rows, run: str) -> None:
    """Write run folders with models that have learned nothing, which are otherwise like a run's."""
    for training in rows.get("untrained", []):
        folder, card = Path(training.sees["latents"]), _untrained_card(run, training.seed)
        trusted = ("agents", *training.trust)
        if not (folder / CARD).is_file():
            save(untrained(lambda: build(card["model"], trusted), training.seed), card, folder)  # noqa: B023


def _untrained_card(run: str, seed: int) -> Plain:
    return {**read_card(run), "seed": seed, "steps": 0}


def _try_out(training: Training) -> None:
    """Make a policy and take a step.

    Raises:
        ValueError: bad input.
    """
    observer = make_observer(training.sees, training.device, training.trust)
    count = min(2, training.policy["num_envs"])  # of a single world, some algorithms would take too short rollouts ill
    env = make_worlds(training.task, count, held_out=False, trust=training.trust)
    if not _rewarded(env.unwrapped):
        raise ValueError(
            f"{training.task['env']['id']} has no rewards to learn from: choose a task, such as env=moving_dot_reach, "
            f"whose frames are those of moving_dot"
        )
    try:
        worlds = ObservedVecEnv(env, observer)
    except ValueError as error:
        [what] = training.sees.values()
        raise ValueError(f"{what}: {error}" if "latents" in training.sees else str(error)) from error
    with warnings.catch_warnings(action="ignore"):  # Stable-Baselines3 finds so few worlds few
        new_algorithm(training, worlds)
    worlds.reset()
    try:
        worlds.step(np.stack([worlds.action_space.sample() for _ in range(count)]))
    except RuntimeError as error:
        raise ValueError(
            f"the model in {training.sees['latents']!r} does not take actions of {worlds.action_space}: make the "
            f"environment as the one that the model was trained on. PyTorch says: {error}"
        ) from error
    worlds.close()


def _rewarded(env: object) -> bool:
    """Whether what is underneath all that is around it has rewards, as environments of others are taken to have."""
    world = inner_world(env)
    return world is None or type(world).reward is not World.reward
