from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from agents.decoders.depth_to_space import DepthToSpace
from agents.encoders.menet5 import MeNet5
from agents.encoders.space_to_depth import SpaceToDepth
from agents.objectives.core import weighted_sum
from agents.objectives.infonce import InfoNCE
from agents.objectives.inverse_dynamics import InverseDynamics
from agents.objectives.part import Part
from agents.objectives.reconstruction import Reconstruction
from agents.objectives.self_prediction import SelfPrediction
from agents.objectives.supervised import Supervised
from agents.objectives.temporal import TemporalSimilarity, TemporalVariance
from agents.objectives.vicreg import VICReg
from agents.predictors.gru import GRUPredictor
from agents.world_models.core import NoDecoder, WorldModel
from agents.world_models.encoder_predictor import EncoderPredictor

FRAME, DIM = (2, 8, 12), 6
FRAME_MEAN, FRAME_STD = [20.0, 60.0], [30.0, 50.0]
ACTION_MEAN, ACTION_STD = [1.0, -2.0], [0.5, 4.0]


class Recorder(nn.Module):
    """An objective that keeps what it sees, and the precision of what it computes."""

    uses_targets = True

    def forward(self, views):
        self.views = views
        self.dtype = (views.latents @ views.latents.mT).dtype
        self.drawn = None if views.decode is None else views.decode(views.latents)
        return {}


class Prophecy(nn.Module):
    """An objective that asks for nothing but what is predicted."""

    def forward(self, views):
        return {"prophecy": (views.predictions[:, 1:] - 1).square().mean()}


class Identity(nn.Module):
    """A predictor that repeats the context's last latent, and keeps its arguments."""

    def forward(self, context, actions):
        self.context, self.actions = context, actions
        return context[:, -1:].expand(-1, actions.shape[1], -1)


def all_objectives():
    statistics = {"location": {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}
    return {
        "vicreg": VICReg(),
        "infonce": InfoNCE(),
        "temporal_variance": TemporalVariance(),
        "temporal_similarity": TemporalSimilarity(),
        "inverse_dynamics": InverseDynamics(DIM, 2),
        "reconstruction": Reconstruction(),
        "supervised": Supervised(DIM, "location", statistics),
    }


def make(objectives=None, **parts):
    parts = {
        "encoder": SpaceToDepth(FRAME, DIM, width=8),
        "predictor": GRUPredictor(DIM, 2),
        "latent_dim": DIM,
        "frame_mean": FRAME_MEAN,
        "frame_std": FRAME_STD,
        "action_mean": ACTION_MEAN,
        "action_std": ACTION_STD,
        **parts,
    }
    return EncoderPredictor(objectives=objectives or {}, **parts)


def drawing(objectives=None, **parts):
    return make(objectives, decoder=DepthToSpace(FRAME, DIM, width=3), **parts)


@pytest.fixture
def batch():
    return {
        "frames": torch.randint(0, 256, (8, 5, *FRAME), dtype=torch.uint8),
        "actions": torch.randn(8, 4, 2),
        "factors.location": torch.randn(8, 5, 2),
        "factors.location.moved": torch.randn(8, 5, 2),
    }


# Encoding


def test_encode__hands_the_encoder_normalised_frames(batch):
    model = make(encoder=nn.Flatten(), latent_dim=192)
    found = model.encode(batch["frames"])
    mean, std = (np.array(x).reshape(2, 1, 1) for x in (FRAME_MEAN, FRAME_STD))
    expected = ((batch["frames"].numpy().astype(np.float64) - mean) / std).reshape(8, 5, 192)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_achieved_goal__is_all_of_a_latent():
    latents = torch.randn(3, 2, DIM)
    assert make().achieved_goal(latents) is latents


def test_encode__has_no_memory(batch):
    model, frames = make().eval(), batch["frames"]
    latents = model.encode(frames, batch["actions"])
    assert latents.shape == (8, 5, DIM)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model.encode(frames[:, order]), latents[:, order])
    torch.testing.assert_close(model.encode(frames[2:3, 1:2]), latents[2:3, 1:2])
    assert torch.equal(model.encode(frames, -batch["actions"]), latents)
    assert torch.equal(model.encode(frames), latents)


