from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from agents.costs.core import Aims, Imagined
from agents.costs.latent_distance import LatentDistance
from agents.decoders.depth_to_space import DepthToSpace
from agents.encoders.space_to_depth import SpaceToDepth
from agents.objectives.core import weighted_sum
from agents.objectives.kl import KL, BalancedKL
from agents.objectives.likelihood import Likelihood
from agents.world_models.rssm import RSSM
from agents.world_models.stochastic import Categorical, Gaussian

FRAME, DIM, MEMORY = (2, 8, 12), 10, 4
FRAME_MEAN, FRAME_STD = [20.0, 60.0], [30.0, 50.0]
ACTION_MEAN, ACTION_STD = [1.0, -2.0], [0.5, 4.0]
FAMILIES = [Gaussian(DIM - MEMORY), Categorical(2, 3)]
BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["gaussian", "categorical"])


def make(family=FAMILIES[0], objectives=None, frames=1, **parts):
    channels, *size = FRAME
    parts = {
        "encoder": SpaceToDepth((frames * channels, *size), DIM, width=8),
        "decoder": DepthToSpace(FRAME, DIM, width=3),
        "objectives": objectives or {"likelihood": Likelihood(), "kl": BalancedKL(0.0)},
        "stochastic": family,
        "latent_dim": DIM,
        "action_dim": 2,
        "hidden_dim": 7,
        "frame_mean": FRAME_MEAN,
        "frame_std": FRAME_STD,
        "action_mean": ACTION_MEAN,
        "action_std": ACTION_STD,
        **parts,
    }
    model = RSSM(frames=frames, **parts)
    nn.init.normal_(model.first)  # as if it had learned
    return model


@pytest.fixture
def batch():
    return {
        "frames": torch.randint(0, 256, (8, 5, *FRAME), dtype=torch.uint8),
        "actions": torch.randn(8, 4, 2) * 3,
        "factors.location": torch.randn(8, 5, 2),
    }


class Recorder(nn.Module):
    """An objective that keeps what it sees."""

    def forward(self, views):
        self.views = views
        return {"nothing": views.latents.new_zeros(())}


# The model by hand: one step after the other, with the same weights


def normalised(batch):
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (FRAME_MEAN, FRAME_STD))
    return (batch["frames"] - mean) / std, (batch["actions"] - torch.tensor(ACTION_MEAN)) / torch.tensor(ACTION_STD)


def gru(model, inputs, h):
    """Cho et al. (2014), as torch documents it."""
    cell = model.cell
    given = (inputs @ cell.weight_ih.T + cell.bias_ih).chunk(3, dim=-1)
    kept = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, dim=-1)
    reset, update = (given[0] + kept[0]).sigmoid(), (given[1] + kept[1]).sigmoid()
    return update * h + (1 - update) * (given[2] + reset * kept[2]).tanh()


def activated(x):
    """Layer norms as they begin, and ELU."""
    return F.elu((x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt())


def memory_after(model, h, s, action):
    weight = torch.cat([model.from_state.weight, model.from_action.weight], dim=1)  # of [s, a]
    return gru(model, activated(torch.cat([s, action], dim=-1) @ weight.T + model.from_state.bias), h)


def posterior(model, h, embedding):
    weight = torch.cat([model.from_memory.weight, model.from_embedding.weight], dim=1)  # of [h, e]
    return model.posterior[-1](activated(torch.cat([h, embedding], dim=-1) @ weight.T + model.from_memory.bias))


def filtered(model, batch, draw):
    """h, s and the posterior of every step, [B, T, ·]; draw(raw, t) makes a state of a posterior."""
    frames, actions = normalised(batch)
    steps = []
    h = model.first.tanh().expand(8, -1)
    for t in range(frames.shape[1]):
        if t:
            h = memory_after(model, *steps[-1][:2], actions[:, t - 1])
        raw = posterior(model, h, model.encoder(frames[:, t]))
        steps.append((h, draw(raw, t), raw))
    return [torch.stack(x, dim=1) for x in zip(*steps, strict=True)]


class Given(nn.Module):
    """An encoder that gives what it gave for all steps at once, [B, T, D], step by step."""

    def __init__(self, embeddings):
        super().__init__()
        self.steps = iter(embeddings.unbind(dim=1))

    def forward(self, frames):
        return next(self.steps)


# Filtering


@BOTH
def test_encode__filters_step_by_step(family, batch):
    model = make(family).eval()
    h, s, _ = filtered(model, batch, lambda raw, t: family.mean(raw))
    found = model.encode(batch["frames"], batch["actions"])
    assert found.shape == (8, 5, DIM) and found.dtype == torch.float32
    torch.testing.assert_close(found, torch.cat([h, s], dim=-1))


@BOTH
def test_encode__is_deterministic_and_leaves_the_random_state_alone(family, batch):
    model = make(family).eval()
    before = torch.get_rng_state()
    latents = model.encode(batch["frames"], batch["actions"])
    rollout = model.predict(latents[:, :1], batch["actions"])
    model.update(None, None, batch["frames"][:, 0])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.encode(batch["frames"], batch["actions"]), latents)
    assert torch.equal(model.predict(latents[:, :1], batch["actions"]), rollout)


