"""Windows of consecutive frames, a whole batch at a time, straight from the memory map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.actions import vectors
from jepa_worlds.data.dataset import SPLITS, Dataset, Shard, Split

Batch = dict[str, Tensor]


class Windows:
    """All windows of T frames in a split: every episode at every offset.

    A batch holds ``frames`` uint8 [B, T, C, H, W] (channels last in memory), ``actions`` float [B, T−1, A] (see
    `agents.actions.vectors`) and ``factors.<name>`` [B, T, F], whatever the shapes of an action and of a factor are.
    ``episode`` says which episode of the split each window is from.

    Args:
        dataset: where they come from.
        split: which episodes.
        length: T.
        device: where batches go.
        resident: keep all frames of the split on the device and cut windows there, instead of copying each batch from
            the memory map.
        stride: offset between windows of an episode; ``length`` gives windows that do not overlap.

    Raises:
        ValueError: a length below 2, or above what any episode of the split has; a stride below 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        length: int,
        device: torch.device | str = "cpu",
        resident: bool = False,
        stride: int = 1,
    ) -> None:
        if not isinstance(length, int) or length < 2:
            raise ValueError(f"a window needs at least 2 frames, got {length!r}")
        if stride < 1:
            raise ValueError(f"the stride between windows must be at least 1, got {stride!r}")
        shards = dataset.shards(split)
        self.length, self.device = length, torch.device(device)
        self._space = dataset.manifest["action"]
        self._frames: list[NDArray[np.uint8]] = [shard.columns["frames"] for shard in shards]
        self._shard, self._frame, self._step, self.episode = _starts(shards, length, stride)
        if not len(self._shard):
            longest = max(int(shard.lengths.max()) for shard in shards) + 1
            raise ValueError(
                f"windows of {length} frames do not fit dataset {str(dataset.path)!r}: its longest {split} episode has "
                f"{longest}; set window={longest} or less, or collect longer episodes"
            )
        frames_before = np.cumsum([0] + [len(frames) for frames in self._frames])
        steps_before = np.cumsum([0] + [len(shard.columns["actions"]) for shard in shards])
        # Which windows and rows are taken is told where the frames are: a GPU that has them is never waited for.
        self._here = self.device if resident else torch.device("cpu")
        self._row = torch.from_numpy(self._frame + frames_before[self._shard]).to(self._here)  # of the first frame
        self._action = torch.from_numpy(self._step + steps_before[self._shard]).to(self._here)
        self._ahead = torch.arange(length, device=self._here)
        self._columns = {
            name: _single(np.concatenate([shard.columns[name] for shard in shards])).to(self.device)
            for name in ("actions", *(f"factors.{factor}" for factor in dataset.factors))
        }
        self._resident = self._on_device() if resident else None
        self._drawn: tuple[int, int] | None = None  # (seed, epoch) of the permutation that is kept
        self._permutation = torch.empty(0, dtype=torch.int64)

    def _on_device(self) -> Tensor:
        """All frames; shard by shard, so that no more than one of them is in memory beside the device's."""
        shape = (sum(map(len, self._frames)), *self._frames[0].shape[1:])
        found, first = torch.empty(shape, dtype=torch.uint8, device=self.device), 0
        for frames in self._frames:
            found[first : first + len(frames)] = torch.from_numpy(np.array(frames))
            first += len(frames)
        return found

    def __len__(self) -> int:
        """The number of windows."""
        return len(self._shard)

    def batch(self, step: int, size: int, seed: int, rank: int = 0, ranks: int = 1) -> Batch:
        """The batch of a training step: a function of (seed, step), whatever was asked before.

        Every epoch goes through all windows once, in an order of its own; ranks take disjoint parts.

        Raises:
            ValueError: a rank that is not one of the ranks.
        """
        if not 0 <= rank < ranks:
            raise ValueError(f"rank must be from 0 to {ranks - 1}, below ranks={ranks}; got {rank!r}")
        first, chosen = (step * ranks + rank) * size, list[Tensor]()
        while size:
            epoch, offset = divmod(first, len(self))
            chosen.append(self._order(seed, epoch)[offset : offset + size])
            first, size = first + len(chosen[-1]), size - len(chosen[-1])
        return self.take(torch.cat(chosen))

    def take(self, windows: Tensor | NDArray[np.int64]) -> Batch:
        """The windows of given numbers, as a batch."""
        windows = torch.as_tensor(windows, device=self._here)
        rows = (self._row[windows, None] + self._ahead).to(self.device)  # [B, T]
        steps = (self._action[windows, None] + self._ahead[:-1]).to(self.device)
        batch = {name: x[rows].reshape(*rows.shape, -1) for name, x in self._columns.items() if name != "actions"}
        batch["actions"] = vectors(self._columns["actions"][steps], self._space)
        frames = self._resident[rows] if self._resident is not None else self._copied(windows.numpy())
        batch["frames"] = frames.permute(0, 1, 4, 2, 3)  # [B, T, H, W, C] -> [B, T, C, H, W]
        return batch

    def _copied(self, windows: NDArray[np.int64]) -> Tensor:
        shape = (len(windows), self.length, *self._frames[0].shape[1:])
        found = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        out = found.numpy()
        for i, (shard, frame) in enumerate(zip(self._shard[windows], self._frame[windows], strict=True)):
            out[i] = self._frames[shard][frame : frame + self.length]
        return found.to(self.device, non_blocking=True)

    def _order(self, seed: int, epoch: int) -> Tensor:
        if self._drawn != (seed, epoch):
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            self._drawn, self._permutation = (seed, epoch), torch.from_numpy(order).to(self._here)
        return self._permutation


