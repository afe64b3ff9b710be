"""Training of world models: one loop for all of them, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents import diagnostics
from agents.objectives.core import Terms, weighted_sum
from agents.world_models.core import Batch, WorldModel
from envs.arguments import require_whole
from jepa_worlds.data.windows import Windows
from jepa_worlds.models.checkpoint import load_tensors, save_tensors
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.runs import MetricsLog
from jepa_worlds.shared.seeding import random_state_kept
from jepa_worlds.shared.signals import Stop

STATE = "training.safetensors"
DIAGNOSED = 256  # held-out windows on which a model is diagnosed
DIAGNOSTICS = ("r_within", "rankme", "action_sensitivity")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Raises:
        ValueError: a number that is out of range.
    """

    steps: int
    batch_size: int
    seed: int
    warmup: float
    clip: float
    log_every: int
    diagnose_every: int
    save_every: int

    def __post_init__(self) -> None:
        require_whole(0, steps=self.steps, seed=self.seed)
        require_whole(2, batch_size=self.batch_size)
        require_whole(log_every=self.log_every, diagnose_every=self.diagnose_every, save_every=self.save_every)
        if not (isinstance(self.warmup, (int, float)) and 0 <= self.warmup < 1):
            raise ValueError(f"warmup is a share of the steps, in [0, 1), got {self.warmup!r}")
        if not (isinstance(self.clip, (int, float)) and self.clip > 0):
            raise ValueError(f"clip must be a positive number (inf for none), got {self.clip!r}")

    @classmethod
    def of(cls, settings: Mapping[Any, Any]) -> Schedule:
        """The schedule of a configuration; what it lacks is None.

        Raises:
            ValueError: a value that is out of range.
        """
        wanted: dict[str, Any] = {field.name: settings.get(field.name) for field in fields(cls)}
        return cls(**wanted)

    def factor(self, step: int) -> float:
        """The learning rate at a step as a share of its peak: linear warm-up, then cosine to a thousandth."""
        warmup = self.warmup * self.steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1.0, self.steps - warmup)
        return 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * progress))


