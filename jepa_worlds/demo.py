"""The headline in minutes: one JEPA, two kinds of noise, and an objective that is not fooled.

python -m jepa_worlds.demo
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from agents.objectives.vicreg import vicreg_bound
from envs.arguments import require_whole
from jepa_worlds import collect, train
from jepa_worlds.models.checkpoint import read_card
from jepa_worlds.pictures.figures import DemoRow, demo_picture
from jepa_worlds.pictures.video import Clip, check_writable, write_video
from jepa_worlds.probe import probe_run
from jepa_worlds.probing.clips import clips
from jepa_worlds.probing.scoring import FLOORS
from jepa_worlds.shared.app import command, composed, override, plain
from jepa_worlds.shared.markdown import markdown_table
from jepa_worlds.shared.runs import read_config, results, write_config, write_results


def main(config: DictConfig) -> dict[str, Any]:
    """Collect, train, probe, film and tell; returns what it writes to ``results.json``.

    Raises:
        ValueError: bad input.
    """
    started = time.perf_counter()
    settings = plain(config)
    out = Path(settings["out"])
    _check(settings, out)
    for name, overrides in settings["datasets"].items():
        collect.main(composed("collect", [*settings["collect"], *overrides, override("out", out / "data" / name)]))
    for name, row in settings["rows"].items():
        where = [override("data", out / "data" / row["data"]), override("out", out / name)]
        train.main(composed("train", [*settings["train"], *row["train"], *where]))
    rows, scenes = [], []
    for name, row in tqdm(settings["rows"].items(), desc="probe and film", unit="model"):
        content, probe, found = probe_run(plain(composed("probe", [*settings["probe"], override("run", out / name)])))
        rows.append({"name": name, "title": row["title"], "config": read_card(out / name), **content})
        scenes.append(clips(probe, found.rollouts, settings["film_episodes"], row["title"]))
    factor = settings["factor"]
    pictured = [_picture_row(row, scene[0], factor) for row, scene in zip(rows, scenes, strict=True)]
    demo_picture(pictured, out / "demo.png")
    film = [list(scene) for scene in zip(*scenes, strict=True)]  # one episode of every model at a time
    write_video(film, columns=settings["film_columns"], fps=settings["fps"], file=out / "demo.mp4")
    content = results(
        "demo",
        metrics={row["name"]: row["metrics"] for row in rows},
        floors={row["name"]: row["floors"] for row in rows},
        diagnostics={row["name"]: row["diagnostics"] for row in rows},
        seeds=sorted({seed for row in rows for seed in row["seeds"]}),
        protocol=rows[0]["protocol"],
        started=started,
        rows=rows,
    )
    write_config(out, settings)
    write_results(out, content)
    sys.stdout.write(
        "\n".join(["", *table(rows, factor), "", *reading(rows), "", *_files(out, content["seconds"])]) + "\n"
    )
    return content


def _check(settings: dict[str, Any], out: Path) -> None:
    """Refuse what would fail after minutes of work."""
    before = read_config(out)
    if before and "rows" not in before:
        raise ValueError(f"out={str(out)!r} holds what another command wrote: choose another folder")
    require_whole(**{name: settings[name] for name in ("film_episodes", "film_columns")})
    check_writable(out / "demo.mp4", settings["fps"])


def table(rows: Sequence[dict[str, Any]], factor: str) -> list[str]:
    """Scores and floors, a line a model, as a Markdown table."""
    heads = ("model and noise", "rollout RMSE, px [95 %]", "encoder", *("untrained", "pixels", "chance"))
    lines = []
    for row in rows:
        location, floors, found = row["metrics"][factor], row["floors"][factor], row["diagnostics"]
        low, high = location["rollout_rmse_ci95"]
        background = row["metrics"].get("background")
        cells = [
            row["title"],
            f"**{location['rollout_rmse']:.2f}** [{low:.2f}, {high:.2f}]",
            f"{location['encoder_rmse']:.2f}",
            f"{floors['untrained']:.2f}",
            f"{floors['pixels']:.2f}",
            f"{floors['chance']:.2f}",
            f"{background['encoder_r2']:.2f}" if background else "–",
            f"{found['r_within']:.3f}",
            f"{found['rankme']:.0f}",
        ]
        lines.append(cells)
    return markdown_table([*heads, "background R²", "r_within", "RankMe"], lines)


def reading(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How near the loss of every VICReg row is to the least that any latents can have, from its numbers."""
    lines = []
    for row in rows:
        weights, found = row["config"]["objective"]["weights"], row["diagnostics"]
        if weights.keys() != {"invariance", "variance", "covariance"}:
            continue
        loss = sum(weight * found[name] for name, weight in weights.items())
        latent_dim = row["config"]["model"]["latent_dim"]
        bound = vicreg_bound(row["config"]["batch_size"], latent_dim, weights["variance"], weights["covariance"])
        lines.append(
            f"{row['title']}: held-out loss {loss:.2f}, where no latents can have less than {bound:.2f}; "
            f"{1 - found['r_within']:.1%} of the latent variance stays the same within an episode."
        )
    return lines


def _picture_row(row: dict[str, Any], clip: Clip, factor: str) -> DemoRow:
    return DemoRow(
        title=row["title"],
        frames=clip.frames,
        truth=clip.truth[factor],
        readout=clip.readout[factor],
        rmse=row["metrics"][factor]["rollout_rmse"],
        interval=row["metrics"][factor]["rollout_rmse_ci95"],
        floors={name: row["floors"][factor][name] for name in FLOORS},
    )


def _files(out: Path, seconds: float) -> list[str]:
    return [f"{out / 'demo.png'}  {out / 'demo.mp4'}  {out / 'results.json'}  ({seconds:.0f} s)"]


if __name__ == "__main__":
    command("demo")(main)()