def _starts(
    shards: list[Shard], length: int, stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Shard, row of the first frame, row of the first action and episode (in the split) of every window."""
    found: list[NDArray[np.int64]] = []
    episodes = 0
    for number, shard in enumerate(shards):
        count = np.maximum((shard.lengths + 1 - length) // stride + 1, 0)  # windows of each episode
        offset = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)) * stride
        columns = [np.repeat(first, count) + offset for first in (shard.first_frame, shard.first_step)]
        episode = np.repeat(np.arange(len(count)), count) + episodes
        found.append(np.stack([np.full(len(offset), number), *columns, episode]))
        episodes += len(count)
    shard_of, frame, step, episode = np.concatenate(found, axis=1)
    return shard_of, frame, step, episode


def _single(column: NDArray) -> Tensor:
    """A column whose numbers have at most single precision, as models compute and every device has it."""
    return torch.from_numpy(column.astype(np.float32) if column.dtype == np.float64 else column)


def split_windows(dataset: Dataset, length: int) -> dict[Split, Windows]:
    """The windows of every split, not overlapping.

    Raises:
        ValueError: a split has fewer than 2, or its episodes are shorter than a window.
    """
    windows = {split: Windows(dataset, split, length, stride=length) for split in SPLITS}
    require_two(dataset, windows)
    return windows


def require_two(dataset: Dataset, windows: dict[Split, Windows]) -> None:
    """Refuse splits that are too small for any statistics.

    Raises:
        ValueError: a split has fewer than 2 windows.
    """
    for split, some in windows.items():
        if len(some) < 2:
            raise ValueError(
                f"dataset {str(dataset.path)!r} has {len(some)} {split} window of {some.length} frames, and at least 2 "
                f"are needed: collect more episodes"
            )


def require_room(context: int, length: int) -> None:
    """Refuse windows in which a model has nothing to predict.

    Raises:
        ValueError: a window is not longer than what one latent is made of.
    """
    if isinstance(length, int) and 2 <= length <= context:
        raise ValueError(
            f"a window needs more frames than the {context} that a latent is made of (model.frames), got {length}"
        )
