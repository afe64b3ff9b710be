"""The latents of a dataset's episodes, which heads are fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.actions import vectors
from agents.heads.core import Trajectories
from agents.world_models.core import WorldModel
from envs.arguments import require_whole
from jepa_worlds.data.dataset import Dataset, Shard, Split
from jepa_worlds.shared.bars import bar

FRAMES = 1024  # encoded at a time


class Piece(NamedTuple):
    """Episodes of one length, or parts of them: [B, T, D], [B, T−1, A], [B, T−1]."""

    latents: Tensor
    actions: Tensor
    rewards: Tensor


@torch.no_grad()
def trajectories(
    model: WorldModel,
    dataset: Dataset,
    split: Split = "train",
    limit: int = 200_000,
    imagined: int = 0,
    desc: str | None = None,
) -> Trajectories:
    """The latents of episodes, with actions, rewards and the goals that they would be, on the model's device.

    Latents that are made of fewer than the model's K frames are left out, and episodes with none but one other.

    Args:
        model: the frozen model.
        dataset: one that fits it.
        split: which episodes.
        limit: the first of them, with at most this many frames together; at least one episode.
        imagined: steps for which latents are predicted from an encoded one, in pieces of episodes; 0: all are encoded.
        desc: of the progress bar; None for none.

    Raises:
        ValueError: no episode is longer than K frames, latents are not finite, or a negative number of steps.
    """
    require_whole(0, imagined=imagined)
    device, first = next(model.parameters()).device, model.context - 1
    model.eval()
    latents: list[Tensor] = []
    columns: dict[str, list[Tensor]] = {"actions": [], "rewards": [], "length": []}
    chosen = list(_chosen(dataset.shards(split), first + 2, limit))
    for shard, some in bar(chosen, desc=desc, unit="batch", disable=None if desc else True, leave=False):
        batch = _batch(shard, some, dataset.manifest["action"])
        found = model.encode(*(batch[name].to(device) for name in ("frames", "actions"))).float()[:, first:]
        whole = Piece(found, *(batch[name][:, first:].to(device) for name in ("actions", "rewards")))
        for piece in _imagined(model, whole, imagined) if imagined else [whole]:
            latents.append(piece.latents.flatten(0, 1))
            for name in ("actions", "rewards"):  # a row for every frame: the one after the last step means nothing
                rows = getattr(piece, name)
                columns[name].append(torch.cat([rows, torch.zeros_like(rows[:, :1])], dim=1).flatten(0, 1))
            columns["length"].append(torch.full(piece.latents.shape[:1], piece.latents.shape[1]))
    if not chosen:
        raise ValueError(
            f"dataset {str(dataset.path)!r} has no {split} episode of at least {first + 2} frames, and the model makes "
            f"a latent of {model.context}: collect longer episodes"
        )
    joined = torch.cat(latents)
    if not joined.isfinite().all():
        raise ValueError("the model's latents are not finite: its weights are damaged, or it diverged. Train it again")
    length = torch.cat(columns["length"])
    last = torch.repeat_interleave(length.cumsum(dim=0) - 1, length)
    actions, rewards = (torch.cat(columns[name]) for name in ("actions", "rewards"))
    return Trajectories(joined, actions, last.to(device), rewards, model.achieved_goal(joined))


def _imagined(model: WorldModel, whole: Piece, steps: int) -> Iterator[Piece]:
    """Rollouts of so many steps from every steps-th latent, and shorter ones to the end of the episodes."""
    cuts, rest = divmod(whole.actions.shape[1], steps)
    for part, count, length in ((slice(cuts * steps), cuts, steps), (slice(cuts * steps, None), 1, rest)):
        if count and length:
            actions, rewards = (x[:, part].unflatten(1, (count, length)).flatten(0, 1) for x in whole[1:])
            first = whole.latents[:, :-1][:, part][:, ::length].flatten(0, 1)[:, None]  # [B·count, 1, D]
            yield Piece(torch.cat([first, model.predict(first, actions).float()], dim=1), actions, rewards)


def _chosen(shards: Sequence[Shard], shortest: int, limit: int) -> Iterator[tuple[Shard, NDArray[np.int64]]]:
    """The first episodes of at least ``shortest`` frames, with at most ``limit`` frames together, in batches.

    The episodes of a batch, given by their numbers in a shard, are of the same length.
    """
    room = limit
    for shard in shards:
        frames = shard.lengths + 1
        long_enough = np.flatnonzero(frames >= shortest)
        fit = np.cumsum(frames[long_enough]) <= room
        if room == limit:
            fit[:1] = True
        taken = long_enough[fit]
        room -= int(frames[taken].sum())
        for length in np.unique(frames[taken]):
            same = taken[frames[taken] == length]
            for part in np.array_split(same, -(-len(same) * length // FRAMES)):
                if len(part):
                    yield shard, part
        if not fit.all():
            return


def _batch(shard: Shard, episodes: NDArray[np.int64], space: dict[str, Any]) -> dict[str, Tensor]:
    """Whole episodes of one length: frames [B, T, C, H, W], actions [B, T−1, A], rewards [B, T−1]."""
    steps = int(shard.lengths[episodes[0]])
    frame = shard.first_frame[episodes, None] + np.arange(steps + 1)
    step = shard.first_step[episodes, None] + np.arange(steps)
    columns = shard.columns
    return {
        "frames": torch.from_numpy(columns["frames"][frame]).permute(0, 1, 4, 2, 3),
        "actions": vectors(torch.from_numpy(columns["actions"][step]), space),
        "rewards": torch.from_numpy(columns["rewards"][step]).float(),
    }