@pytest.mark.parametrize("encoder", [SpaceToDepth, MeNet5])
def test_encode__does_not_depend_on_the_layout_of_frames(encoder, batch):
    model = make(all_objectives(), encoder=encoder(FRAME, DIM), decoder=DepthToSpace(FRAME, DIM))
    last = batch["frames"].permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)  # as windows of a dataset are
    assert last.stride() != batch["frames"].stride()
    ours, theirs = model.loss({**batch, "frames": last}), model.loss(batch)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.eval().encode(last), model.encode(batch["frames"]), atol=1e-5, rtol=1e-5)


def test_update__of_a_model_that_keeps_no_frames_refuses_to_make_latents_of_several(batch):
    model = make(frames=2).eval()
    with pytest.raises(ValueError, match=r"makes latents of 2 frames: it needs its own update\(\)"):
        WorldModel.update(model, None, None, batch["frames"][:, 0])


def test_update__is_the_encoding_of_the_last_frame(batch):
    model, frames = make().eval(), batch["frames"]
    latents = model.encode(frames, batch["actions"])
    state = model.update(None, None, frames[:, 0])
    torch.testing.assert_close(state, latents[:, 0])
    state = model.update(state, batch["actions"][:, 0], frames[:, 1])
    assert state.shape == (8, DIM)
    torch.testing.assert_close(state, latents[:, 1])


# Several frames at a time


def stacking(frames, objectives=None, **parts):
    """A model that sees ``frames`` at a time."""
    return make(objectives, encoder=SpaceToDepth((frames * 2, 8, 12), DIM, width=8), frames=frames, **parts)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_encode__shows_the_encoder_the_last_frames_with_the_newest_last(frames, batch):
    model = make(encoder=nn.Flatten(), latent_dim=192 * frames, frames=frames)
    assert model.context == frames
    one_by_one = make(encoder=nn.Flatten(), latent_dim=192).encode(batch["frames"])  # [B, T, 192]
    found = model.encode(batch["frames"]).unflatten(2, (frames, 192))
    for t in range(5):
        for i in range(frames):
            assert torch.equal(found[:, t, i], one_by_one[:, max(0, t - frames + 1 + i)]), (t, i)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_update__feeding_frames_one_at_a_time_is_encoding_the_sequence(frames, batch):
    model = stacking(frames).eval()
    latents, state = model.encode(batch["frames"], batch["actions"]), None
    for t in range(5):
        state = model.update(state, None if t == 0 else batch["actions"][:, t - 1], batch["frames"][:, t])
        assert state.shape == (8, DIM + (frames - 1) * 192)
        torch.testing.assert_close(state[:, :DIM], latents[:, t], atol=1e-6, rtol=1e-5)


def test_update__goes_on_from_a_state_that_was_kept(batch):
    model, frames = stacking(3).eval(), batch["frames"]
    state = model.update(model.update(model.update(None, None, frames[:, 0]), None, frames[:, 1]), None, frames[:, 2])
    kept = state.clone()
    here, there = model.update(state, None, frames[:, 3]), model.update(state, None, frames[:, 4])
    assert torch.equal(state, kept)
    assert not torch.allclose(here[:, :DIM], there[:, :DIM])
    torch.testing.assert_close(there[:, :DIM], model.encode(frames[:, [1, 2, 4]])[:, 2])


