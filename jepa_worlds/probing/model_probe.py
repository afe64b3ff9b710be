"""The probe protocol: what a model's latents tell of every factor, beside floors, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.probes.core import Probe
from agents.probes.ridge import Ridge
from agents.world_models.core import WorldModel
from envs.arguments import require_whole
from jepa_worlds.data.dataset import SPLITS, Dataset, Split, is_position
from jepa_worlds.data.windows import require_room, split_windows
from jepa_worlds.models.training import diagnose
from jepa_worlds.probing import scoring
from jepa_worlds.probing.scoring import BySplit, Features, Score
from jepa_worlds.shared.build import TRUSTED, build


@dataclass(frozen=True)
class Probed:
    """What probing a model found.

    Attributes:
        metrics, floors, diagnostics: as in ``results.json``.
        rollouts: {factor: Score} of the probe on rollouts.
    """

    metrics: dict[str, Any]
    floors: dict[str, Any]
    diagnostics: dict[str, float]
    rollouts: dict[str, Score]


class ModelProbe:
    """Probes a trained model on a dataset.

    Args:
        model: the frozen model.
        dataset: probes are fitted on its train episodes, chosen on validation and scored on test.
        window: frames a sequence.
        limits: at most this many windows of each split, each at least 2.
        readout: configuration of the probe.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: a limit below 2, a split with fewer than 2 windows, episodes shorter than a window, or a window
            in which the model has nothing to predict.
    """

    def __init__(
        self,
        model: WorldModel,
        dataset: Dataset,
        window: int,
        limits: dict[Split, int],
        readout: dict[str, Any],
        trust: Sequence[str] = (),
    ) -> None:
        require_whole(2, **{f"protocol.{split}_windows": limit for split, limit in limits.items()})
        require_room(model.context, window)
        self.model, self.limits, self.readout, self.trust = model, limits, readout, trust
        self.device = next(model.parameters()).device
        self.windows = split_windows(dataset, window)
        self.features = self._features(model, "encode")

    def run(self, fresh: WorldModel, batch_size: int) -> Probed:
        """Probe every factor that changes; ``fresh`` is an untrained model of the same architecture."""
        untrained = self._features(fresh, "encode untrained")
        factors = self._changing(self.features["train"].factors)
        rollouts, encoded = self.scores("rollouts", factors), self.scores("latents", factors)
        by_untrained = {view: self.scores(view, factors, untrained) for view in ("rollouts", "latents")}
        pixels = {s: scoring.pixels(self.windows[s], self.features[s].windows, self.model.context) for s in SPLITS}
        by_pixels = scoring.scores(Ridge, pixels, factors)
        metrics, floors = {}, {}
        for name, rollout in rollouts.items():
            metrics[name] = {
                "rollout_rmse": rollout.rmse,
                "rollout_rmse_ci95": list(rollout.rmse_ci95),
                "rollout_validation_rmse": rollout.validation_rmse,
                "encoder_rmse": encoded[name].rmse,
                "per_step_rmse": rollout.per_step,
                "r2": rollout.r2,
                "r2_per_component": rollout.r2_per_component,
                "encoder_r2": encoded[name].r2,
            }
            floors[name] = {
                "chance": scoring.chance(factors[name]),
                "pixels": by_pixels[name].rmse,
                "untrained": by_untrained["rollouts"][name].rmse,
                "untrained_encoder": by_untrained["latents"][name].rmse,
            }
        return Probed(metrics, floors, diagnose(self.model, self.windows["test"], batch_size), rollouts)

    @property
    def positions(self) -> list[str]:
        """The factors that are positions (x, y) in the frame: ``location`` and ``location.<what>``."""
        factors = self.features["test"].factors
        return [name for name, x in factors.items() if is_position(name) and x.shape[-1] == 2]

    @property
    def quantities(self) -> list[str]:
        """The other factors, but for ``background``, whose components mean nothing to the eye."""
        return [n for n in self.features["test"].factors if n not in self.positions and n != "background"]

    def score_shown(self) -> dict[str, Score]:
        """The scores on rollouts of probes of all positions and quantities that change.

        Raises:
            ValueError: there are none among the dataset's factors.
        """
        found = self.scores("rollouts", self._changing([*self.positions, *self.quantities]))
        if not found:
            raise ValueError(
                f"there is nothing to show: the factors are {sorted(self.features['test'].factors)}, and of these, "
                f"background is a number only, and what never changes is not probed"
            )
        return found

    def bounds(self, name: str) -> tuple[NDArray, NDArray]:
        """The least and the largest value of every component of a factor in the data: [F], [F]."""
        values = torch.cat([self.features[split].factors[name].flatten(0, 1) for split in SPLITS])
        return values.amin(dim=0).numpy(), values.amax(dim=0).numpy()

    def factors(self, name: str) -> BySplit:
        """The true values of a factor: {split: [N, T, F]}."""
        return {split: self.features[split].factors[name] for split in SPLITS}

    def scores(
        self, view: str, factors: dict[str, BySplit], features: dict[Split, Features] | None = None
    ) -> dict[str, Score]:
        """The scores of new probes of some factors on ``rollouts`` or ``latents``."""
        features = features or self.features
        episodes = self.windows["test"].episode[features["test"].windows]
        return scoring.scores(self.unfitted, {s: getattr(features[s], view) for s in SPLITS}, factors, episodes)

    def _changing(self, names: Iterable[str]) -> dict[str, BySplit]:
        """The factors among some that change in every split."""
        factors = {name: self.factors(name) for name in names}
        return {name: values for name, values in factors.items() if not scoring.constant(values)}

    def unfitted(self) -> Probe:
        """A new probe."""
        probe: Probe = build(self.readout, (*TRUSTED, *self.trust))
        return probe

    def frames(self, split: Split, count: int) -> NDArray[np.uint8]:
        """The frames of the first windows of `features`, the newest at each of their steps: [count, T, H, W, C]."""
        frames = self.windows[split].take(self.features[split].windows[:count])["frames"]
        return frames[:, self.model.context - 1 :].permute(0, 1, 3, 4, 2).cpu().numpy()

    def _features(self, model: WorldModel, desc: str) -> dict[Split, Features]:
        return {s: scoring.features(model, self.windows[s], self.limits[s], f"{desc} {s}") for s in SPLITS}