class Trainer:
    """A model, its optimiser and how far they have come.

    Args:
        model: the model, on its device.
        weights: of the loss terms.
        optimizer: over the model's parameters; its learning rates are the peaks of the schedule.
        schedule: how long and how fast.
        bf16: compute in bfloat16 where autocast deems it safe.
        compiled: compile the loss (seconds to minutes at the first step; faster ones after).
    """

    def __init__(
        self,
        model: WorldModel,
        weights: dict[str, float],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        bf16: bool = False,
        compiled: bool = False,
    ) -> None:
        self.model, self.weights, self.optimizer, self.schedule = model, weights, optimizer, schedule
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.device = next(model.parameters()).device
        self.bf16 = bf16
        if compiled:
            torch._dynamo.reset()  # it counts what it has compiled for other models, and then refuses
        self.loss: Callable[[Batch], Terms] = torch.compile(model.loss) if compiled else model.loss
        self.step = 0
        self.healthy = torch.ones((), dtype=torch.bool, device=self.device)

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of gradient descent; returns the loss terms, the loss and the norm of its gradient."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.schedule.factor(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            terms = self.loss(batch)
        loss = weighted_sum(terms, self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self.healthy &= torch.isfinite(norm) & torch.isfinite(loss)
        self.optimizer.step()
        self.model.after_step()
        self.step += 1
        return {**{name: term.detach() for name, term in terms.items()}, "loss": loss.detach(), "gradient": norm}

    def fit(
        self,
        train: Windows,
        held_out: Windows,
        run: Path,
        probe: Callable[[], dict[str, float]] | None,
        report: Callable[[float], object] = lambda steps: None,
    ) -> None:
        """Train to the last step of the schedule, from wherever the run was left.

        Args:
            train: windows to learn from.
            held_out: windows to diagnose on.
            run: folder for the state and the metrics.
            probe: numbers to log beside the diagnostics; None for none.
            report: called with the number of steps that are done since the last call.

        Raises:
            ValueError: the loss or its gradient is no longer finite; the last good state is kept.
            KeyboardInterrupt, SystemExit: after Ctrl-C and SIGTERM, with the state saved.
        """
        schedule = self.schedule
        self.resume(run / STATE)
        report(self.step)
        progress = bar(total=schedule.steps, initial=self.step, unit="step", desc=f"train {run}", smoothing=0.05)
        with MetricsLog(run, self.step) as log, Stop() as stop, progress:
            started, frames = time.perf_counter(), 0
            while self.step < schedule.steps:
                batch = train.batch(self.step, schedule.batch_size, schedule.seed)
                numbers = self.train_step(batch)
                frames += batch["frames"].shape[0] * batch["frames"].shape[1]
                progress.update()
                report(1)
                if self._due(schedule.log_every):
                    self._check(run)
                    row = {f"train/{name}": float(f"{float(number):.6g}") for name, number in numbers.items()}
                    rate = frames / (time.perf_counter() - started)
                    log.write(self.step, **row, lr=self.optimizer.param_groups[0]["lr"], frames_per_second=round(rate))
                    progress.set_postfix({"loss": f"{row['train/loss']:.3g}", "frames/s": f"{rate:.0f}"}, refresh=False)
                if self._due(schedule.diagnose_every):
                    self._check(run)
                    found = diagnose(self.model, held_out, schedule.batch_size) | (probe() if probe else {})
                    log.write(self.step, **{f"held_out/{name}": number for name, number in found.items()})
                    self.model.train()
                if self._due(schedule.save_every) or stop.requested:
                    self._check(run)
                    self.save(run / STATE)
                    stop.leave_if_requested(f"stopped at step {self.step}; run the same command again to go on")

    def save(self, file: Path) -> None:
        """Write weights, optimiser, random state and step, atomically."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        tensors["step"] = torch.tensor(self.step)
        save_tensors(tensors, file)

    def resume(self, file: Path) -> None:
        """Take up the state in a file, if there is one.

        Raises:
            ValueError: the file is damaged, or the state of something else.
        """
        if not file.is_file():
            return
        try:
            self._take_up(load_tensors(file))
        except (ValueError, LookupError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(" .")
            raise ValueError(f"cannot go on from {file}: {reason}. Remove it to train from the beginning") from error

    def _take_up(self, tensors: dict[str, Tensor]) -> None:
        self.step = int(tensors.pop("step"))
        torch.set_rng_state(tensors.pop("random"))
        if "random.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                like = parameters[int(number)]
                if tensor.shape == like.shape:  # in the parameter's memory layout, on which fused optimisers rely
                    tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
                state.setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        prefix = "model."
        self.model.load_state_dict({n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)})

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.schedule.steps

    def _check(self, run: Path) -> None:
        finite = [torch.isfinite(tensor).all() for tensor in self.model.state_dict().values()]
        if not (self.healthy & torch.stack(finite).all()):
            kept = f"; the last good state is kept in {run / STATE}" if (run / STATE).is_file() else ""
            raise ValueError(
                f"the loss, its gradient or the weights are not finite at step {self.step} or just before{kept}. A "
                f"lower optimizer.lr or clip usually helps"
            )


@torch.no_grad()
def diagnose(model: WorldModel, windows: Windows, batch_size: int) -> dict[str, float]:
    """Loss terms, r_within, RankMe and action sensitivity of a model on (at most 256) windows.

    Loss terms are averaged over batches of the training batch's size, because statistics over a batch depend on it.
    The global random state stays as it was.

    Raises:
        ValueError: fewer than 2 windows, or a model that has diverged.
    """
    count = min(DIAGNOSED, len(windows))
    if count < 2:
        raise ValueError(f"at least 2 held-out windows are needed for diagnostics, got {count}: collect more episodes")
    model.eval()
    device, first = next(model.parameters()).device, model.context - 1
    batch = {name: x.to(device) for name, x in windows.batch(0, count, seed=0).items()}
    with random_state_kept(device):
        terms = diagnostics.mean_terms(model.loss, batch, batch_size)
        latents = model.encode(batch["frames"], batch["actions"]).float()[:, first:]
    if not (torch.isfinite(latents).all() and all(math.isfinite(number) for number in terms.values())):
        raise ValueError(
            "the model's latents or losses on held-out windows are not finite: it has diverged, or its weights are "
            "damaged. Train again; a lower optimizer.lr or clip usually helps"
        )
    return {
        **terms,
        "r_within": float(diagnostics.r_within(latents)),
        "rankme": float(diagnostics.rankme(latents)),
        "action_sensitivity": float(diagnostics.action_sensitivity(model, latents, batch["actions"][:, first:])),
    }