@BOTH
def test_encode__a_latent_knows_the_past_and_not_the_future(family, batch):
    model = make(family).eval()
    frames, actions = batch["frames"], batch["actions"]
    latents = model.encode(frames, actions)
    for changed in ((frames.roll(1, 0), actions), (frames, actions.roll(1, 0))):
        mixed = (
            torch.cat([frames[:, :2], changed[0][:, 2:3], frames[:, 3:]], dim=1),
            torch.cat([actions[:, :1], changed[1][:, 1:2], actions[:, 2:]], dim=1),  # that leads to frame 2
        )
        difference = (model.encode(*mixed) - latents).abs().amax(dim=(0, 2))
        assert (difference[:2] == 0).all() and (difference[2:] > 0).all()


def test_encode__the_first_latent_is_what_one_frame_tells(batch):
    model = make().eval()
    alone = model.encode(batch["frames"][:, :1])
    torch.testing.assert_close(alone, model.encode(batch["frames"], batch["actions"])[:, :1])
    assert torch.equal(alone[..., :MEMORY], model.first.tanh().expand(8, 1, -1))
    assert alone[..., MEMORY:].std(dim=0).min() > 0


def test_encode__of_a_sequence_needs_its_actions(batch):
    with pytest.raises(ValueError, match="to encode more than one frame it needs the actions between them"):
        make().encode(batch["frames"])


@pytest.mark.parametrize("frames", [1, 2, 3])
@BOTH
def test_update__feeding_frames_one_at_a_time_is_encoding_the_sequence(family, frames, batch):
    model = make(family, frames=frames).eval()
    latents = model.encode(batch["frames"], batch["actions"])
    state = None
    for t in range(5):
        state = model.update(state, batch["actions"][:, t - 1] if t else None, batch["frames"][:, t])
        assert state.shape == (8, DIM + (frames - 1) * 2 * 8 * 12)
        torch.testing.assert_close(state[:, :DIM], latents[:, t])


# Goals


@BOTH
def test_achieved_goal__is_the_stochastic_state(family):
    latents = torch.randn(3, 2, DIM)
    assert torch.equal(make(family).achieved_goal(latents), latents[..., MEMORY:])


@BOTH
def test_achieved_goal__of_a_frame_is_the_same_after_any_past(family, batch):
    """Where the posterior goes by frames alone, seeing the goal is having achieved it; memories are far apart."""
    model = make(family).eval()
    nn.init.zeros_(model.from_memory.weight)
    seen, alone = model.encode(batch["frames"], batch["actions"])[:, -1], model.encode(batch["frames"][:, -1:])[:, 0]
    distance = LatentDistance("l2", "last")

    def far(achieved, goal):
        rows = achieved[:, None, None]  # [B, N, H, G]
        return distance(Imagined(rows, rows, achieved, Aims(goal=goal), rows))

    assert far(model.achieved_goal(seen), model.achieved_goal(alone)).max() < 1e-5
    assert far(seen, alone).min() > 0.1
    assert far(model.achieved_goal(seen), model.achieved_goal(alone).roll(1, 0)).min() > 1e-3


# Imagination


@BOTH
def test_predict__imagines_with_the_prior_from_the_last_latent(family, batch):
    model = make(family).eval()
    _, actions = normalised(batch)
    context = model.encode(batch["frames"], batch["actions"])[:, :3]
    h, s = context[:, -1, :MEMORY], context[:, -1, MEMORY:]
    expected = []
    for t in range(4):
        h = memory_after(model, h, s, actions[:, t])
        s = family.mean(model.prior(h))
        expected.append(torch.cat([h, s], dim=-1))
    found = model.predict(context, batch["actions"])
    torch.testing.assert_close(found, torch.stack(expected, dim=1))
    torch.testing.assert_close(model.predict(context[:, -1:], batch["actions"][:, :2]), found[:, :2])