def test_loss__begins_where_every_frame_that_a_latent_is_made_of_was_seen(batch):
    recorder, predictor = Recorder(), Identity()
    model = stacking(3, {"recorder": recorder}, predictor=predictor).eval()
    model.loss(batch)
    views = recorder.views
    torch.testing.assert_close(views.latents, model.encode(batch["frames"])[:, 2:])
    assert torch.equal(predictor.context, views.latents[:, :1])
    torch.testing.assert_close(views.predictions, views.latents[:, :1].expand(-1, 3, -1))
    torch.testing.assert_close(
        views.actions * torch.tensor(ACTION_STD) + torch.tensor(ACTION_MEAN), batch["actions"][:, 2:]
    )
    mean, std = (torch.tensor(x).view(2, 1, 1) for x in (FRAME_MEAN, FRAME_STD))
    torch.testing.assert_close(views.frames, (batch["frames"][:, 2:].float() - mean) / std)
    assert torch.equal(views.factors["location"], batch["factors.location"][:, 2:])


def test_loss__of_several_frames_draws_one(batch):
    model = stacking(2, all_objectives(), decoder=DepthToSpace(FRAME, DIM, width=3))
    terms = model.loss(batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert model.decode(model.encode(batch["frames"])).shape == batch["frames"].shape


@pytest.mark.parametrize("frames", [0, -1, 1.5, "two", None])
def test_encoder_predictor__refuses_a_number_of_frames_that_is_none(frames):
    with pytest.raises(ValueError, match=f"frames must be an integer of at least 1, got {frames!r}"):
        make(frames=frames)


# Prediction


def test_predict__takes_actions_in_the_units_of_the_environment(batch):
    model = make()
    context = torch.randn(8, 3, DIM)
    normalised = (batch["actions"] - torch.tensor([1.0, -2.0])) / torch.tensor([0.5, 4.0])
    predictions = model.predict(context, batch["actions"])
    assert predictions.shape == (8, 4, DIM)
    torch.testing.assert_close(predictions, model.predictor(context, normalised))


# Decoding


def test_decode__draws_on_the_scale_of_frames_and_clamps():
    model = make(decoder=nn.Unflatten(1, (2, 1, 3)))  # the latent is the normalised frame
    latents = torch.tensor([[[-100.0, 0.0, 1.0, -100.0, 2.0, 100.0]]])
    frames = model.decode(latents)
    assert frames.shape == (1, 1, 2, 1, 3)
    assert frames.flatten().tolist() == [0.0, 20.0, 50.0, 0.0, 160.0, 255.0]


def test_decode__maps_sequences_of_latents_to_sequences_of_frames():
    model, latents = drawing().eval(), torch.randn(3, 4, DIM)
    frames = model.decode(latents)
    assert frames.shape == (3, 4, *FRAME)
    torch.testing.assert_close(model.decode(latents[1:2, 2:3])[0, 0], frames[1, 2])


def test_decode__says_that_there_is_no_decoder():
    with pytest.raises(NoDecoder, match="EncoderPredictor has no decoder"):
        make().decode(torch.randn(1, 1, DIM))


# The loss


def test_loss__shows_objectives_the_batch_as_the_model_sees_it(batch):
    recorder, predictor = Recorder(), Identity()
    model = drawing({"recorder": recorder}, predictor=predictor).eval()
    assert model.loss(batch) == {}
    views, latents = recorder.views, model.encode(batch["frames"])
    torch.testing.assert_close(views.latents, latents)
    assert torch.equal(predictor.context, views.latents[:, :1])  # open loop, from the first latent alone
    torch.testing.assert_close(views.predictions, latents[:, :1].expand(8, 5, DIM))
    torch.testing.assert_close(views.actions, predictor.actions)
    torch.testing.assert_close(views.actions * torch.tensor(ACTION_STD) + torch.tensor(ACTION_MEAN), batch["actions"])
    mean, std = (torch.tensor(x).view(2, 1, 1) for x in (FRAME_MEAN, FRAME_STD))
    torch.testing.assert_close(views.frames, (batch["frames"].float() - mean) / std)
    assert views.factors.keys() == {"location", "location.moved"}
    assert torch.equal(views.factors["location.moved"], batch["factors.location.moved"])
    drawn = views.decode(latents)  # normalised, as the frames beside it are
    torch.testing.assert_close((drawn * std + mean).clamp(0, 255), model.decode(latents))


def test_loss__predictions_begin_with_the_first_latent_and_are_those_of_predict(batch):
    recorder = Recorder()
    model = make({"recorder": recorder}).eval()
    model.loss(batch)
    views = recorder.views
    assert torch.equal(views.predictions[:, 0], views.latents[:, 0])
    torch.testing.assert_close(views.predictions[:, 1:], model.predict(views.latents[:, :1], batch["actions"]))


def test_loss__predictions_train_the_predictor_and_the_encoder_of_the_first_frame(batch):
    model = make({"prophecy": Prophecy()}, encoder=nn.Sequential(nn.Flatten(), nn.Linear(192, DIM)))
    model.loss(batch)["prophecy"].backward()
    ours = model.encoder[1].weight.grad
    assert ours.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.predictor.parameters())
    batch["frames"][:, 1:] = 0  # which no prediction sees
    model.zero_grad()
    model.loss(batch)["prophecy"].backward()
    torch.testing.assert_close(model.encoder[1].weight.grad, ours)


