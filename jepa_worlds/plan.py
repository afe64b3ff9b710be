"""Plan in a world model, and compare that with floors and with a ceiling under one protocol.

python -m jepa_worlds.plan run=runs/vicreg planner=cem protocol=moving_dot/v1
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from agents.costs.int8 import has_int8
from envs.arguments import require_whole
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.pictures.video import check_writable
from jepa_worlds.planning.comparing import Comparison
from jepa_worlds.planning.films import FILM, pictures
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.planning.rows import Row, check_rows, play_row, summary
from jepa_worlds.planning.tables import SOLVED, numbers, table
from jepa_worlds.shared.app import CONFIGS, command, plain, require_types
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.build import TRUSTED, build
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.jobs import Report
from jepa_worlds.shared.runs import RESULTS, claimed, results, run_name, write_config, write_results

GROUP = "plan"
PRECISIONS = ("fp32", "bf16", "int8")


def main(config: DictConfig) -> Plain:
    """Play the episodes of a protocol; returns what it writes to ``results.json``.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: bad input.
    """
    settings = read_settings(config)
    content, drawn = plan_run(settings)
    protocol = Protocol.of(settings["protocol"])
    lines = ["", f"{protocol.id}, {len(protocol.seeds)} × {protocol.episodes} episodes of {protocol.budget} steps:", ""]
    lines += [*table(content, protocol), "", *map(str, (_folder(settings) / RESULTS, *drawn))]
    sys.stdout.write("\n".join(lines) + "\n")
    return content


def plan_run(settings: Plain, report: Report = lambda _: None) -> tuple[Plain, list[Path]]:
    """What `main` does; returns the results, and what was drawn. Episodes that are over are reported."""
    started = time.perf_counter()
    check(settings)
    check_device(settings)
    protocol = Protocol.of(settings["protocol"])
    out = _folder(settings)
    if settings["film"] and settings["shown"]:
        check_writable(out / FILM, settings["fps"])
    comparison = Comparison(settings, protocol, out)
    rows = comparison.rows()
    check_rows(rows, out)
    write_config(out, settings)
    total, played = len(rows) * protocol.episodes * len(protocol.seeds), {}
    with bar(total=total, unit="episode", desc=f"plan {out}", smoothing=0) as progress:

        def over(episodes: float) -> None:
            progress.update(episodes)
            report(episodes)

        at_once, trust = settings["num_envs"], settings["trust"]
        for row in rows:
            progress.set_postfix_str(row.name)
            played[row.name] = play_row(row, protocol, comparison.distractor, out, at_once, over, trust)
    content = _content(comparison, rows, played, started)
    write_results(out, content)
    return content, pictures(comparison, played, out, settings) if settings["shown"] else []


def words_with_group(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments in which ``protocol=two_rooms/v1`` has become ``protocol=plan/two_rooms/v1``."""
    key, short = "protocol=", f"protocol={GROUP}/"
    return [f"{short}{x.removeprefix(key)}" if x.startswith(key) and not x.startswith(short) else x for x in arguments]


def read_settings(config: DictConfig) -> Plain:
    """The configuration, resolved but for heads: each run has a ``spec`` of its own to resolve them with."""
    heads = OmegaConf.to_container(config.heads)
    rest = OmegaConf.masked_copy(config, [str(key) for key in config if key != "heads"])
    return {**plain(rest), "heads": heads}


def check(settings: Plain) -> None:
    """Refuse what is wrong whatever the run is.

    Raises:
        ValueError: there is such a thing.
    """
    if settings.get("protocol") is None:
        folder = CONFIGS / "protocol" / GROUP
        known = sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
        raise ValueError(f"protocol=… must be given, one of {', '.join(known)}")
    require_types(settings, runs=list, baselines=list, trust=list, ceiling=bool, film=bool, verify=bool)
    require_whole(num_envs=settings["num_envs"])
    require_whole(0, shown=settings["shown"])
    if settings["precision"] not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {settings['precision']!r}")
    trusted = (*TRUSTED, *settings["trust"])
    if settings["precision"] == "int8" and build(settings["planner"], trusted).gradients:
        raise ValueError("precision=int8 has no gradients, which this planner needs: choose fp32 or bf16")
    names = [run_name(run) for run in (settings["run"], *settings["runs"])]
    if len({*names}) < len(names):
        raise ValueError(f"runs are told apart by the names of their folders, which must differ; got {names}")


def check_device(settings: Plain) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        ValueError: 8 bits on a GPU or a CPU that is slow at them, or a device that is not there.
    """
    device = chosen_device(settings["device"])
    if settings["precision"] == "int8" and device.type != "cpu":
        raise ValueError(f"precision=int8 is for CPUs, not {device}: choose bf16 or fp32, or device=cpu")
    if settings["precision"] == "int8" and not has_int8():
        raise ValueError("precision=int8 is for CPUs with AVX-512 VNNI, which this one lacks: choose fp32")


def _folder(settings: Plain) -> Path:
    """Where results go.

    Raises:
        ValueError: something else is there already.
    """
    words = [settings["protocol"]["id"].removeprefix(f"{GROUP}/").replace("/", "-"), *sorted(settings["cost"]["terms"])]
    words.insert(1, str(settings["planner"]["_target_"]).rpartition(".")[-1])
    out = Path(str(settings["out"] or Path(str(settings["run"])) / "plan" / "-".join(words)))
    return claimed(out, {"run", "planner", "protocol"}, "evaluation of planning")


def _content(comparison: Comparison, rows: Sequence[Row], played: dict[str, Plain], started: float) -> Plain:
    """What goes into ``results.json``."""
    protocol = comparison.protocol
    found = {name: numbers(content, protocol) for name, content in played.items()}
    starts, within = next(iter(played.values()))["episodes"], protocol.success.within
    still = [{**x, "final": x["start"], "arrived": 0 if x["start"] <= within else None} for x in starts]
    solved = summary(still, within)
    shares = ("episodes", "success_end", "success_ever", "final_distance")
    floors = {row.name: found[row.name] for row in rows if row.kind == "floor"}
    floors[SOLVED] = {name: x for name, x in solved.items() if name.removesuffix("_ci95") in shares}
    shared = results(
        "plan",
        metrics={row.name: found[row.name] for row in rows if row.kind != "floor"},
        floors=floors,
        seeds=list(protocol.seeds),
        protocol=comparison.identity,
        dataset=comparison.datasets[rows[0].name],
        started=started,
        notes=comparison.notes,
    )
    own = [
        {
            **shared,
            "name": row.name,
            "kind": row.kind,
            "config": row.settings,
            "metrics": found[row.name],
            "dataset": comparison.datasets.get(row.name),
            "seconds": round(played[row.name]["effort"]["seconds"], 2),
        }
        for row in rows
    ]
    return {**shared, "rows": own}


if __name__ == "__main__":
    sys.argv[1:] = words_with_group(sys.argv[1:])
    command("plan")(main)()