def test_decode__draws_on_the_scale_of_frames():
    model = make().eval()
    latents = torch.randn(3, 4, DIM)
    images = model.decoder(latents.flatten(0, 1)).unflatten(0, (3, 4))
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (FRAME_MEAN, FRAME_STD))
    torch.testing.assert_close(model.decode(latents), (images * std + mean).clamp(0, 255))


# Loss


def test_loss__is_the_evidence_lower_bound_by_hand(batch):
    family = FAMILIES[0]
    model = make(family, {"likelihood": Likelihood(), "kl": KL(0.0)})
    torch.manual_seed(3)
    terms = model.loss(batch)
    torch.manual_seed(3)
    noise = torch.randn(8, 5, family.size)
    frames, _ = normalised(batch)
    embeddings = model.encoder(frames.flatten(0, 1)).unflatten(0, (8, 5))  # the statistics are those of the batch
    model.encoder = Given(embeddings)

    def normal(raw):
        return Independent(Normal(raw[..., : family.size], F.softplus(raw[..., family.size :]) + 0.1), 1)

    def drawn(raw, t):
        distribution = normal(raw).base_dist
        return distribution.mean + distribution.stddev * noise[:, t]

    h, s, raw = filtered(model, batch, drawn)
    images = model.decoder(torch.cat([h, s], dim=-1).flatten(0, 1)).unflatten(0, (8, 5))
    expected = {
        "reconstruction": 0.5 * (images - frames).square().sum() / 40,
        "kl": kl_divergence(normal(raw), normal(model.prior(h))).mean(),
    }
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-4)


@BOTH
def test_loss__shows_objectives_samples_and_what_was_expected(family, batch):
    recorder = Recorder()
    model = make(family, {"recorder": recorder}).eval()
    model.loss(batch)
    views = recorder.views
    beliefs = views.beliefs
    h = views.latents[..., :MEMORY]
    assert views.latents.shape == views.predictions.shape == (8, 5, DIM)
    assert torch.equal(views.predictions[:, 0], views.latents[:, 0])
    assert torch.equal(views.predictions[:, 1:, :MEMORY], h[:, 1:])
    torch.testing.assert_close(views.predictions[:, 1:, MEMORY:], family.mean(beliefs.prior)[:, 1:])
    torch.testing.assert_close(beliefs.prior, model.prior(h))
    torch.testing.assert_close(beliefs.divergence(beliefs.prior, beliefs.prior), torch.zeros(8, 5))
    assert not torch.equal(views.latents[..., MEMORY:], family.mean(beliefs.posterior))
    frames, actions = normalised(batch)
    torch.testing.assert_close((views.frames, views.actions), (frames, actions))
    assert torch.equal(views.factors["location"], batch["factors.location"])
    torch.testing.assert_close(views.imagine(actions[None])[0], model.predict(views.latents[:, :1], batch["actions"]))
    torch.testing.assert_close(views.decode(views.latents), model._decode(views.latents))
    assert model.loss(batch).keys() == {"nothing"}
    assert not torch.equal(recorder.views.latents, views.latents)  # sampled anew


@pytest.mark.parametrize("frames", [2, 3])
def test_loss__begins_where_every_frame_that_the_encoder_sees_was_seen(frames, batch):
    recorder = Recorder()
    model = make(objectives={"recorder": recorder}, frames=frames).eval()
    model.loss(batch)
    views, first = recorder.views, frames - 1
    seen, actions = normalised(batch)
    assert views.latents.shape == views.predictions.shape == (8, 5 - first, DIM)
    assert views.beliefs.prior.shape == views.beliefs.posterior.shape == (8, 5 - first, 2 * (DIM - MEMORY))
    torch.testing.assert_close((views.frames, views.actions), (seen[:, first:], actions[:, first:]))
    assert torch.equal(views.factors["location"], batch["factors.location"][:, first:])
    small = make(Gaussian(DIM - MEMORY, min_std=1e-6), {"recorder": recorder}, frames=frames).eval()
    small.posterior[-1].bias.data[DIM - MEMORY :] = -50.0  # certain posteriors: a sample is what is expected
    small.loss(batch)
    expected = small.encode(batch["frames"], batch["actions"])[:, first:]
    torch.testing.assert_close(recorder.views.latents, expected, atol=1e-3, rtol=1e-3)