def test_loss__has_no_decode_without_a_decoder(batch):
    recorder = Recorder()
    make({"recorder": recorder}).loss(batch)
    assert recorder.views.decode is None


def test_loss__merges_the_terms_of_all_objectives(batch):
    model = drawing(all_objectives())
    terms = model.loss(batch)
    names = {"invariance", "variance", "covariance", *all_objectives()} - {"vicreg"}
    assert terms.keys() == names
    weighted_sum(terms, dict.fromkeys(names, 1.0)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_loss__refuses_two_terms_of_one_name(batch):
    with pytest.raises(ValueError, match=r"two objectives have terms named \['infonce'\]"):
        make({"time": InfoNCE(negatives="time"), "batch": InfoNCE()}).loss(batch)


def test_loss__is_empty_without_objectives(batch):
    assert make().loss(batch) == {}


# Targets of a slower encoder


def test_loss__has_no_targets_without_a_momentum(batch):
    recorder = Recorder()
    model = make({"recorder": recorder})
    model.loss(batch)
    assert recorder.views.targets is None
    assert not any(name.startswith("target") for name in model.state_dict())


def test_target__follows_the_encoder_after_every_step_and_rests_otherwise(batch):
    recorder = Recorder()
    model = make({"recorder": recorder}, momentum=0.9)
    slow, fast = (list(encoder.parameters()) for encoder in (model.target, model.encoder))
    assert all(torch.equal(*pair) for pair in zip(slow, fast, strict=True))  # begins as a copy
    before = [parameter.clone() for parameter in slow]
    for parameter in fast:
        torch.nn.init.normal_(parameter)
    model.train().loss(batch)
    assert all(torch.equal(*pair) for pair in zip(slow, before, strict=True))
    model.after_step()
    expected = [0.9 * old + 0.1 * new for old, new in zip(before, fast, strict=True)]
    torch.testing.assert_close(slow, expected)
    model.eval().loss(batch)
    normalised = (batch["frames"] - model.frame_mean) / model.frame_std
    torch.testing.assert_close(recorder.views.targets, model.target(normalised.flatten(0, 1)).view(8, 5, DIM))
    torch.testing.assert_close(recorder.views.latents, model.encode(batch["frames"]))  # are still the encoder's


def test_target__learns_from_no_gradient(batch):
    model = make({"prophecy": Prophecy(), "self_prediction": SelfPrediction()}, momentum=0.5)
    torch.stack(list(model.loss(batch).values())).sum().backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.parameters())


@pytest.mark.parametrize(("momentum", "moved"), [(1, False), (0, True)])
def test_target__of_an_extreme_momentum_rests_or_is_the_encoder(momentum, moved, batch):
    model = make({"recorder": Recorder()}, momentum=momentum)
    torch.nn.init.normal_(model.encoder.head.weight)
    model.after_step()
    assert torch.equal(model.target.head.weight, model.encoder.head.weight) == moved


