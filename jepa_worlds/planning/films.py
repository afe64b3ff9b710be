"""What episodes of planning look like: a film, and a plot of the paths that were planned and taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jepa_worlds.pictures.figures import READOUT, TRUTH, new_figure, newest, save_figure, show_frame
from jepa_worlds.pictures.video import SIDE, Clip, write_video
from jepa_worlds.planning.comparing import Comparison
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.planning.replaying import Scene, played_again
from jepa_worlds.shared.files import Plain

FILM = "film.mp4"
GOAL = "#4575b4"


def pictures(comparison: Comparison, played: dict[str, Plain], out: Path, settings: Plain) -> list[Path]:
    """Draw the first episodes of every planner; returns the files.

    Raises:
        OSError: a file cannot be written.
    """
    files, scenes, protocol = [], [], comparison.protocol
    for name, fitted in comparison.fitted.items():
        episodes = [x for x in played[name]["episodes"] if "actions" in x][: settings["shown"]]
        if not episodes:  # they were played when none were to be shown
            continue
        scene, factor = played_again(comparison, fitted, episodes)
        if scene.path is not None:
            files.append(out / (f"paths-{name}.png" if len(comparison.fitted) > 1 else "paths.png"))
            _paths(scene, episodes, protocol, f"{name}, {protocol.id}: {factor}", files[-1], factor)
        scenes.append(_clips(scene, episodes, protocol, name))
    if settings["film"] and scenes:
        files.append(out / FILM)
        write_video(scenes, columns=2, fps=settings["fps"], file=files[-1])
    return files


def _paths(scene: Scene, episodes: list[Plain], protocol: Protocol, title: str, file: Path, factor: str | None) -> None:
    """Episodes side by side, seen from above: the path taken, those planned, start and goal."""
    from matplotlib.patches import Circle

    assert scene.path is not None and scene.aim is not None and scene.plans is not None
    count = len(episodes)
    columns = min(count, 4)
    rows = -(-count // columns)
    figure, axes = new_figure(rows, columns, 3.0 * columns, 3.2 * rows + 0.6)
    for number, axis in enumerate(axes.flat):
        if number >= count:
            axis.set_axis_off()
            continue
        show_frame(axis, scene.frames[0, number])
        for plan in scene.plans[:, number]:
            axis.plot(*plan.T, color=READOUT, linewidth=0.7, alpha=0.45)
        axis.plot(*scene.path[:, number].T, color=TRUTH, linewidth=2)
        axis.plot(*scene.path[0, number], "o", color=TRUTH, markersize=7, markeredgecolor="white")
        axis.plot(*scene.aim[number], "*", color=GOAL, markersize=13, markeredgecolor="white")
        if factor == protocol.success.factor:
            axis.add_patch(Circle(tuple(scene.aim[number]), protocol.success.within, fill=False, color=GOAL))
        arrived = episodes[number]["arrived"]
        said = "never there" if arrived is None else f"there after {arrived} step{'' if arrived == 1 else 's'}"
        end = f"{episodes[number]['final']:.2g} {protocol.success.unit}".strip()
        axis.set_title(f"{said}, {end} at the end", fontsize=8)
    figure.suptitle(f"{title}\ntaken (green, from ●), planned (red, as probed), goal (★)", fontsize=10)
    save_figure(figure, file)


def _clips(scene: Scene, episodes: list[Plain], protocol: Protocol, name: str) -> list[Clip]:
    every = protocol.executed * protocol.action_repeat
    decision = np.minimum(np.arange(len(scene.frames)) // every, -(-protocol.budget // every) - 1)  # [T+1]
    clips = []
    for i, episode in enumerate(episodes):
        frames = [
            _drawn(
                frame[i],
                None if scene.plans is None else scene.plans[decision[t], i],
                None if scene.path is None else scene.path[: t + 1, i],
                None if scene.aim is None else scene.aim[i],
            )
            for t, frame in enumerate(scene.frames)
        ]
        imagined = None
        if scene.imagined is not None:
            imagined = np.stack([_drawn(scene.imagined[d, i]) for d in decision])
        clips.append(
            Clip(
                title=f"{name}, seed {episode['seed']}, episode {episode['number']}",
                frames=np.stack(frames),
                imagined=imagined,
                goal=_drawn(scene.goal.frames[i]),
                returns=scene.returns[:, i],
            )
        )
    return clips


def _drawn(
    frame: NDArray[np.uint8], plan: NDArray | None = None, path: NDArray | None = None, aim: NDArray | None = None
) -> NDArray[np.uint8]:
    """A frame, enlarged, with the way taken, the way planned and the goal: [H, W, C] -> [S, S', 3]."""
    image = Image.fromarray(np.ascontiguousarray(newest(frame))).convert("RGB")
    scale = -(-SIDE // min(image.size))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)

    def px(points: NDArray) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in (np.asarray(points) + 0.5) * scale]

    if path is not None and len(path) > 1:
        draw.line(px(path), fill=TRUTH, width=2)
    if plan is not None:
        draw.line(px(np.concatenate([path[-1:], plan]) if path is not None else plan), fill=READOUT, width=3)
    if aim is not None:
        [(x, y)] = px(aim[None])
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], outline=GOAL, width=3)
    return np.asarray(image)
