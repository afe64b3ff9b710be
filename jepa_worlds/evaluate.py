"""Train policies on what a world model tells, and on what it is to be compared with.

python -m jepa_worlds.evaluate run=runs/dot env=moving_dot_reach policy=ppo timesteps=50000 seeds=5
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from omegaconf import DictConfig
from tqdm import tqdm

from envs.arguments import require_whole, require_whole_or_none
from jepa_worlds.data.dataset import known_manifest
from jepa_worlds.data.environments import Task
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.policies.comparing import OTHERS, Rows, check_rows, chosen_task, compared_rows, write_untrained
from jepa_worlds.policies.downstream import BEST, CURVE, Training, train_policy, trained
from jepa_worlds.policies.floors import idle_returns, random_returns
from jepa_worlds.policies.learning_curves import learning_curves
from jepa_worlds.policies.returns import FLOORS, Curve, summary
from jepa_worlds.policies.saved import read_policy_card
from jepa_worlds.policies.tables import table
from jepa_worlds.shared.app import command, plain, require_types
from jepa_worlds.shared.files import Plain, read_json
from jepa_worlds.shared.jobs import cores, run_jobs
from jepa_worlds.shared.runs import RESULTS, claimed, protocol_id, results, run_name, write_config, write_results

COLLECTED = ("env", "distractor", "behaviour", "episodes", "episode_length")  # how data came about
ON_A_GPU = 4  # policies at a time, each with a context of its own


def main(config: DictConfig) -> Plain:
    """Train and compare policies; returns what it writes to ``results.json``.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: bad input, or policies whose training failed.
    """
    started = time.perf_counter()
    settings = plain(config)
    _check(settings)
    task = chosen_task(settings)
    out = _folder(settings, task)
    rows = compared_rows(settings, task, out)
    check_rows(rows, str(settings["run"]))
    write_config(out, settings)
    write_untrained(rows, str(settings["run"]))
    _train(rows, settings)
    content = _compared(rows, settings, task, started)
    curves = {row["name"]: [Curve(**curve) for curve in row["curves"]] for row in content["rows"]}
    title = f"{_worlds(task)}, {settings['policy']['algorithm']}"
    learning_curves(curves, content["metrics"], title, out / "learning_curves.png")
    write_results(out, content)
    said = [_said(row) for row in content["rows"] if row["dataset"]]
    film = f"film the best: python -m jepa_worlds.record run={content['rows'][0]['best']} out=policy.mp4"
    lines = ["", f"{title}:", "", *table(content["metrics"]), "", *said, "", str(out / RESULTS), film]
    sys.stdout.write("\n".join(lines) + "\n")
    return content


def _check(settings: Plain) -> None:
    """Refuse what has no place in a comparison.

    Raises:
        ValueError: there is such a thing.
    """
    require_types(settings, runs=list, compare=list, trust=list, equal_seconds=bool, first_seed=int)
    require_whole(seeds=settings["seeds"])
    require_whole_or_none(jobs=settings["jobs"])
    levels = settings["protocol"]["levels"]
    if type(levels) is not list or not all(type(x) in (int, float) and 0 < x <= 1 for x in levels):
        raise ValueError(f"protocol.levels must be a list of shares above 0 and at most 1, got {levels!r}")
    if unknown := sorted(set(map(str, settings["compare"])) - set(OTHERS)):
        raise ValueError(f"compare takes {list(OTHERS)}, got {unknown}")
    names, taken = [run_name(run) for run in (settings["run"], *settings["runs"])], {*OTHERS, *FLOORS}
    if len(set(names)) < len(names) or set(names) & taken:
        raise ValueError(
            f"runs are told apart by the names of their folders, which must differ and be none of {sorted(taken)}; got "
            f"{names}"
        )


def _folder(settings: Plain, task: Task) -> Path:
    """Where results go.

    Raises:
        ValueError: something else is there already.
    """
    name = f"{task['env']['id'].split('/')[-1]}-{settings['policy']['algorithm']}"
    out = Path(str(settings["out"] or Path(str(settings["run"])) / "evaluate" / name))
    return claimed(out, {"run", "compare", "protocol"}, "evaluation of policies")


def _train(rows: Rows, settings: Plain) -> None:
    """Train all policies; those that see pixels last, so that it is known how much time they are to have.

    Raises:
        ValueError: some failed; the others are kept.
    """
    _run([training for name, row in rows.items() if name != "pixels" for training in row], settings)
    if "pixels" in rows:
        first = next(iter(rows.values()))
        seconds = median(_curve(training).seconds[-1] for training in first) if settings["equal_seconds"] else 0.0
        _run([replace(training, seconds=seconds) for training in rows["pixels"]], settings)


def _run(trainings: Sequence[Training], settings: Plain) -> None:
    """Train policies side by side, as far as they are not trained yet.

    Raises:
        ValueError: some failed; the others are kept.
    """
    left = [training for training in trainings if not (Path(training.folder) / CURVE).is_file()]
    if not left:
        return
    total, done = sum(training.timesteps for training in left), sum(map(trained, left))
    bar = {"desc": f"train {len(left)} policies", "unit": "step", "unit_scale": True, "smoothing": 0.05}
    with tqdm(total=total, initial=done, **bar) as progress:  # type: ignore[call-overload]
        workers = settings["jobs"] or min(cores(), cores() if left[0].device == "cpu" else ON_A_GPU)
        failures = run_jobs(train_policy, left, workers, progress)
    failed = [f"{training.folder}: {why}" for training, why in zip(left, failures, strict=True) if why]
    if failed:
        count = f"{len(failed)} of {len(left)} policies failed, the others are kept"
        raise ValueError("\n".join([f"{count}:", *failed]))


def _compared(rows: Rows, settings: Plain, task: Task, started: float) -> Plain:
    """What goes into ``results.json``."""
    first = next(iter(rows))
    curves = {name: [_curve(training) for training in row] for name, row in rows.items()}
    chance = [random_returns(training) for training in tqdm(rows[first], desc="random actions", unit="seed")]
    nothing = idle_returns(rows[first][0])
    found = summary(curves, chance, settings["protocol"]["levels"], seconds_of=first, nothing=nothing)
    data = _data(settings)
    policies = {"task": task, "policy": _settled(settings["policy"], rows), "timesteps": settings["timesteps"]}
    shared = results(
        "evaluate",
        metrics=found,
        floors={name: found[name] for name in (*FLOORS, "untrained") if name in found},
        seeds=[training.seed for training in rows[first]],
        protocol=protocol_id(settings["protocol"] | policies),
        dataset=data[first],
        started=started,
    )
    own = [
        {
            **shared,
            "name": name,
            "config": asdict(row[0]),
            "metrics": found[name],
            "dataset": data.get(name),
            "seconds": round(sum(curve.seconds[-1] for curve in curves[name]), 2),
            "best": _best(row),
            "curves": [asdict(curve) for curve in curves[name]],
        }
        for name, row in rows.items()
    ]
    return {**shared, "rows": own}


def _settled(policy: Plain, rows: Rows) -> Plain:
    """What numbers depend on: arguments of policies that learn to see only if there are both."""
    matters = policy.get("pixel_arguments") and rows.keys() & {"pixels", "finetuned"}
    return policy if matters else {name: x for name, x in policy.items() if name != "pixel_arguments"}


def _data(settings: Plain) -> dict[str, Plain]:
    """What each model was trained on."""
    found = {}
    for run in (settings["run"], *settings["runs"]):
        card = read_card(run)
        manifest = known_manifest(card["dataset"])
        told = {name: manifest[name] for name in COLLECTED if name in manifest}
        found[run_name(run)] = {**card["dataset"], **told, **{x: card[x] for x in ("objective", "steps", "seed")}}
    return found


def _curve(training: Training) -> Curve:
    return Curve(**read_json(Path(training.folder) / CURVE))


def _best(row: Sequence[Training]) -> str:
    """The folder of the policy that was best in its evaluation."""
    folders = [Path(training.folder) / BEST for training in row]
    return str(max(folders, key=lambda folder: read_policy_card(folder)["return"]))


def _said(row: Plain) -> str:
    data = row["dataset"]
    terms = ", ".join(data["objective"].get("terms") or {}) or "no objective"
    how = "trained elsewhere," if data["steps"] is None else f"{terms}, {data['steps']} steps"
    said = f"{row['name']}: {how} on {data['path']} ({data['hash'][:12]})"
    if "episodes" not in data:
        return said
    length, behaviour = data["episode_length"], _classes(data["behaviour"])  # an imported dataset has neither
    steps, under = f" of {length} steps" if length else "", f" under {behaviour}" if behaviour else ""
    return f"{said}, {data['episodes']} episodes{steps} in {_worlds(data)}{under}"


def _worlds(config: Plain) -> str:
    """What worlds are, in words: ``jepa_worlds/DMControl-v0 walker walk over Background(UniformNoise, static)``."""
    env, over = config["env"], _classes(config["distractor"] or {})
    return " ".join([value for value in env.values() if isinstance(value, str)] + ([f"over {over}"] if over else []))


def _classes(config: Plain) -> str:
    """The classes in a configuration: ``Mixture(RandomWalk, Uniform)``, ``Background(UniformNoise, static)``."""
    inner = [_classes(value) for value in config.values() if isinstance(value, dict)]
    parts = ", ".join(filter(None, [*inner, config.get("dynamics")]))
    name = config.get("_target_", "").rpartition(".")[-1]
    return f"{name}({parts})" if name and parts else name or parts


if __name__ == "__main__":
    command("evaluate")(main)()
