"""One picture, or film, of every task under every distractor.

python -m jepa_worlds.gallery out=docs/worlds.png
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from envs.arguments import require_whole
from envs.registry import NAMESPACE
from jepa_worlds.data.collecting import Collection, rollouts
from jepa_worlds.data.environments import native_ids
from jepa_worlds.pictures.figures import newest
from jepa_worlds.pictures.video import BACKGROUND, INK, SUFFIXES, check_writable, write_images
from jepa_worlds.shared.app import CONFIGS, command, composed, plain
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import Plain, atomic

Film = NDArray[np.uint8]  # [T, H, W, C]
GAP = 6  # px between cells
FRAME = "#dddddd"


def main(config: DictConfig) -> Path:
    """Step every task under every distractor and draw what is seen; returns the file.

    Raises:
        ValueError: bad input, such as a file that is neither a picture nor a film.
        OSError: the file cannot be written, or there is no encoder.
    """
    settings = plain(config)
    out = Path(settings["out"])
    _check(settings, out)
    rows = {**native_rows(), **settings["rows"]}
    grid: dict[str, list[Film]] = {}
    for number, (name, overrides) in enumerate(tqdm(rows.items(), desc="gallery", unit="task")):
        seed = settings["seed"] + number  # rows have other pictures than their neighbours
        try:
            grid[name] = [_seen([*overrides, *column], settings, seed) for column in settings["columns"].values()]
        except (ImportError, OSError, ValueError) as error:
            if name not in settings["rows"]:
                raise
            tqdm.write(f"{name} is left out: {' '.join(str(error).split())}", file=sys.stderr)
    columns = list(settings["columns"])
    if out.suffix.lower() in SUFFIXES:
        images = [picture(grid, columns, settings["cell"], step) for step in range(settings["steps"] + 1)]
        write_images([np.asarray(image) for image in images], settings["fps"], out)
    else:
        with atomic(out) as temporary:
            picture(grid, columns, settings["cell"], settings["steps"]).save(temporary, optimize=True)
    return out


def native_rows() -> dict[str, list[str]]:
    """The overrides of every option of ``env`` that is a native world, by the name of the world."""
    rows = {}
    for file in sorted((CONFIGS / "env").glob("*.yaml")):
        override = f"env={file.stem}"
        env_id = composed("collect", ["out=", override]).env.get("id", "???")
        if env_id in native_ids():
            name = env_id.removeprefix(f"{NAMESPACE}/").rpartition("-v")[0]
            rows[re.sub("(?<=[a-z])(?=[A-Z])", " ", name)] = [override]
    return rows


def picture(grid: dict[str, list[Film]], columns: Sequence[str], cell: int, step: int) -> Image.Image:
    """The grid at a step (a film that is over stays at its end), labelled; both sides are even."""
    font, small = ImageFont.load_default(cell / 7), ImageFont.load_default(cell / 8)
    rows = {name: _wrapped(name, font, cell) for name in grid}
    heads = [_wrapped(name, small, cell) for name in columns]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = 3 * GAP + round(max(pen.multiline_textbbox((0, 0), text, font)[2] for text in rows.values()))
    top = 3 * GAP + round(max(pen.multiline_textbbox((0, 0), text, small)[3] for text in heads))
    size = (left + len(columns) * (cell + GAP), top + len(grid) * (cell + GAP))
    canvas = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for x, text in enumerate(heads):
        middle = left + x * (cell + GAP) + cell / 2
        pen.multiline_text((middle, top - GAP), text, INK, small, anchor="md", align="center")
    for y, (name, text) in enumerate(rows.items()):
        upper = top + y * (cell + GAP)
        pen.multiline_text((left - 2 * GAP, upper + cell / 2), text, INK, font, anchor="rm", align="right")
        for x, film in enumerate(grid[name]):
            at = (left + x * (cell + GAP), upper)
            canvas.paste(_enlarged(film[min(step, len(film) - 1)], cell), at)
            pen.rectangle((at[0] - 1, at[1] - 1, at[0] + cell, at[1] + cell), outline=FRAME)  # of white on white
    return canvas


def _seen(overrides: Sequence[str], settings: dict[str, Any], seed: int) -> Film:
    """What is seen of the episode of a seed."""
    fixed = ["episodes=1", f"episode_length={settings['steps']}", "num_envs=1", f"seed={seed}", "out="]
    config = plain(composed("collect", [*settings["collect"], *fixed, *overrides]))
    wanted: Plain = {name: config.get(name) for name in Collection.__dataclass_fields__}
    collection = Collection(**wanted)
    env = collection.make("train")
    try:
        columns = rollouts(env, build(collection.behaviour), collection.seed, range(1), settings["steps"])
    finally:
        env.close()
    return columns["frames"]


def _enlarged(frame: NDArray[np.uint8], cell: int) -> Image.Image:
    """A frame [H, W, C] in a cell, as large as fits: sharp pixels, of one size even where the factor is not whole."""
    image = Image.fromarray(newest(frame)).convert("RGB")
    scale = cell / max(image.size)
    whole = max(1, int(np.ceil(scale)))
    image = image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    image = image.resize((round(frame.shape[1] * scale), round(frame.shape[0] * scale)), Image.Resampling.BOX)
    centred = Image.new("RGB", (cell, cell), BACKGROUND)
    centred.paste(image, ((cell - image.width) // 2, (cell - image.height) // 2))
    return centred


def _wrapped(text: str, font: Any, width: int) -> str:
    """Text in lines that fit a width in px, if its words do."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _check(settings: dict[str, Any], out: Path) -> None:
    """Refuse what would fail after the work is done."""
    if out.suffix.lower() not in (".png", *SUFFIXES):
        raise ValueError(f"a gallery is a .png, or as a film {' or '.join(SUFFIXES)}; got out={str(out)!r}")
    require_whole(steps=settings["steps"])
    require_whole(16, cell=settings["cell"])
    if not settings["columns"]:
        raise ValueError("columns must name at least one distractor, got none")
    if out.suffix.lower() in SUFFIXES:
        check_writable(out, settings["fps"])


if __name__ == "__main__":
    command("gallery")(main)()
