"""Probe a trained world model: which factors of the scene does its latent tell?

python -m jepa_worlds.probe run=runs/dot
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from jepa_worlds.models.checkpoint import untrained
from jepa_worlds.pictures.figures import per_step_errors, rollout_frames, traces
from jepa_worlds.probing.model_probe import ModelProbe, Probed
from jepa_worlds.probing.opening import open_probe
from jepa_worlds.probing.scoring import FLOORS
from jepa_worlds.shared.app import command, plain, require_types
from jepa_worlds.shared.build import build
from jepa_worlds.shared.markdown import markdown_table
from jepa_worlds.shared.runs import RESULTS, claimed, protocol_id, results, write_config, write_results

SHOWN = 3  # episodes in a picture


def main(config: DictConfig) -> dict[str, Any]:
    """Probe a run's model; returns what it writes to ``results.json``.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: bad input, or a dataset that does not fit the model.
    """
    settings = plain(config)
    content = probe_run(settings)[0]
    sys.stdout.write("\n".join(["", *table(content), "", f"{_folder(settings) / RESULTS}"]) + "\n")
    return content


def probe_run(settings: dict[str, Any]) -> tuple[dict[str, Any], ModelProbe, Probed]:
    """What `main` does; returns the results, and what they were read off."""
    started = time.perf_counter()
    require_types(settings, seed=int)
    run, out = Path(str(settings["run"])), _folder(settings)
    probe, card, dataset = open_probe(settings)
    trusted = ("agents", *settings["trust"])
    fresh = untrained(lambda: build(card["model"], trusted), settings["seed"]).to(probe.device)
    found = probe.run(fresh, card["batch_size"])
    settled = {"window": probe.windows["test"].length, "context": probe.model.context, "readout": settings["readout"]}
    content = results(
        "probe",
        metrics=found.metrics,
        floors=found.floors,
        diagnostics=found.diagnostics,
        seeds=[card["seed"]],
        protocol=protocol_id(settings["protocol"] | settled),
        dataset={"path": str(dataset.path), "hash": dataset.content_hash},
        started=started,
        run=str(run),
    )
    write_config(out, settings)
    draw(probe, found, run.name, out)
    write_results(out, content)
    return content, probe, found


def _folder(settings: dict[str, Any]) -> Path:
    """Where results go.

    Raises:
        ValueError: something else is there already.
    """
    data = settings["data"]
    name = "probe" if data is None else f"probe-{Path(str(data)).name}"
    out = Path(str(settings["out"] or Path(str(settings["run"])) / name))
    return claimed(out, {"run", "readout", "protocol"}, "probe's results")


def table(content: dict[str, Any]) -> list[str]:
    """Scores and floors, a line a factor, as a Markdown table whose columns are aligned."""
    if not content["metrics"]:
        found = ", ".join(f"{name} {number:.3g}" for name, number in content["diagnostics"].items())
        return [f"The dataset tells no factors that change, so there is nothing to read off: {found}"]
    heads = ("factor", "rollout RMSE [95 %]", "encoder RMSE", "R² rollout", "R² encoder", *FLOORS)
    rows = []
    for name, found in sorted(content["metrics"].items(), key=lambda item: item[0] == "background"):
        low, high = found["rollout_rmse_ci95"]
        interval = f"{found['rollout_rmse']:.3g} [{low:.3g}, {high:.3g}]"
        r2 = [f"{found[key]:.2f}" for key in ("r2", "encoder_r2")]
        floors = [f"{content['floors'][name][floor]:.3g}" for floor in FLOORS]
        rows.append([name, interval, f"{found['encoder_rmse']:.3g}", *r2, *floors])
    return markdown_table(heads, rows, aligned=True)


def draw(probe: ModelProbe, found: Probed, title: str, out: Path) -> None:
    """``per_step_<factor>.png`` for every factor; ``rollouts_…`` for positions, ``trace_…`` for other quantities."""
    test = probe.features["test"]
    for name, score in found.rollouts.items():
        floors = {floor: found.floors[name][floor] for floor in FLOORS}
        per_step_errors(score.per_step, floors, name, out / f"per_step_{name}.png")
        truth, readout = test.factors[name][:SHOWN].numpy(), score.predictions[:SHOWN].numpy()
        if name in probe.quantities:
            traces(truth, readout, name, f"{title}: {name}, read off an open-loop rollout", out / f"trace_{name}.png")
        if name in probe.positions:
            frames = probe.frames("test", SHOWN)
            rollout_frames(frames, truth, readout, f"{title}: {name}", out / f"rollouts_{name}.png")


if __name__ == "__main__":
    command("probe")(main)()
