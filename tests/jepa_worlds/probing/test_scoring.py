"""Scores, floors and intervals, on problems whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.objectives.core import Terms
from agents.probes.core import Probe
from agents.probes.gradient import GradientProbe
from agents.probes.ridge import Ridge
from agents.world_models.core import Batch, WorldModel
from jepa_worlds.data.dataset import SPLITS, Dataset
from jepa_worlds.data.windows import Windows, split_windows
from jepa_worlds.models.checkpoint import untrained
from jepa_worlds.probing import scoring
from jepa_worlds.probing.scoring import (
    BySplit,
    Score,
    chance,
    constant,
    features,
    interval,
    pixels,
    quick_probe,
    scores,
)

COUNTS = {"train": 60, "validation": 20, "test": 30}


class Pixels(WorldModel):
    """A latent is the mean of every row of the frame; the predictor adds up actions. Counts what it encodes."""

    latent_dim = 28

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.encoded: list[int] = []

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.encoded.append(len(frames))
        return frames.float().mean(dim=(2, 4)) * self.gain

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return latents[:, -1:] + actions.cumsum(dim=1).mean(dim=-1, keepdim=True)

    def loss(self, batch: Batch) -> Terms:
        raise NotImplementedError


@pytest.fixture
def linear() -> tuple[BySplit, BySplit]:
    """Features [N, 5, 12] and factors [N, 5, 2] that are an affine function of them."""
    generator = torch.Generator().manual_seed(0)
    splits: BySplit = {split: torch.randn(COUNTS[split], 5, 12, generator=generator) for split in SPLITS}
    weight = torch.randn(12, 2, generator=generator)
    return splits, {split: x @ weight + torch.tensor([3.0, -40.0]) for split, x in splits.items()}


@pytest.fixture(scope="module")
def windows(dataset_path: Path) -> dict[str, Windows]:
    return dict(split_windows(Dataset(dataset_path), 8))


# --- scores


def score(probe: Probe, splits: BySplit, factors: BySplit) -> Score:
    return scores(lambda: probe, splits, {"factor": factors})["factor"]


@pytest.mark.parametrize("probe", [Ridge, lambda: GradientProbe([8], epochs=2)])
def test_scores__are_what_each_factor_has_alone(linear: tuple[BySplit, BySplit], probe: Callable[[], Probe]) -> None:
    splits, place = linear
    noise: BySplit = {split: torch.randn(len(x), 5, 3) for split, x in place.items()}
    found = scores(probe, splits, {"place": place, "noise": noise})
    assert list(found) == ["place", "noise"]
    for name, factors in {"place": place, "noise": noise}.items():
        alone = score(probe(), splits, factors)
        assert found[name].predictions.shape == factors["test"].shape
        assert torch.allclose(found[name].predictions, alone.predictions, rtol=1e-5)
        assert found[name].rmse == pytest.approx(alone.rmse)
        assert found[name].validation_rmse == pytest.approx(alone.validation_rmse)
    assert scores(probe, splits, {}) == {}


def test_score__is_perfect_where_the_factor_is_linear_in_the_features(linear: tuple[BySplit, BySplit]) -> None:
    splits, factors = linear
    found = score(Ridge(), splits, factors)
    assert found.rmse < 1e-3
    assert found.r2 > 1 - 1e-6
    assert found.rmse_ci95[0] <= found.rmse <= found.rmse_ci95[1] < 1e-3
    assert found.predictions.shape == factors["test"].shape
    assert len(found.per_step) == 5 and max(found.per_step) < 1e-3


def test_score__is_the_norm_of_the_error_over_all_steps_and_at_each(linear: tuple[BySplit, BySplit]) -> None:
    splits, factors = linear
    step = torch.arange(5.0)[:, None]  # in the test split alone, step t is off by t in both numbers
    found = score(Ridge(), splits, {**factors, "test": factors["test"] + step})
    assert found.per_step == pytest.approx([t * 2**0.5 for t in range(5)], abs=1e-3)
    assert found.rmse == pytest.approx((2 * (0 + 1 + 4 + 9 + 16) / 5) ** 0.5, rel=1e-4)
    truth = factors["test"] + step
    spread = (truth - truth.mean(dim=(0, 1))).square().sum(dim=-1).mean()
    assert found.r2 == pytest.approx(1 - found.rmse**2 / float(spread), rel=1e-4)


def test_score__tells_the_error_on_the_validation_split(linear: tuple[BySplit, BySplit]) -> None:
    splits, factors = linear
    off = {**factors, "validation": factors["validation"] + 3.0}  # in both numbers
    assert score(Ridge(penalties=[1e-6]), splits, off).validation_rmse == pytest.approx(3 * 2**0.5, rel=1e-3)
    assert score(Ridge(), splits, factors).validation_rmse < 1e-3


def test_score__tells_components_apart(linear: tuple[BySplit, BySplit]) -> None:
    splits, factors = linear
    noise, constant = {s: torch.randn(len(x), 5, 1) for s, x in splits.items()}, torch.ones(30, 5, 1)
    mixed: BySplit = {s: torch.cat([x, 100 * noise[s], torch.randn_like(noise[s])], -1) for s, x in factors.items()}
    mixed["test"] = torch.cat([mixed["test"][..., :3], constant], dim=-1)
    first, second, third, last = score(Ridge(), splits, mixed).r2_per_component
    assert first is not None and second is not None and min(first, second) > 0.97
    assert third is not None and abs(third) < 0.3 and last is None


@pytest.mark.parametrize("probe", [Ridge, GradientProbe])
def test_score__fits_nothing_on_the_episodes_it_scores(linear: tuple[BySplit, BySplit], probe: type) -> None:
    splits, factors = linear
    found = score(probe(), splits, factors).predictions
    other = score(probe(), splits, {**factors, "test": torch.randn(30, 5, 2)}).predictions
    assert torch.equal(found, other)
    mixed = {**splits, "test": torch.cat([splits["test"][:1], 1e3 * torch.randn(29, 5, 12)])}
    assert torch.allclose(score(probe(), mixed, factors).predictions[0], found[0], atol=1e-4)


def test_score__fits_no_weights_on_the_episodes_it_chooses_by(linear: tuple[BySplit, BySplit]) -> None:
    splits, factors = linear
    found = score(Ridge(penalties=[1e-3]), splits, factors).predictions
    other = score(Ridge(penalties=[1e-3]), splits, {**factors, "validation": torch.randn(20, 5, 2)}).predictions
    assert torch.equal(found, other)


def test_score__knows_nothing_where_there_is_nothing_to_know() -> None:
    splits: BySplit = {split: torch.randn(count, 5, 3) for split, count in COUNTS.items()}
    factors: BySplit = {split: torch.randn(count, 5, 2) for split, count in COUNTS.items()}
    found = score(Ridge(), splits, factors)
    assert found.rmse == pytest.approx(chance(factors), rel=0.1)
    assert abs(found.r2) < 0.1


# --- intervals and floors


def test_interval__covers_the_error_of_the_population_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):  # errors of an episode are alike: N(0, 1) for the episode, N(0, 1) for each step
        errors = torch.randn(80, 1, 2, generator=generator) + torch.randn(80, 10, 2, generator=generator)
        low, high = interval(errors, torch.zeros_like(errors))
        covered += low <= 2.0 <= high  # √(2 · (1 + 1))
    assert 0.89 <= covered / 200 <= 0.985


def test_interval__resamples_whole_episodes() -> None:
    errors = torch.randn(40, 5, 2, generator=torch.Generator().manual_seed(0))
    alone = interval(errors, torch.zeros_like(errors))
    fourfold = errors.repeat_interleave(4, dim=0)  # four windows of each episode, with the same error
    episodes = np.repeat(np.arange(40), 4)
    assert interval(fourfold, torch.zeros_like(fourfold), episodes) == pytest.approx(alone, rel=1e-6)
    low, high = interval(fourfold, torch.zeros_like(fourfold))
    assert high - low < 0.7 * (alone[1] - alone[0])


def test_interval__narrows_with_more_episodes_and_is_the_same_every_time() -> None:
    errors = torch.randn(400, 5, 2, generator=torch.Generator().manual_seed(0))
    few, many = (interval(errors[:n], torch.zeros_like(errors[:n])) for n in (25, 400))
    assert many == interval(errors, torch.zeros_like(errors))
    assert (many[1] - many[0]) * 3 < few[1] - few[0]


def test_chance__is_the_error_of_the_mean_of_the_training_episodes() -> None:
    train, test = torch.tensor([[[0.0, 0.0], [2.0, 4.0]]]), torch.tensor([[[1.0, 2.0], [4.0, 6.0]]])
    assert chance({"train": train, "validation": test, "test": test}) == pytest.approx(((0 + 3**2 + 4**2) / 2) ** 0.5)


def test_chance__of_a_place_in_a_square_has_a_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    factors: BySplit = {split: 28 * torch.rand(2000, 10, 2, generator=generator) for split in SPLITS}
    assert chance(factors) == pytest.approx(28 / 6**0.5, rel=0.01)  # two coordinates of variance 28² / 12 each


def test_constant__tells_what_cannot_be_probed() -> None:
    moving: BySplit = {split: torch.randn(4, 3, 2) for split in SPLITS}
    assert not constant(moving)
    assert constant({split: torch.ones(4, 3, 2) for split in SPLITS})
    assert not constant(
        {split: torch.arange(8.0).view(4, 1, 2).expand(4, 3, 2) for split in SPLITS}
    )  # an episode's own
    for split in SPLITS:  # R² of what does not vary is not defined, and there is nothing to fit on it
        assert constant({**moving, split: torch.full((4, 3, 2), 5.0)})


def test_untrained__draws_weights_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weights = [float(untrained(_Drawn, seed).weight) for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.rand(3), expected)


class _Drawn(Pixels):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(()))


# --- features


def test_features__are_latents_and_open_loop_rollouts_from_the_first_frame(windows: dict[str, Windows]) -> None:
    model, split = Pixels(), windows["validation"]
    found = features(model.train(), split, limit=100)
    assert len(split) == len(found.latents) == 10
    batch = split.take(np.arange(10))
    latents = batch["frames"].float().mean(dim=(2, 4))
    assert torch.equal(found.latents, latents)
    assert torch.equal(found.rollouts[:, 0], latents[:, 0])
    moved = batch["actions"].cumsum(dim=1).mean(dim=-1, keepdim=True)
    assert torch.allclose(found.rollouts[:, 1:], latents[:, :1] + moved)
    assert torch.equal(found.factors["location"], batch["factors.location"])
    assert found.factors.keys() == {"location", "background"}
    assert found.windows.tolist() == list(range(10))


def test_features__begin_where_all_that_a_latent_is_made_of_was_seen(windows: dict[str, Windows]) -> None:
    model, split = Pixels(), windows["validation"]
    whole = features(model, split, limit=100)
    model.context = 3
    found = features(model, split, limit=100)
    batch = split.take(np.arange(10))
    assert torch.equal(found.latents, whole.latents[:, 2:])
    moved = batch["actions"][:, 2:].cumsum(dim=1).mean(dim=-1, keepdim=True)
    assert torch.equal(found.rollouts[:, 0], whole.latents[:, 2])
    assert torch.allclose(found.rollouts[:, 1:], whole.latents[:, 2:3] + moved)
    for name, x in found.factors.items():
        assert torch.equal(x, batch[f"factors.{name}"][:, 2:])


def test_pixels__are_those_that_a_latent_of_several_frames_is_made_of(windows: dict[str, Windows]) -> None:
    batch, found = windows["validation"].take(np.arange(10)), pixels(windows["validation"], np.arange(10), 3)
    assert found.shape[2] == 3 * 14 * 14  # of the same three frames that the model sees, at most 1024 numbers
    several, small = found.unflatten(2, (196, 3)), scoring._shrunk(batch["frames"], 1024 // 3)
    for t in range(6):
        for i in range(3):
            assert torch.equal(several[:, t, :, i], small[:, t + i])


def test_features__limits_the_windows_to_a_fixed_choice_from_all(windows: dict[str, Windows]) -> None:
    found = features(Pixels(), windows["train"], limit=12)
    assert len(windows["train"]) == 76
    assert found.windows.tolist() == sorted({*found.windows.tolist()})
    assert len(found.windows) == len(found.latents) == 12
    assert found.windows.max() > 40 and found.windows.min() < 36  # from everywhere
    assert found.windows.tolist() == features(Pixels(), windows["train"], limit=12).windows.tolist()
    batch = windows["train"].take(found.windows)
    assert torch.equal(found.factors["location"], batch["factors.location"])


def test_features__do_not_depend_on_how_many_are_encoded_at_a_time(
    windows: dict[str, Windows], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, model = features(Pixels(), windows["validation"], limit=100), Pixels()
    monkeypatch.setattr(scoring, "ENCODED", 3)
    parts = features(model, windows["validation"], limit=100)
    assert max(model.encoded) <= 3 and sum(model.encoded) == 10
    for name in ("latents", "rollouts"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def test_features__refuses_latents_that_are_not_finite(windows: dict[str, Windows]) -> None:
    with pytest.raises(ValueError, match="latents are not finite: its weights are damaged, or it diverged"):
        features(Pixels(float("nan")), windows["validation"], limit=100)


def test_pixels__are_all_of_them_if_they_are_few(windows: dict[str, Windows], monkeypatch: pytest.MonkeyPatch) -> None:
    frames = windows["validation"].take(np.array([1, 3, 4, 7]))["frames"]
    for at_a_time in (256, 3):
        monkeypatch.setattr(scoring, "ENCODED", at_a_time)
        found = pixels(windows["validation"], np.array([1, 3, 4, 7]), 1)
        assert torch.equal(found, frames.float().flatten(2) / 255)


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [((1, 28, 28), 784), ((1, 32, 32), 1024), ((1, 33, 33), 256), ((3, 64, 64), 768), ((3, 96, 64), 684)],
)
def test_shrunk__averages_squares_until_1024_numbers_are_left(shape: tuple[int, int, int], numbers: int) -> None:
    frames = torch.full((2, 3, *shape), 51, dtype=torch.uint8)
    small = scoring._shrunk(frames, 1024)
    assert small.shape == (2, 3, numbers)
    assert torch.allclose(small, torch.tensor(0.2))


def test_shrunk__keeps_the_place_of_things() -> None:
    frames = torch.zeros(1, 1, 3, 64, 64, dtype=torch.uint8)
    frames[0, 0, 1, 4:8, 60:64] = 255  # green, second row of squares, last column
    small = scoring._shrunk(frames, 1024).view(3, 16, 16)
    assert small[1, 1, 15] == 1
    assert small.sum() == 1


@pytest.mark.parametrize("corner", [(0, 0), (0, 66), (66, 0), (66, 66)])
def test_shrunk__forgets_no_edge_of_a_frame_that_squares_do_not_fill(corner: tuple[int, int]) -> None:
    frames = torch.zeros(1, 1, 1, 67, 67, dtype=torch.uint8)
    frames[0, 0, 0, corner[0], corner[1]] = 255
    assert scoring._shrunk(frames, 1024).sum() > 0


def test_split_windows__do_not_overlap_within_an_episode(windows: dict[str, Windows]) -> None:
    assert {split: len(one) for split, one in windows.items()} == {"train": 76, "validation": 10, "test": 10}
    locations = windows["test"].take(np.arange(10))["factors.location"].flatten(0, 1)
    assert len(locations.unique(dim=0)) == 80


def test_quick_probe__scores_every_factor_that_changes(windows: dict[str, Windows]) -> None:
    found = quick_probe(Pixels(), windows["train"], windows["validation"])
    assert found.keys() == {
        f"{factor}/{view}_{number}"
        for factor in ("location", "background")
        for view in ("rollouts", "latents")
        for number in ("rmse", "r2")
    }
    assert all(np.isfinite(number) for number in found.values())
