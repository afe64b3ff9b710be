"""Probing of frozen models: features, scores, floors and intervals.

Readouts are fitted on train episodes, their settings chosen on validation episodes, and scored on test episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from agents.probes.core import Probe, Samples, r2, rmse
from agents.probes.ridge import Ridge
from agents.world_models.core import WorldModel
from jepa_worlds.data.dataset import SPLITS, Split
from jepa_worlds.data.windows import Windows
from jepa_worlds.shared.bars import bar

FLOORS = ("chance", "pixels", "untrained")
PIXELS = 1024  # at most this many numbers go into the pixel floor, of all frames of a latent; larger ones are shrunk
ENCODED = 256  # windows encoded at a time
RESAMPLES = 1000  # of the bootstrap

BySplit = dict[Split, Tensor]


@dataclass(frozen=True)
class Features:
    """What a model makes of N windows of one split, on the CPU.

    Step 0 is the first whose latent is made of frames in the window alone: frame K−1 for a model that sees K at a time.

    Attributes:
        latents: [N, T, D], encoded from every frame.
        rollouts: [N, T, D], predicted open-loop from the first latent under the actions taken; step 0 is that latent.
        factors: {name: [N, T, F]}.
        windows: [N], their numbers among all windows of the split.
    """

    latents: Tensor
    rollouts: Tensor
    factors: dict[str, Tensor]
    windows: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """How well a probe reads a factor from features, on the test split.

    Attributes:
        rmse: √(mean ‖truth − readout‖²) in the units of the factor.
        rmse_ci95: 95 % bootstrap interval of it over episodes.
        per_step: the same error at each step, [T].
        r2: share of the factor's variance that is explained.
        r2_per_component: the same of each of its numbers, [F]; None for one that never changes in the test split.
        predictions: [N, T, F], the readouts.
        validation_rmse: on the split by which the probe was chosen; to choose other things by, not to report.
    """

    rmse: float
    rmse_ci95: tuple[float, float]
    per_step: list[float]
    r2: float
    r2_per_component: list[float | None]
    predictions: Tensor
    validation_rmse: float


@torch.inference_mode()
def features(model: WorldModel, windows: Windows, limit: int, desc: str | None = None) -> Features:
    """What a model makes of at most ``limit`` windows.

    Raises:
        ValueError: the model's latents are not finite.
    """
    device, first = next(model.parameters()).device, model.context - 1
    model.eval()
    chosen = np.sort(np.random.default_rng(0).permutation(len(windows))[:limit])
    latents, rollouts, factors = [], [], []
    parts = np.array_split(chosen, -(-len(chosen) // ENCODED))
    for part in bar(parts, desc=desc, unit="batch", disable=None if desc else True, leave=False):
        batch = {name: x.to(device) for name, x in windows.take(part).items()}
        latent = model.encode(batch["frames"], batch["actions"]).float()[:, first:]
        future = model.predict(latent[:, :1], batch["actions"][:, first:]).float()
        latents.append(latent.cpu())
        rollouts.append(torch.cat([latent[:, :1], future], dim=1).cpu())
        factors.append(
            {n.removeprefix("factors."): x[:, first:].cpu() for n, x in batch.items() if n.startswith("factors.")}
        )
    if not all(torch.isfinite(part).all() for part in (*latents, *rollouts)):
        raise ValueError("the model's latents are not finite: its weights are damaged, or it diverged. Train it again")
    joined = {name: torch.cat([part[name] for part in factors]) for name in factors[0]}
    return Features(torch.cat(latents), torch.cat(rollouts), joined, chosen)


def pixels(windows: Windows, numbers: NDArray[np.int64], context: int) -> Tensor:
    """The frames themselves that latents of some windows are made of, K = ``context`` at a time: [N, T−K+1, P·K].

    They are shrunk to at most 1024 numbers in all, as they would be if the environment stacked them.
    """
    found = []
    for part in np.array_split(numbers, -(-len(numbers) // ENCODED)):
        small = _shrunk(windows.take(part)["frames"], PIXELS // context)
        found.append(small.unfold(1, context, 1).flatten(2).cpu())  # [N, T−K+1, P, K] -> [N, T−K+1, P·K]
    return torch.cat(found)


def scores(
    unfitted: Callable[[], Probe],
    splits: BySplit,
    factors: dict[str, BySplit],
    episodes: NDArray[np.int64] | None = None,
) -> dict[str, Score]:
    """The score of a probe of every factor: fitted on train, chosen on validation, scored on test.

    Args:
        unfitted: makes a probe; one alone where probes fit by column.
        splits: {split: [N, T, D]}, the features.
        factors: {name: {split: [N, T, F]}}.
        episodes: [N], which episode each test window is from; None if each is from one of its own.
    """
    together = factors and unfitted().by_column
    found: dict[str, Score] = {}
    for names in [list(factors)] if together else [[name] for name in factors]:
        some = {split: torch.cat([factors[name][split] for name in names], dim=-1) for split in SPLITS}
        read, widths = _read(unfitted(), splits, some), [factors[name]["test"].shape[-1] for name in names]
        for name, validation, test in zip(names, *(read[s].split(widths, dim=-1) for s in SPLITS[1:]), strict=True):
            found[name] = _scored({"validation": validation, "test": test}, factors[name], episodes)
    return found


def _read(probe: Probe, splits: BySplit, factors: BySplit) -> BySplit:
    """What a probe, fitted on train, says of validation and test: {split: [N, T, F]}."""
    samples = {split: Samples(splits[split].flatten(0, 1), factors[split].flatten(0, 1)) for split in SPLITS}
    probe.fit(samples["train"], samples["validation"])
    return {s: probe.predict(samples[s].features).unflatten(0, factors[s].shape[:2]) for s in SPLITS[1:]}


def _scored(read: BySplit, factors: BySplit, episodes: NDArray[np.int64] | None) -> Score:
    predictions, truth = read["test"], factors["test"]
    return Score(
        float(rmse(predictions, truth)),
        interval(predictions, truth, episodes),
        [float(rmse(predictions[:, t], truth[:, t])) for t in range(truth.shape[1])],
        float(r2(predictions, truth)),
        [_r2(predictions[..., i : i + 1], truth[..., i : i + 1]) for i in range(truth.shape[-1])],
        predictions,
        float(rmse(read["validation"], factors["validation"])),
    )


@torch.no_grad()
def quick_probe(model: WorldModel, train: Windows, held_out: Windows) -> dict[str, float]:
    """Ridge probes of every factor on a few windows: good enough to watch a run, not to report.

    Fitted on some training windows, the penalty chosen on others, and scored on held-out ones.
    """
    seen, unseen = features(model, train, limit=768), features(model, held_out, limit=256)
    halves: dict[str, BySplit] = {
        name: {"train": values[::2], "validation": values[1::2], "test": unseen.factors[name]}
        for name, values in seen.factors.items()
    }
    changing = {name: factors for name, factors in halves.items() if not constant(factors)}
    found: dict[str, float] = {}
    for view in ("rollouts", "latents"):
        known = getattr(seen, view)
        splits: BySplit = {"train": known[::2], "validation": known[1::2], "test": getattr(unseen, view)}
        for name, result in scores(Ridge, splits, changing).items():
            found |= {f"{name}/{view}_rmse": result.rmse, f"{name}/{view}_r2": result.r2}
    return found


def interval(predictions: Tensor, truth: Tensor, episodes: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """95 % bootstrap interval of the RMSE, resampling whole episodes: [N, T, F], [N, T, F], [N]."""
    errors = (predictions - truth).square().sum(dim=-1).mean(dim=1).numpy()  # [N]
    _, group = np.unique(np.arange(len(errors)) if episodes is None else episodes, return_inverse=True)
    windows, total = np.bincount(group), np.bincount(group, weights=errors)  # of each episode
    drawn = np.random.default_rng(0).integers(len(total), size=(RESAMPLES, len(total)))
    low, high = np.sqrt(np.percentile(total[drawn].sum(axis=1) / windows[drawn].sum(axis=1), [2.5, 97.5]))
    return float(low), float(high)


def chance(factors: BySplit) -> float:
    """The RMSE of always answering the mean of the training episodes."""
    mean = factors["train"].flatten(0, 1).mean(dim=0)
    return float(rmse(mean.expand_as(factors["test"]), factors["test"]))


def constant(factors: BySplit) -> bool:
    """Whether a factor never changes within some split, so that there is nothing to fit, to choose by or to score."""
    return any(bool((factor == factor[0, 0]).all()) for factor in factors.values())


def _r2(predictions: Tensor, truth: Tensor) -> float | None:
    return float(r2(predictions, truth)) if bool((truth != truth[0, 0]).any()) else None


def _shrunk(frames: Tensor, most: int) -> Tensor:
    """Frames as vectors, [B, T, C, H, W] -> [B, T, P], averaged over squares to at most ``most`` numbers."""
    b, t, c, h, w = frames.shape
    factor = 1
    while c * (h // factor) * (w // factor) > max(most, c):
        factor += 1
    small = F.adaptive_avg_pool2d(frames.flatten(0, 1).float(), (h // factor, w // factor))  # [B·T, C, H/f, W/f]
    return small.flatten(1).unflatten(0, (b, t)) / 255
