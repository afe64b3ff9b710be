"""Saved policies at work: held-out episodes of their task, and what can be read off the latents that they act by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from agents.actions import described, vectors
from agents.behaviours.core import Behaviour
from agents.policies.core import Goal
from agents.probes.core import Probe, Samples
from envs import random
from envs.core import Factors
from jepa_worlds.data.environments import HELD_OUT, factors_of, goal_of, make_worlds
from jepa_worlds.pictures.video import Clip, gauges
from jepa_worlds.policies.behaviours import SB3_POLICY, make_behaviour
from jepa_worlds.policies.saved import read_policy_card
from jepa_worlds.probing import scoring
from jepa_worlds.probing.model_probe import ModelProbe
from jepa_worlds.probing.opening import open_probe
from jepa_worlds.shared.files import Plain


@dataclass(frozen=True)
class Episode:
    """What happened in an episode of T steps.

    Attributes:
        frames: [T+1, H, W, C].
        factors: {name: [T+1, ...]}.
        actions: [T, ...].
        rewards: [T].
        goal: where it was to get, [1, ...]; None if frames show it, or there is none.
    """

    frames: NDArray[np.uint8]
    factors: Factors
    actions: NDArray
    rewards: NDArray
    goal: Goal | None


def policy_clips(folder: Path, settings: Plain) -> list[Clip]:
    """Held-out episodes of a policy in a folder; with the truth and the probe of its latents, if it sees latents.

    Raises:
        FileNotFoundError: there is no such policy, or not the world model or the dataset that belong to it.
        ValueError: bad input.
    """
    card, trust, steps = read_policy_card(folder), tuple(settings["trust"]), settings["steps"]
    behaviour = make_behaviour({"_target_": SB3_POLICY, "path": str(folder)}, trust)
    model = card["sees"].get("latents")
    probe = open_probe({**settings, "run": model})[0] if model else None
    readouts = _readouts(probe) if probe else {}
    env = make_worlds(card["task"], 1, held_out=True, trust=trust)
    title = f"{card['algorithm']} on {_row(folder, card)}"
    shown = []
    with tqdm(unit="step", desc=f"act {folder}") as bar:
        for number in range(settings["episodes"]):
            episode = play(env, behaviour, number, steps, bar)
            read = _read(probe, readouts, episode, described(env.single_action_space)) if probe else {}
            shown.append(_clip(episode, read, probe, f"{title}, held-out episode {number}"))
    env.close()
    return shown


def play(env: gymnasium.vector.VectorEnv, behaviour: Behaviour, number: int, steps: int | None, bar: tqdm) -> Episode:
    """An episode in an environment of one world, to its end or for some steps. It depends on its number alone."""
    key = random.fold_in(random.fold_in(np.zeros(1, np.uint64), HELD_OUT), np.array([number]))
    frames, infos = env.reset(seed=[int(random.fold_in(key, 0)[0])])  # type: ignore[arg-type]
    factors, goal, over = factors_of(env, infos), goal_of(env), False
    state = behaviour.start(random.fold_in(key, 1), env.single_action_space)
    state = behaviour.look(state, frames, factors, goal)
    seen, told, steps_done = [frames.copy()], [factors], list[tuple[NDArray, NDArray]]()
    while not over and len(steps_done) != steps:
        actions, state = behaviour.act(state, frames, factors)
        frames, rewards, terminations, truncations, infos = env.step(actions)
        factors, over = factors_of(env, infos), bool(terminations[0] or truncations[0])
        seen.append(frames.copy())
        told.append(factors)
        steps_done.append((actions, rewards))
        bar.update()
    joined = {name: np.concatenate([x[name] for x in told]) for name in factors}
    done, rewarded = (np.concatenate(x) for x in zip(*steps_done, strict=True))
    return Episode(np.concatenate(seen), joined, done, rewarded, goal)


def _readouts(probe: ModelProbe) -> dict[str, Probe]:
    """Probes of the positions and quantities that change in the data, fitted on latents of its training episodes."""
    found = {}
    for name in (*probe.positions, *probe.quantities):
        factors = probe.factors(name)
        if not scoring.constant(factors):
            splits = {s: (probe.features[s].latents.flatten(0, 1), factors[s].flatten(0, 1)) for s in factors}
            found[name] = probe.unfitted()
            found[name].fit(Samples(*splits["train"]), Samples(*splits["validation"]))
    return found


@torch.inference_mode()
def _read(probe: ModelProbe, readouts: Mapping[str, Probe], episode: Episode, actions: Plain) -> dict[str, NDArray]:
    """What is read off the latents of an episode, of the factors that it tells: {name: [T+1, F]}."""
    frames = torch.from_numpy(episode.frames).permute(0, 3, 1, 2)[None]  # [1, T+1, C, H, W]
    done = vectors(torch.from_numpy(episode.actions)[None], actions)  # [1, T, A]
    latents = probe.model.encode(frames.to(probe.device), done.to(probe.device))[0].float().cpu()
    return {name: x.predict(latents).numpy() for name, x in readouts.items() if name in episode.factors}


def _clip(episode: Episode, read: Mapping[str, NDArray], probe: ModelProbe | None, title: str) -> Clip:
    places = [name for name in read if probe and name in probe.positions]
    truth = {name: episode.factors[name].reshape(len(x), -1) for name, x in read.items()}  # [T+1, F]
    found = [
        gauge
        for name in read
        if probe and name not in places
        for gauge in gauges(name, probe.bounds(name), truth[name], read[name])
    ]
    return Clip(
        title=title,
        frames=episode.frames,
        truth={name: truth[name] for name in places},
        readout={name: read[name] for name in places},
        gauges=found,
        goal=None if episode.goal is None else episode.goal.frames[0],
        returns=np.concatenate([[0], np.cumsum(episode.rewards)]),
    )


def _row(folder: Path, card: Plain) -> str:
    """What the row of the comparison was called that a policy belongs to; elsewhere, what it sees."""
    seed, *above = folder.absolute().parents
    if seed.name.startswith("seed-"):
        return above[0].name
    [(kind, what)] = card["sees"].items()
    return Path(what).name if kind == "latents" else kind
