"""Downstream policies in folders: what they see, where they act, and how they are kept.

A folder holds ``policy.zip``, which is Stable-Baselines3's own, ``normaliser.pkl``, the `VecNormalize` around the
environment that it was trained in, and ``policy.json``, which says what it sees, and where. **The first two hold
pickled Python objects, which can run anything when they are loaded: open your own only.**
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agents.policies.core import Observer
from agents.policies.latents import Latents
from agents.policies.pixels import Pixels
from agents.policies.true_state import TrueState
from jepa_worlds.models.checkpoint import load
from jepa_worlds.shared.files import Plain, read_json, write_json, writing
from jepa_worlds.shared.runs import RESULTS

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

CARD, POLICY, NORMALISER = "policy.json", "policy.zip", "normaliser.pkl"
FORMAT = "jepa_worlds/policy/1"


def make_observer(seen: Plain, device: str = "cpu", trust: tuple[str, ...] = ()) -> Observer:
    """The observer of a policy: ``{"latents": run}``, ``{"pixels": number of frames}`` or ``{"state": factors}``.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: another observer.
    """
    match seen:
        case {"latents": run}:
            return Latents(load(run, device, trust))
        case {"pixels": frames}:
            return Pixels(frames)
        case {"state": names}:
            return TrueState(tuple(names))
    raise ValueError(f"a policy sees latents, pixels or state, got {seen!r}")


def save_policy(folder: Path, model: BaseAlgorithm, card: Plain) -> None:
    """Write a policy into a folder, at once: one that was there before is replaced."""
    with written(folder) as new:
        model.save(new / POLICY)
        normaliser = model.get_vec_normalize_env()
        if normaliser is not None:
            normaliser.save(str(new / NORMALISER))
        write_json(new / CARD, {"format": FORMAT, **card})


def read_policy_card(folder: Path) -> Plain:
    """What a folder's ``policy.json`` says.

    Raises:
        FileNotFoundError: there is no policy.
        ValueError: it is of another format.
    """
    if not (folder / CARD).is_file():
        raise FileNotFoundError(f"no policy in {str(folder)!r}; make one with jepa_worlds.evaluate")
    card = read_json(folder / CARD)
    if not (isinstance(card, dict) and card.get("format") == FORMAT):
        raise ValueError(f"{folder / CARD} is not a policy of format {FORMAT!r}: train it again")
    return dict(card)


def find_policy(path: Path) -> Path:
    """The folder of a policy: the best of a row of what `jepa_worlds.evaluate` wrote, or of its first row."""
    file = path / RESULTS
    found = read_json(file) if file.is_file() else {}
    row = path / found["rows"][0]["name"] if found.get("command") == "evaluate" else path
    return max(sorted(row.glob("seed-*/best")), key=lambda best: read_policy_card(best)["return"], default=row)


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of ``folder`` if all went well."""
    new, old = folder.with_name(f".{folder.name}.new"), _old(recover(folder))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with writing(folder):
        new.mkdir(parents=True)
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> Path:
    """The same folder, which is put back where `written` was killed between taking it away and replacing it."""
    if not folder.exists() and _old(folder).exists():
        _old(folder).rename(folder)
    return folder


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
