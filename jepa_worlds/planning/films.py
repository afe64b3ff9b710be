"""What episodes of planning look like: a film, and a plot of the paths that were planned and taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from agents.actions import described, vectors
from agents.costs.imagination import imagine
from agents.policies.core import Goal
from agents.policies.latents import Latents
from jepa_worlds.pictures.figures import READOUT, TRUTH, new_figure, newest, save_figure, show_frame
from jepa_worlds.pictures.video import SIDE, Clip, write_video
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.comparing import Comparison
from jepa_worlds.planning.fitting import Fitted
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.probing.clips import drawn
from jepa_worlds.shared.app import Plain

GOAL = "#4575b4"


@dataclass(frozen=True)
class Scene:
    """Episodes that were planned, played again: n of them, over T steps with D decisions.

    Attributes:
        frames: [T+1, n, H, W, C].
        goal: of the episodes.
        returns: [T+1, n], the rewards until then.
        path: [T+1, n, 2], where what is followed is, (x, y) in px; None if no factor is a position.
        aim: [n, 2], where it is at the goal; None likewise.
        plans: [D, n, K, 2], where plans lead, as a probe reads it; None likewise.
        imagined: [D, n, H, W, C], what the model draws of the end of each plan; None if it does not draw.
    """

    frames: NDArray[np.uint8]
    goal: Goal
    returns: NDArray
    path: NDArray | None
    aim: NDArray | None
    plans: NDArray | None
    imagined: NDArray[np.uint8] | None


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
        scene, factor = _played_again(comparison, fitted, episodes)
        if scene.path is not None:
            files.append(out / (f"paths-{name}.png" if len(comparison.fitted) > 1 else "paths.png"))
            _paths(scene, episodes, protocol, f"{name}, {protocol.id}: {factor}", files[-1], factor)
        scenes.append(_clips(scene, episodes, protocol, name))
    if settings["film"] and scenes:
        files.append(out / "film.mp4")
        write_video(scenes, columns=2, fps=settings["fps"], file=files[-1])
    return files


def followed(factors: list[str], success: str) -> str | None:
    """The factor whose path is drawn: that of success if it is a position (x, y) in the frame, else the last such."""
    found = [name for name in factors if name.split(".")[0] == "location"]
    return success if success in found else next(reversed(found), None)


@torch.inference_mode()
def _played_again(comparison: Comparison, fitted: Fitted, episodes: list[Plain]) -> tuple[Scene, str | None]:
    """The episodes from their actions, and what the model made of its plans."""
    protocol, model = comparison.protocol, fitted.model
    numbers, trust = [x["number"] for x in episodes], comparison.settings["trust"]
    arena = Arena(protocol, comparison.distractor, episodes[0]["seed"], numbers, trust)
    observer, device, space = Latents(model), next(model.parameters()).device, described(arena.space)
    actions = np.array([x["actions"] for x in episodes], arena.space.dtype).swapaxes(0, 1)  # [T, n, ...]
    plans = torch.tensor([x["plans"] for x in episodes], device=device).transpose(0, 1)  # [D, n, H, A]
    now, goal = arena.begin()
    factor = followed([name for name in fitted.dataset.factors if name in now.factors], protocol.success.factor)
    readout, every = (fitted.readout(factor) if factor else None), protocol.executed * protocol.action_repeat
    frames, factors, returns = [now.frames], [now.factors], [np.zeros(len(episodes))]
    ends: list[Tensor] = []
    led: list[NDArray] = []
    state = observer.begin(now.frames, now.factors, None)
    for t, taken in enumerate(actions):
        if t % every == 0:
            held = plans[t // every][:, None].repeat_interleave(protocol.action_repeat, dim=2)  # [n, 1, K, A]
            latents = imagine(model, torch.as_tensor(state["model"], device=device), held)[:, 0]  # [n, K, D]
            ends.append(latents[:, -1])
            if readout is not None:
                led.append(readout(latents).cpu().numpy())
        now, rewards = arena.step(taken)
        told = vectors(torch.from_numpy(taken)[:, None], space)[:, 0].numpy()
        state = observer.advance(state, told, now.frames, now.factors)
        frames.append(now.frames)
        factors.append(now.factors)
        returns.append(returns[-1] + rewards)
    arena.close()
    scene = Scene(
        frames=np.stack(frames),
        goal=goal,
        returns=np.stack(returns),
        path=np.stack([x[factor] for x in factors]) if factor else None,
        aim=goal.factors[factor] if factor else None,
        plans=np.stack(led) if factor else None,
        imagined=drawn(model, torch.stack(ends)),
    )
    return scene, factor


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
