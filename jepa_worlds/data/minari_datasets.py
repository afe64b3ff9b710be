"""Datasets as those of Minari (https://minari.farama.org), and back: what was ours comes back as it was."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.actions import space_of
from jepa_worlds.data.dataset import SPLITS, Dataset
from jepa_worlds.data.importing import Episode, imported, write_episodes
from jepa_worlds.data.sharding import split_episodes
from jepa_worlds.shared.bars import bar
from jepa_worlds.shared.files import Plain

MANIFEST = "jepa_worlds"  # key of the metadata where it is kept
UNFINISHED = "unfinished"  # what is there until then
WRITTEN_ANEW = ("complete", "statistics", "coverage", "content_hash", "shards")  # keys of a manifest
STEPS = ("actions", "rewards", "terminations", "truncations")
BATCH = 256  # episodes handed over together
INSTALL = 'Minari is not installed: pip install -e ".[minari]"'


def export_minari(data: Path, name: str, **about: str | None) -> Path:
    """Write a dataset, and its manifest, into Minari's local store; returns the folder.

    Args:
        data: the dataset.
        name: in Minari, such as ``jepa_worlds/moving_dot/static-v0``.
        about: what Minari's ``create_dataset_from_buffers`` takes, such as ``author`` and ``code_permalink``.

    Observations are frames, ``infos["factors"]`` the factors. Nothing is compressed; Minari alone would keep frames of
    32 px and more as JPEG, which loses something.

    Raises:
        FileNotFoundError: there is no dataset.
        ValueError: a name that Minari does not take, or that is taken; or Minari is not installed.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.storage.datasets_root_dir import get_dataset_path
    except ImportError as error:
        raise ValueError(INSTALL) from error
    dataset = Dataset(data)
    manifest, batches, folder = dataset.manifest, _batches(dataset), Path(get_dataset_path(name))
    if folder.exists():
        raise ValueError(f"Minari already has a dataset {name!r}, in {str(folder)!r}: choose another name")
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it wants to be told more
            made = minari.create_dataset_from_buffers(
                name,
                [EpisodeBuffer(**episode) for episode in next(batches)],
                observation_space=spaces.Box(0, 255, manifest["frame_shape"], np.uint8),
                action_space=space_of(manifest["action"]),
                jpeg_encoding=False,
                **about | {"description": about.get("description") or f"{manifest['env']['id']}, frames"},
            )
        made.storage.update_metadata({MANIFEST: UNFINISHED})
        with bar(total=manifest["episodes"], initial=len(made), unit="episode", desc=f"export {name}") as progress:
            for batch in batches:
                made.update_dataset_from_buffer([EpisodeBuffer(**episode) for episode in batch])
                progress.update(len(batch))
        made.storage.update_metadata({MANIFEST: json.dumps(manifest)})
    except BaseException:  # half a dataset would pass for a whole one
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Path(made.storage.data_path)


def import_minari(
    name: str,
    out: Path,
    frames: str | None = None,
    factors: Sequence[str] | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    download: bool = False,
) -> Dataset:
    """Write a dataset of Minari as one of ours; what `export_minari` wrote becomes what it was, splits included.

    Args:
        name: of Minari's dataset.
        out: the folder.
        frames: the observation that is the image, such as ``camera.front``; None: the only one that is an image.
        factors: the observations that are factors; None: all that are vectors of floats, and what ``infos`` has as
            factors.
        validation, test: shares of the episodes, the last ones, that are held out.
        download: whether to download what is not there.

    Raises:
        FileNotFoundError: there is no such dataset.
        ValueError: no images, a folder that holds something else; or Minari is not installed.
    """
    try:
        import minari
    except ImportError as error:
        raise ValueError(INSTALL) from error
    found = minari.load_dataset(name, download=download)
    count, ours = int(found.total_episodes), found.storage.metadata.get(MANIFEST)
    if ours == UNFINISHED:
        raise ValueError(f"the export of {name!r} was interrupted: `minari delete {name}`, and export it again")
    manifest: Plain = json.loads(ours) if ours else {}
    if manifest.get("episodes") == count:
        header = {key: value for key, value in manifest.items() if key not in WRITTEN_ANEW}
        return write_episodes(Exported(found, list(manifest["factors"])), out, found.action_space, header)
    episodes = Foreign(found, frames, factors)
    header = imported(name, episodes[0].columns) | {"splits": split_episodes(count, validation, test)}
    header["behaviour"] |= {"frames": episodes.frames}
    return write_episodes(episodes, out, found.action_space, header)