def test_target__has_statistics_of_its_own_which_follow_in_training_and_rest_otherwise(batch):
    model = make({"recorder": Recorder()}, momentum=0)
    model.after_step()
    model.loss(batch)
    found = [dict(encoder.named_buffers()) for encoder in (model.target, model.encoder)]
    torch.testing.assert_close(*found)  # of the same weights on the same frames
    assert all(x is not found[1][name] for name, x in found[0].items())
    before = {name: x.clone() for name, x in model.target.named_buffers()}
    model.eval().loss(batch)
    torch.testing.assert_close(dict(model.target.named_buffers()), before, rtol=0, atol=0)


def test_encoder_predictor__refuses_targets_that_no_objective_uses():
    with pytest.raises(ValueError, match="no objective says that it uses them"):
        make({"vicreg": VICReg()}, momentum=0.9)
    nested = Part(SelfPrediction(), 0.0, 0.5, "first")
    assert make({"part": nested}, momentum=0.9).target is not None


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan"), "slow", True])
def test_encoder_predictor__refuses_a_momentum_that_is_none(momentum):
    with pytest.raises(ValueError, match=rf"momentum must be in \[0, 1\], or None, got {momentum!r}"):
        make(momentum=momentum)


# Mixed precision


@pytest.mark.parametrize("bf16", [True, False])
def test_loss__statistics_are_those_of_float32_under_autocast(bf16, batch):
    recorder = Recorder()
    model = drawing({"recorder": recorder, **all_objectives()})
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        terms = model.loss(batch)
        assert torch.is_autocast_enabled("cpu") == bf16  # as it was
    views = recorder.views
    assert recorder.dtype == recorder.drawn.dtype == torch.float32
    assert (views.latents.bfloat16().float() == views.latents).all() == bf16  # what the encoder computed in
    assert {x.dtype for x in (views.latents, views.predictions, views.actions, views.frames)} == {torch.float32}
    expected = {}
    for objective in model.objectives.values():
        expected |= objective(views)  # the same latents, outside of autocast
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, expected[name]), name


@pytest.mark.parametrize("bf16", [True, False])
def test_loss__networks_compute_in_the_precision_of_the_caller(bf16, batch):
    model = drawing({"reconstruction": Reconstruction()})
    found = {}
    for name in ("encoder", "predictor", "decoder"):
        part = getattr(model, name)
        part.register_forward_hook(lambda module, args, output, name=name: found.update({name: output.dtype}))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model.loss(batch)
    assert set(found.values()) == {torch.bfloat16 if bf16 else torch.float32}
    assert len(found) == 3


def test_loss__stays_finite_under_autocast(batch):
    model = drawing(all_objectives())
    weights = dict.fromkeys({"invariance", "variance", "covariance", *all_objectives()} - {"vicreg"}, 1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            terms = model.loss(batch)
        loss = weighted_sum(terms, weights)
        optimizer.zero_grad()
        loss.backward()
        assert all(torch.isfinite(term) for term in terms.values())
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# State


def test_encoder_predictor__keeps_its_statistics_with_its_weights(batch):
    model = drawing(all_objectives()).eval()
    other = drawing(
        all_objectives(), frame_mean=[0.0, 0.0], frame_std=[1.0, 1.0], action_mean=[0.0, 0.0], action_std=[1.0, 1.0]
    ).eval()
    latents = model.encode(batch["frames"])
    assert not torch.allclose(other.encode(batch["frames"]), latents, atol=1e-2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encode(batch["frames"]), latents)
    assert torch.equal(other.predict(latents[:, :1], batch["actions"]), model.predict(latents[:, :1], batch["actions"]))
    assert torch.equal(other.decode(latents), model.decode(latents))
    torch.testing.assert_close(other.loss(batch), model.loss(batch))


def test_encoder_predictor__knows_the_size_of_its_latents(batch):
    model = make()
    assert model.latent_dim == DIM == model.encode(batch["frames"]).shape[-1]


def test_world_model__is_abstract():
    with pytest.raises(TypeError, match=r"abstract method.*encode.*loss.*predict"):
        WorldModel()
