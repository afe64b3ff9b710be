from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views
from agents.objectives.inverse_dynamics import InverseDynamics
from agents.objectives.vicreg import VICReg
from agents.predictors.gru import GRUPredictor
from agents.solutions import FittedObjective, LinearDynamics, fit, fourier_features, knowing, regardless
from agents.world_models.core import NoDecoder
from agents.world_models.encoder_predictor import EncoderPredictor
from agents.world_models.frame_model import imagined

DIM, ACTIONS = 6, 2
VICREG = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}


class Watched(nn.Module):
    """An objective that keeps what it was shown."""

    def forward(self, views: Views) -> Terms:
        self.views = views
        return {"watched": views.latents.square().mean()}


def model_of(objectives: dict[str, nn.Module], frames: int = 1, decoder: nn.Module | None = None) -> EncoderPredictor:
    return EncoderPredictor(
        nn.Sequential(nn.Flatten(), nn.Linear(frames * 16, DIM)),
        GRUPredictor(DIM, ACTIONS),
        objectives,
        latent_dim=DIM,
        frame_mean=[100.0],
        frame_std=[50.0],
        action_mean=[1.0, -1.0],
        action_std=[2.0, 4.0],
        decoder=decoder,
        frames=frames,
    )


def fitted_objective(
    objective: nn.Module, mean: float = 0.0, std: float = 1.0, imagine=regardless, **kwargs: object
) -> FittedObjective:
    return FittedObjective(
        model_of({"some": objective}, **kwargs), imagine, torch.full((DIM,), mean), torch.full((DIM,), std)
    )


def batch_of(latents: Tensor, predictions: Tensor | None = None, frames: int = 1) -> dict[str, Tensor]:
    """Windows of [B, T] frames with a solution of [B, T−K+1, D]."""
    b, t = latents.shape[0], latents.shape[1] + frames - 1
    return {
        "frames": torch.randint(0, 256, (b, t, 1, 4, 4), dtype=torch.uint8),
        "actions": torch.randn(b, t - 1, ACTIONS),
        "factors.location": torch.randn(b, t, 2),
        "latents": latents,
        "predictions": latents if predictions is None else predictions,
    }


# --- features of the background


def test_fourier_features__have_mean_0_variance_1_and_no_covariance():
    features = fourier_features(torch.randn(10_000, 8), 12)
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(12), atol=0.05, rtol=0)
    torch.testing.assert_close(features.T.cov(), torch.eye(12), atol=0.05, rtol=0)


def test_fourier_features__estimate_the_gaussian_kernel():
    a, b = torch.randn(2, 5, 3, dtype=torch.double)
    for bandwidth in (0.3, 1.0):
        x, y = (fourier_features(v, 50_000, bandwidth) for v in (a, b))
        expected = torch.exp(-((bandwidth * (a - b)) ** 2).sum(dim=-1) / 2)
        torch.testing.assert_close((x * y).mean(dim=-1), expected, atol=0.03, rtol=0)


def test_fourier_features__of_different_backgrounds_are_uncorrelated_and_of_the_same_are_the_same():
    some = torch.randn(30, 8)
    features = fourier_features(torch.cat([some, some]), 4096)
    torch.testing.assert_close(features[:30], features[30:], atol=0, rtol=0)
    gram = features[:30] @ features[:30].T / 4096
    torch.testing.assert_close(gram, torch.eye(30), atol=0.1, rtol=0)


