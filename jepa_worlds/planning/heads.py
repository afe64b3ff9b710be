"""Heads on frozen latents: how they are built and fitted, and where they are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from agents.heads.core import Head, Trajectories
from agents.world_models.core import WorldModel
from envs.arguments import require_whole
from jepa_worlds.models.checkpoint import load_tensors, save_tensors
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.build import build
from jepa_worlds.shared.files import read_json, write_json
from jepa_worlds.shared.seeding import random_state_kept


def sizes(model: WorldModel, card: dict[str, Any]) -> dict[str, Any]:
    """What the configuration of a head has to know of a run: ``${spec.…}`` in ``configs/head``."""
    goal = model.achieved_goal(torch.zeros(1, model.latent_dim, device=next(model.parameters()).device))
    return {**card["spec"], "latent_dim": model.latent_dim, "goal_dim": goal.shape[1]}


def new_head(config: dict[str, Any], seed: int, trust: Sequence[str] = ()) -> Head:
    """A head of a resolved configuration, with weights drawn from a seed; the global random state stays as it was.

    Raises:
        ValueError: a configuration of something else.
    """
    with random_state_kept(seed=seed):
        head = build(config, ("agents", *trust))
    if not isinstance(head, Head):
        raise ValueError(f"a head must be a class of agents.heads, got {config!r}")
    return head


def fit_head(
    head: Head,
    data: Trajectories,
    *,
    steps: int = 2000,
    batch_size: int = 512,
    lr: float = 1e-3,
    seed: int = 0,
    desc: str | None = None,
) -> dict[str, float]:
    """Fit a head with Adam, in place, and leave it in evaluation mode; its device becomes that of the data.

    The same seed gives the same weights, and the global random state is left alone.

    Args:
        head: what to fit.
        data: what it is fitted on.
        steps: of gradient descent. The learning rate goes to zero as a cosine.
        batch_size: steps of the trajectories that each takes, drawn with replacement.
        lr: learning rate of the first.
        seed: of all that is drawn.
        desc: of the progress bar; None for none.

    Returns:
        The terms of the loss, averaged over the last tenth of the steps.

    Raises:
        ValueError: a setting that is out of range, latents of another size, data without what the head needs, or a loss
            that is no longer finite.
    """
    require_whole(steps=steps, batch_size=batch_size)
    if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise ValueError(f"lr must be a positive number, got {lr!r}")
    if data.latents.shape[1] != head.latent_dim:
        raise ValueError(f"the head takes latents of {head.latent_dim} numbers, these have {data.latents.shape[1]}")
    device = data.latents.device
    generator = torch.Generator(device).manual_seed(seed)
    head.to(device).train().prepare(data)
    optimizer = torch.optim.Adam([x for x in head.parameters() if x.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    usable, kept = data.steps(), []
    for step in bar(range(steps), desc=desc, unit="step", disable=None if desc else True, leave=False):
        drawn = torch.randint(len(usable), (batch_size,), generator=generator, device=device)
        terms = head.loss(data, usable[drawn], generator)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        schedule.step()
        head.after_step()
        if step >= steps - max(1, steps // 10):
            kept.append({name: term.detach() for name, term in terms.items()})
    head.eval().requires_grad_(False)
    found = {name: float(torch.stack([terms[name] for terms in kept]).mean()) for name in kept[0]}
    if not all(math.isfinite(number) for number in found.values()):
        raise ValueError(f"the loss of the head is not finite: {found}; a lower lr usually helps")
    return found


def fitted_head(
    name: str,
    config: dict[str, Any],
    data: Callable[[Head], Trajectories],
    folder: Path,
    inputs: dict[str, Any],
    *,
    seed: int = 0,
    trust: Sequence[str] = (),
    **fitting: Any,
) -> Head:
    """The head of a configuration, fitted; taken from a folder if it is there, fitted on the same.

    Args:
        name: of its files, ``<name>.safetensors`` and ``<name>.json``.
        config: of the head, resolved.
        data: gives what a head is fitted on; not called if it is there already.
        folder: where it is kept.
        inputs: what tells the data, such as the hashes of the model's weights and of the dataset.
        seed: of its weights and of what is drawn in fitting.
        trust: packages beside `agents` whose classes may be used.
        fitting: see `fit_head`.

    Raises:
        ValueError: as `fit_head` says, or files that are damaged.
    """
    head, file, weights = new_head(config, seed, trust), folder / f"{name}.json", folder / f"{name}.safetensors"
    settings = {name: value for name, value in fitting.items() if name != "desc"}
    card = {"head": config, "inputs": inputs, "seed": seed, "fitting": settings}
    if file.is_file() and {key: x for key, x in read_json(file).items() if key != "loss"} == card:
        try:
            head.load_state_dict(load_tensors(weights))
        except RuntimeError as error:
            raise ValueError(f"{weights} does not fit {file.name}: remove both to fit the head again") from error
        return head.eval().requires_grad_(False)
    loss = fit_head(head, data(head), seed=seed, **fitting)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(head.state_dict(), weights)
    write_json(file, {**card, "loss": loss})
    return head