def reached(model, term):
    """The parts that a term trains."""
    model.zero_grad(set_to_none=True)
    term.backward()
    return {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


WITH_FRAME = {"first", "encoder", "from_memory", "from_embedding", "posterior"}
OVER_TIME = {"from_state", "from_action", "inner", "cell"}


@BOTH
def test_loss__reconstruction_trains_posterior_and_memory_through_the_samples(family, batch):
    model = make(family)
    assert reached(model, model.loss(batch)["reconstruction"]) == WITH_FRAME | OVER_TIME | {"decoder"}


@BOTH
def test_loss__kl_trains_prior_posterior_and_memory(family, batch):
    model = make(family)
    assert reached(model, model.loss(batch)["kl_dynamics"]) == WITH_FRAME | OVER_TIME | {"prior"}
    assert reached(model, model.loss(batch)["kl_representation"]) == WITH_FRAME | OVER_TIME
    whole = make(family, {"kl": KL(0.0)})
    assert reached(whole, whole.loss(batch)["kl"]) == WITH_FRAME | OVER_TIME | {"prior"}


@BOTH
def test_loss__at_a_single_step_either_half_of_the_kl_trains_one_side(family, batch):
    model = make(family)
    single = {"frames": batch["frames"][:, :1], "actions": batch["actions"][:, :0]}
    assert reached(model, model.loss(single)["kl_dynamics"]) == {"first", "prior"}
    assert reached(model, model.loss(single)["kl_representation"]) == WITH_FRAME


@BOTH
def test_loss__every_parameter_is_trained(family, batch):
    model = make(family)
    sum(model.loss(batch).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@BOTH
def test_loss__under_autocast_is_in_float32_what_networks_said_in_bfloat16(family, batch):
    recorder = Recorder()
    model = make(family, {"recorder": recorder, "likelihood": Likelihood(), "kl": BalancedKL(0.0)})
    said = {}
    for name in ("encoder", "prior", "posterior", "decoder", "from_state"):
        part = getattr(model, name)
        part.register_forward_hook(lambda module, inputs, output, name=name: said.update({name: output.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(batch)
    views = recorder.views
    assert set(said.values()) == {torch.bfloat16} and len(said) == 5
    assert {x.dtype for x in (views.latents, views.predictions, views.beliefs.prior)} == {torch.float32}
    assert {x.dtype for x in terms.values()} == {torch.float32}
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


# Learning


@BOTH
def test_rssm__learns_to_imagine_where_a_bar_goes(family):
    """One of three places, which the first frame tells and actions change: nothing else tells the later ones."""
    moves = torch.randint(0, 3, (32, 2))
    places = torch.cat([torch.randint(0, 3, (32, 1)), moves], dim=1).cumsum(dim=1) % 3  # [32, 3]
    rows = F.one_hot(places, 3).repeat_interleave(4, dim=-1) * 100  # [32, 3, 12]
    frames = rows.to(torch.uint8)[:, :, None, None].expand(-1, -1, *FRAME[:2], -1)
    batch = {"frames": frames, "actions": F.one_hot(moves, 3)[..., 1:].float()}
    networks = {"encoder": SpaceToDepth(FRAME, 38, width=8), "decoder": DepthToSpace(FRAME, 38, width=3)}
    model = make(family, latent_dim=38, hidden_dim=32, action_mean=[0.0, 0.0], action_std=[1.0, 1.0], **networks)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        weighted_sum(model.loss(batch), {"reconstruction": 1, "kl_dynamics": 5, "kl_representation": 0.1}).backward()
        optimizer.step()
    model.eval()
    imagined = model.decode(model.predict(model.encode(frames[:, :1]), batch["actions"]))
    blind = frames.float().mean(dim=(0, 1)).expand_as(imagined)
    errors = [(drawn - frames[:, 1:]).square().mean().sqrt().item() for drawn in (imagined, blind)]
    assert errors[0] < errors[1] / 4


# State


def test_rssm__keeps_its_statistics_with_its_weights(batch):
    model = make().eval()
    other = make(frame_mean=[0.0, 0.0], frame_std=[1.0, 1.0], action_mean=[0.0, 0.0], action_std=[1.0, 1.0]).eval()
    latents = model.encode(batch["frames"], batch["actions"])
    assert not torch.allclose(other.encode(batch["frames"], batch["actions"]), latents, atol=1e-2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encode(batch["frames"], batch["actions"]), latents)
    assert torch.equal(other.predict(latents, batch["actions"]), model.predict(latents, batch["actions"]))


@pytest.mark.parametrize("latent_dim", [5, 6])
def test_rssm__refuses_latents_without_room_for_a_memory(latent_dim):
    with pytest.raises(ValueError, match=rf"latent_dim must be above the 6 numbers of the .* state, got {latent_dim}"):
        make(latent_dim=latent_dim)
