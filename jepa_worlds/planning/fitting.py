"""What planning needs beside a world model, fitted on the dataset that it was trained on: probes and heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from agents.costs.core import Aims
from agents.heads.core import Head, Trajectories
from agents.probes.core import Probe, Samples
from agents.world_models.core import WorldModel
from envs.core import Factors
from jepa_worlds.data.dataset import Dataset, Split
from jepa_worlds.data.windows import Windows, require_room, require_two
from jepa_worlds.models.checkpoint import WEIGHTS, load, read_card
from jepa_worlds.planning.heads import fitted_head, sizes
from jepa_worlds.planning.trajectories import trajectories
from jepa_worlds.probing import scoring
from jepa_worlds.probing.opening import fitting_dataset
from jepa_worlds.probing.scoring import Features
from jepa_worlds.shared.build import TRUSTED, build
from jepa_worlds.shared.files import Plain, digest

LIMITS: dict[Split, int] = {"train": 3000, "validation": 500}  # windows on which probes are fitted, at most


@dataclass(frozen=True)
class Readout:
    """A probe of latents on any device, on which the result is too: [..., D] -> [..., F].

    Attributes:
        probe: fitted.
        device: on which it was fitted.
    """

    probe: Probe
    device: torch.device

    def __call__(self, latents: Tensor) -> Tensor:
        read = self.probe.predict(latents.flatten(0, -2).to(self.device))
        return read.to(latents.device).unflatten(0, latents.shape[:-1])


class Fitted:
    """A run's frozen model, with what is fitted on its latents as it is asked for.

    Args:
        run: a training run.
        folder: where heads are kept, a folder for each seed.
        settings: of the command: ``data``, ``verify``, ``trust``, ``heads``, ``fit`` and ``readout``.
        device: of the model.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: a dataset that does not fit the model.
    """

    def __init__(self, run: str, folder: Path, settings: Plain, device: torch.device) -> None:
        self.run, self.folder, self.settings, self.device = run, folder, settings, device
        self.trust = tuple(settings["trust"])
        self.card = read_card(run)
        self.model: WorldModel = load(run, device, self.trust)
        self.dataset: Dataset = fitting_dataset(self.card, settings["data"], settings["verify"])
        self._readouts: dict[str, Readout] = {}  # what was asked for once
        self._heads: dict[tuple[str, int], Head] = {}
        self._known: dict[int, Trajectories] = {}  # by how many steps are imagined
        self.identity = {"weights": digest(Path(run) / WEIGHTS), "dataset": self.dataset.content_hash}

    def require(self, needs: Iterable[str], goal: Factors) -> None:
        """Refuse a cost that needs what is not there and cannot be fitted.

        Raises:
            ValueError: a factor that goals or the dataset do not have, or a head that is not configured.
        """
        for need in sorted(needs):
            kind, _, name = need.partition(".")
            if kind == "factors" and name not in goal:
                raise ValueError(f"the cost has an aim for the factor {name!r}, and goals have {sorted(goal)}")
            if kind == "readouts" and name not in self.dataset.factors:
                raise ValueError(f"the cost reads the factor {name!r}, the dataset has {self.dataset.factors}")
            if kind == "heads":
                self.head_config(name)

    def aims(self, needs: Iterable[str], seed: int) -> Aims:
        """The probes and heads that a cost needs, see `agents.costs.core.Aims`; heads of that seed."""
        split = [need.partition(".") for need in sorted(needs)]
        return Aims(
            readouts={name: self.readout(name) for kind, _, name in split if kind == "readouts"},
            heads={name: self.head(name, seed) for kind, _, name in split if kind == "heads"},
        )

    def readout(self, factor: str) -> Readout:
        """A probe of a factor, fitted on what the model imagines from the first frame of each window."""
        if factor not in self._readouts:
            probe: Probe = build(self.settings["readout"], (*TRUSTED, *self.trust))
            device = torch.device("cpu") if self.device.type == "mps" else self.device  # which has no float64
            samples = {
                split: Samples(*(rows.flatten(0, 1).to(device) for rows in (x.rollouts, x.factors[factor])))
                for split, x in self._features.items()
            }
            probe.fit(samples["train"], samples["validation"])
            self._readouts[factor] = Readout(probe, device)
        return self._readouts[factor]

    def head(self, name: str, seed: int) -> Head:
        """The head of that name among the settings and of a seed, fitted or as it was kept.

        Raises:
            ValueError: there is none of that name, or as `fitted_head` says.
        """
        if (name, seed) not in self._heads:
            head = fitted_head(
                name,
                self.head_config(name),
                lambda head: self._trajectories(self.rolled_out if head.imagined else 0),
                self.folder / f"seed-{seed}",
                self.identity,
                seed=seed,
                trust=self.trust,
                desc=f"fit {name}, seed {seed}",
                **self.settings["fit"],
            )
            self._heads[name, seed] = head.to(self.device)
        return self._heads[name, seed]

    def head_config(self, name: str) -> Plain:
        """The configuration of a head.

        Raises:
            ValueError: there is none of that name.
        """
        heads: Plain = self.settings["heads"]
        if name not in heads:
            raise ValueError(
                f"there is no head {name!r} among heads: {sorted(heads)}; add one of your own with "
                f"+head@heads.{name}={name}"
            )
        config = OmegaConf.create({"head": heads[name], "spec": sizes(self.model, self.card)})
        return OmegaConf.to_container(config.head, resolve=True)  # type: ignore[return-value]

    @cached_property
    def _features(self) -> dict[Split, Features]:
        window = self.card["window"]
        require_room(self.model.context, window)
        windows: dict[Split, Windows] = {s: Windows(self.dataset, s, window, stride=window) for s in LIMITS}
        require_two(self.dataset, windows)
        return {s: scoring.features(self.model, windows[s], LIMITS[s], f"encode {s}") for s in windows}

    @property
    def rolled_out(self) -> int:
        """The steps of a rollout in the windows that the model learned from, or is scored on."""
        return self.card["window"] - self.model.context

    def _trajectories(self, imagined: int) -> Trajectories:
        if imagined not in self._known:
            self._known[imagined] = trajectories(self.model, self.dataset, imagined=imagined, desc="encode episodes")
        return self._known[imagined]