def test_fourier_features__follow_from_their_seed_alone():
    values, before = torch.randn(4, 3), torch.get_rng_state()
    torch.testing.assert_close(fourier_features(values, 5), fourier_features(values, 5), atol=0, rtol=0)
    assert not torch.allclose(fourier_features(values, 5), fourier_features(values, 5, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# --- latents that know something


def test_knowing__has_the_values_and_is_as_spread_as_random_features():
    values = torch.randn(10_000, 2)
    latents = knowing(values, 12)
    torch.testing.assert_close(latents[:, :2], values, atol=0, rtol=0)
    torch.testing.assert_close(latents.T.cov(), torch.eye(12), atol=0.05, rtol=0)


def test_knowing__leaves_values_out_that_have_no_room():
    values = torch.randn(5, 4)
    torch.testing.assert_close(knowing(values, 3), values[:, :3], atol=0, rtol=0)


# --- what a solution predicts


def test_regardless__predicts_the_same_whatever_is_done():
    predictions = torch.randn(3, 5, 6)
    found = regardless({"predictions": predictions}, torch.randn(2, 3, 4, ACTIONS))
    assert found.shape == (2, 3, 4, 6)
    assert all(torch.equal(found[n], predictions[:, 1:]) for n in range(2))


def test_linear_dynamics__are_those_of_a_dot_between_walls():
    actions, start = torch.randn(200, 8, ACTIONS), torch.rand(200, 1, 2) * 10
    places, weight = [start[:, 0]], torch.tensor([[2.0, 0.0], [1.0, -1.0]])
    for t in range(8):
        places.append((places[-1] + actions[:, t] @ weight + 0.1).clamp(0, 10))
    truth = torch.stack(places, dim=1)
    dynamics = LinearDynamics.fit(truth, actions)
    torch.testing.assert_close(dynamics.weight, torch.cat([weight, torch.full((1, 2), 0.1)]), atol=1e-4, rtol=0)
    torch.testing.assert_close(dynamics.low, torch.zeros(2), atol=1e-5, rtol=0)
    assert dynamics.share > 0.9999
    torch.testing.assert_close(dynamics.rollout(truth[:, 0], actions), truth[:, 1:], atol=1e-3, rtol=0)
    many = dynamics.rollout(truth[:, 0], actions.expand(3, -1, -1, -1))  # of several ways to act
    torch.testing.assert_close(many[2], truth[:, 1:], atol=1e-3, rtol=0)


def test_linear_dynamics__know_what_actions_do_not_move():
    actions = torch.randn(200, 8, ACTIONS)
    assert abs(LinearDynamics.fit(torch.randn(200, 9, 2), actions).share) < 0.05
    assert LinearDynamics.fit(torch.randn(200, 1, 2).expand(-1, 9, -1), actions).share == 0


# --- the fitted objective


def test_fitted_objective__shows_objectives_what_a_model_of_these_latents_would():
    objective = Watched()
    fitted = fitted_objective(objective, mean=3.0, std=2.0, frames=3)
    latents, predictions = torch.randn(2, 5, 4, DIM)
    batch = batch_of(latents, predictions, frames=3)
    assert fitted(batch).keys() == {"watched"}
    views = objective.views
    torch.testing.assert_close(views.latents, (latents - 3) / 2)
    torch.testing.assert_close(views.predictions, (predictions - 3) / 2)
    torch.testing.assert_close(
        views.actions, (batch["actions"][:, 2:] - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 4.0])
    )
    torch.testing.assert_close(views.frames, (batch["frames"][:, 2:].float() - 100) / 50)
    assert torch.equal(views.factors["location"], batch["factors.location"][:, 2:])


def test_fitted_objective__shows_the_actions_frames_and_factors_that_the_model_shows():
    objective = Watched()
    model = model_of({"some": objective}, frames=2)
    batch = batch_of(torch.randn(5, 4, DIM), frames=2)
    FittedObjective(model, regardless, torch.zeros(DIM), torch.ones(DIM))(batch)
    seen = objective.views
    model.loss({name: x for name, x in batch.items() if name not in ("latents", "predictions")})
    for name in ("actions", "frames"):
        torch.testing.assert_close(getattr(seen, name), getattr(objective.views, name))
    torch.testing.assert_close(dict(seen.factors), dict(objective.views.factors))


def test_fitted_objective__imagines_in_the_space_of_its_map():
    objective, gru = Watched(), GRUPredictor(DIM, ACTIONS)
    fitted = fitted_objective(
        objective, mean=0.5, std=2.0, imagine=lambda batch, actions: imagined(gru, batch["latents"][:, :1], actions)
    )
    nn.init.normal_(fitted.map.weight)
    nn.init.normal_(fitted.map.bias)
    latents, others = torch.randn(5, 4, DIM), torch.randn(2, 5, 3, ACTIONS)
    fitted(batch_of(latents))
    assert objective.views.imagine is not None
    for n in range(2):
        expected = fitted.map((gru(latents[:, :1], others[n]) - 0.5) / 2)
        torch.testing.assert_close(objective.views.imagine(others)[n], expected)


def test_fitted_objective__cannot_draw():
    objective = Watched()
    fitted_objective(objective)(batch_of(torch.randn(5, 4, DIM)))
    assert objective.views.decode is None
    fitted_objective(objective, decoder=nn.Identity())(batch_of(torch.randn(5, 4, DIM)))
    assert objective.views.decode is not None
    with pytest.raises(NoDecoder, match="needs a decoder"):
        objective.views.decode(objective.views.predictions)


# --- fitting


def test_fit__finds_scale_and_rotation():
    basis = torch.logspace(-0.7, 0.5, DIM)[:, None] * torch.linalg.qr(torch.randn(DIM, DIM))[0]
    latents = 5 + torch.randn(256, 1, DIM).expand(-1, 4, -1) @ basis  # a copy, seen through a bad map
    batch = batch_of(latents)
    fitted = fitted_objective(VICReg())
    before = fitted(batch)
    fit(fitted, batch, VICREG, 256, 100, lr=0.03)
    after = fitted(batch)
    assert before["variance"] > 0.03 and after["variance"] < 0.001
    assert before["covariance"] > 5 and after["covariance"] < 0.7
    assert after["invariance"] == 0


def test_fit__fits_the_heads_of_the_objective():
    actions = torch.randn(128, 3, ACTIONS)
    moved = torch.cat([torch.zeros(128, 1, ACTIONS), actions.cumsum(dim=1)], dim=1)
    latents = torch.cat([moved, torch.randn(128, 1, DIM - ACTIONS).expand(-1, 4, -1)], dim=-1)
    batch = {**batch_of(latents), "actions": actions}
    fitted = fitted_objective(InverseDynamics(DIM, ACTIONS))
    encoder = [x.clone() for x in fitted.model.encoder.parameters()]
    fit(fitted, batch, {"inverse_dynamics": 1.0}, 32, 400, lr=0.03)
    assert fitted(batch)["inverse_dynamics"] < 0.01
    assert not fitted.training
    for was, now in zip(encoder, fitted.model.encoder.parameters(), strict=True):
        assert torch.equal(was, now)


def test_fit__cannot_find_what_latents_do_not_hold():
    static = torch.randn(2, 512, 1, DIM).expand(-1, -1, 4, -1)  # tells nothing of the actions
    train, held_out = ({**batch_of(latents), "actions": torch.randn(512, 3, ACTIONS)} for latents in static)
    fitted = fitted_objective(InverseDynamics(DIM, ACTIONS))
    fit(fitted, train, {"inverse_dynamics": 1.0}, 64, 200)
    normalised = (held_out["actions"] - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 4.0])
    variance = normalised.flatten(0, 1).var(dim=0).mean()
    assert fitted(held_out)["inverse_dynamics"] > 0.95 * variance


def test_fit__is_the_same_every_time_and_leaves_the_random_state_alone():
    batch = batch_of(torch.randn(40, 4, DIM), torch.randn(40, 4, DIM))
    before, found = torch.get_rng_state(), []
    for _ in range(2):
        torch.manual_seed(1)
        fitted, state = fitted_objective(VICReg()), torch.get_rng_state()
        fit(fitted, batch, VICREG, 16, 5)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(fitted.map.weight)
    assert torch.equal(*found)
    assert not torch.equal(found[0], torch.eye(DIM))
    other = fitted_objective(VICReg())
    fit(other, batch, VICREG, 16, 5, seed=1)
    assert not torch.equal(other.map.weight, found[0])
    torch.set_rng_state(before)


def test_fit__of_no_steps_changes_nothing():
    batch, fitted = batch_of(torch.randn(8, 4, DIM)), fitted_objective(VICReg())
    fit(fitted, batch, VICREG, 4, 0)
    assert torch.equal(fitted.map.weight, torch.eye(DIM)) and torch.equal(fitted.map.bias, torch.zeros(DIM))