class Exported(Sequence[Episode]):
    """The episodes of what `export_minari` wrote, with these factors."""

    def __init__(self, dataset: Any, factors: Sequence[str]) -> None:
        self.dataset, self.factors = dataset, factors

    def __len__(self) -> int:
        return int(self.dataset.total_episodes)

    def __getitem__(self, number: Any) -> Any:
        episode = self.dataset[number]
        factors = {name: episode.infos["factors"][name] for name in self.factors}
        return _episode(episode, episode.observations, factors)


class Foreign(Sequence[Episode]):
    """The episodes of any dataset of Minari's whose observations hold an image.

    Raises:
        ValueError: they hold none, or several and it is not said which; or there is no such observation.
    """

    def __init__(self, dataset: Any, frames: str | None, factors: Sequence[str] | None) -> None:
        self.dataset = dataset
        known = dict(_leaves(dataset.observation_space))
        images = [key for key, space in known.items() if _is_image(space)]
        if frames is None and len(images) != 1:
            raise ValueError(f"one observation must be an image, found {images} among {list(known)}: say frames=…")
        self.frames = images[0] if frames is None else frames
        numbers = {key: x for key, x in known.items() if isinstance(x, spaces.Box) and x.dtype.kind == "f"}
        vectors = [key for key, x in numbers.items() if len(x.shape) == 1]
        self.factors = vectors if factors is None else list(factors)
        self.told = list((dataset[0].infos or {}).get("factors", {})) if factors is None else []
        if unknown := sorted({self.frames, *self.factors} - known.keys()):
            raise ValueError(f"there are no observations {unknown}; there are {list(known)}")
        if self.frames not in images:
            raise ValueError(f"{self.frames!r} is no image, which is uint8 of 2 or 3 axes, but {known[self.frames]}")

    def __len__(self) -> int:
        return int(self.dataset.total_episodes)

    def __getitem__(self, number: Any) -> Any:
        episode = self.dataset[number]
        factors = {key: np.asarray(_at(episode.observations, key)) for key in self.factors}
        factors |= {name: episode.infos["factors"][name] for name in self.told}
        return _episode(episode, _channels_last(np.asarray(_at(episode.observations, self.frames))), factors)


def _batches(dataset: Dataset) -> Iterator[list[Plain]]:
    """Episodes in their order, as arguments of Minari's ``EpisodeBuffer``."""
    for split in SPLITS:
        first, end = dataset.manifest["splits"][split]
        for shard in dataset.shards(split) if end > first else []:
            made = []
            for length, frame, step in zip(shard.lengths, shard.first_frame, shard.first_step, strict=True):
                at_frames, at_steps = slice(frame, frame + length + 1), slice(step, step + length)
                factors = {name: shard.columns[f"factors.{name}"][at_frames] for name in dataset.factors}
                steps = {name: shard.columns[name][at_steps] for name in STEPS}
                made.append(
                    {"observations": shard.columns["frames"][at_frames], "infos": {"factors": factors}, **steps}
                )
            yield from (made[start : start + BATCH] for start in range(0, len(made), BATCH))


def _episode(episode: Any, frames: NDArray, factors: dict[str, NDArray]) -> Episode:
    return Episode(frames, factors=factors, **{name: getattr(episode, name) for name in STEPS})


def _leaves(space: gymnasium.Space, prefix: str = "") -> Iterator[tuple[str, gymnasium.Space]]:
    """Spaces that are no Dict, by their keys with dots between; that of the whole is ``observation``."""
    if not isinstance(space, spaces.Dict):
        yield prefix or "observation", space
        return
    for key, inner in space.spaces.items():
        yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)


def _at(observations: Any, key: str) -> Any:
    if isinstance(observations, dict):
        for part in key.split("."):
            observations = observations[part]
    return observations


def _is_image(space: gymnasium.Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _channels_last(frames: NDArray) -> NDArray:
    """[T, H, W], [T, C, H, W] or [T, H, W, C] -> [T, H, W, C]."""
    if frames.ndim == 3:
        return frames[..., None]
    first, last = frames.shape[1], frames.shape[3]
    return np.moveaxis(frames, 1, -1) if first < last and last not in (1, 3, 4) else frames
