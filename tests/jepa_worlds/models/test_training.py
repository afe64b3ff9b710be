"""The training loop: its schedule, its guards, and states that can be taken up again to the bit."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from agents.encoders.space_to_depth import SpaceToDepth
from agents.objectives.core import Terms
from agents.optimizers.lars import LARS
from agents.world_models.core import Batch, WorldModel
from jepa_worlds.data.dataset import Dataset
from jepa_worlds.data.windows import Windows
from jepa_worlds.models.checkpoint import load_tensors, save_tensors
from jepa_worlds.models.training import STATE, Schedule, Trainer, diagnose
from jepa_worlds.shared.runs import read_metrics
from jepa_worlds.shared.signals import Stop

Settings = dict[str, float | int]
SETTINGS: Settings = {
    "steps": 6,
    "batch_size": 8,
    "seed": 0,
    "warmup": 0.0,
    "clip": math.inf,
    "log_every": 1,
    "diagnose_every": 100,
    "save_every": 100,
}


def schedule(**changes: float | int) -> Schedule:
    return Schedule(**{**SETTINGS, **changes})  # type: ignore[arg-type]


class Noisy(WorldModel):
    """A small model whose loss draws random numbers and whose weights are in the layout of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 6
        self.encoder = SpaceToDepth((1, 28, 28), self.latent_dim, width=8)
        self.predictor = nn.Linear(self.latent_dim + 2, self.latent_dim)

    def encode(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return self.encoder(frames.flatten(0, 1) / 255).unflatten(0, frames.shape[:2])

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        predictions = [latents[:, -1]]
        for t in range(actions.shape[1]):
            predictions.append(self.predictor(torch.cat([predictions[-1], actions[:, t]], dim=-1)))
        return torch.stack(predictions[1:], dim=1)

    def loss(self, batch: Batch) -> Terms:
        latents = self.encode(batch["frames"])
        noise = torch.randn_like(latents[:, 1:])
        predictions = self.predict(latents[:, :1], batch["actions"])
        return {
            "prediction": (predictions - latents[:, 1:] + 0.1 * noise).square().mean(),
            "size": latents.abs().mean(),
        }


WEIGHTS = {"prediction": 2.0, "size": 0.5}
OPTIMIZERS: dict[str, Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, fused=True),
    "adamw_foreach": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, foreach=True, amsgrad=True),
    "lars": lambda parameters: LARS(parameters, lr=0.5),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2),
    "sgd_momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, nesterov=True),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def windows(dataset_path: Path) -> dict[str, Windows]:
    dataset = Dataset(dataset_path)
    return {"train": Windows(dataset, "train", 9), "validation": Windows(dataset, "validation", 9)}


def trainer(optimizer: str = "adamw", **changes: float | int) -> Trainer:
    torch.manual_seed(0)
    model = Noisy()
    return Trainer(model, WEIGHTS, OPTIMIZERS[optimizer](model.parameters()), schedule(**changes))


def fit(made: Trainer, windows: dict[str, Windows], run: Path) -> Trainer:
    made.fit(windows["train"], windows["validation"], run, None)
    return made


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    state, others = one.state_dict(), other.state_dict()
    assert state.keys() == others.keys()
    different = [name for name in state if not torch.equal(state[name], others[name])]
    assert not different, different


class Interrupted(Exception):
    pass


def interrupt_at(made: Trainer, step: int) -> None:
    original = made.train_step

    def train_step(batch: Batch) -> dict[str, Tensor]:
        if made.step == step:
            raise Interrupted
        return original(batch)

    made.train_step = train_step  # type: ignore[method-assign]


# --- compilation


def test_trainer__compiles_every_model_of_a_process(
    windows: dict[str, Windows], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, losses, compile_ = list[int](), list[Tensor](), torch.compile

    def counted(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(len(losses))
        return module.forward

    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend=counted))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)
    batch = windows["train"].batch(0, 4, 0)
    for compiled in (False, True, True):
        torch.manual_seed(0)
        model = Noisy()
        made = Trainer(model, WEIGHTS, OPTIMIZERS["sgd"](model.parameters()), schedule(), compiled=compiled)
        losses.append(made.train_step(batch)["loss"])
    assert set(graphs) == {1, 2}
    torch.testing.assert_close(losses, [losses[0]] * 3)


# --- schedule


def test_schedule__warms_up_linearly_then_falls_along_a_cosine_to_a_thousandth() -> None:
    made = schedule(steps=100, warmup=0.1)
    assert [made.factor(step) for step in (0, 4, 9)] == pytest.approx([1 / 11, 5 / 11, 10 / 11])
    assert made.factor(10) == 1
    assert made.factor(55) == pytest.approx(0.5005)  # half way down
    assert made.factor(40) == pytest.approx(0.001 + 0.999 * 0.75)  # a third: (1 + cos 60°) / 2
    assert made.factor(100) == pytest.approx(0.001)
    rates = [made.factor(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_schedule__starts_at_the_peak_without_warm_up() -> None:
    assert schedule(steps=10, warmup=0).factor(0) == 1
    assert schedule(steps=1, warmup=0).factor(0) == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", -1, "at least 0"),
        ("steps", 1.5, "an integer"),
        ("batch_size", 1, "at least 2"),
        ("seed", -1, "at least 0"),
        ("log_every", 0, "at least 1"),
        ("diagnose_every", 0, "at least 1"),
        ("save_every", 0, "at least 1"),
        ("save_every", "often", "an integer"),
        ("warmup", 1, r"in \[0, 1\)"),
        ("warmup", -0.1, r"in \[0, 1\)"),
        ("warmup", "long", r"in \[0, 1\)"),
        ("clip", 0, "a positive number"),
        ("clip", math.nan, "a positive number"),
        ("clip", None, "a positive number"),
    ],
)
def test_schedule__refuses_numbers_out_of_range(name: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} .*{expected}.* got {value!r}"):
        schedule(**{name: value})  # type: ignore[arg-type]


# --- a step


def test_train_step__minimises_the_weighted_sum_of_the_terms(windows: dict[str, Windows]) -> None:
    made = trainer()
    numbers = made.train_step(windows["train"].batch(0, 8, 0))
    assert numbers.keys() == {"prediction", "size", "loss", "gradient"}
    assert float(numbers["loss"]) == pytest.approx(2 * float(numbers["prediction"]) + 0.5 * float(numbers["size"]))
    assert made.step == 1


def test_train_step__refuses_weights_that_do_not_match_the_terms(windows: dict[str, Windows]) -> None:
    made = trainer()
    made.weights = {"prediction": 1.0}
    with pytest.raises(ValueError, match=r"terms \['prediction', 'size'\], the configuration weights \['prediction'\]"):
        made.train_step(windows["train"].batch(0, 8, 0))


def test_train_step__sets_the_rate_of_every_group_to_its_share_of_its_peak(windows: dict[str, Windows]) -> None:
    model = Noisy()
    groups = [{"params": model.encoder.parameters(), "lr": 0.1}, {"params": model.predictor.parameters(), "lr": 0.3}]
    made = Trainer(model, WEIGHTS, torch.optim.SGD(groups), schedule(steps=4, warmup=0.5))
    for step in range(4):
        made.train_step(windows["train"].batch(step, 8, 0))
        factor = made.schedule.factor(step)
        assert [group["lr"] for group in made.optimizer.param_groups] == pytest.approx([0.1 * factor, 0.3 * factor])


@pytest.mark.parametrize("clip", [1e-3, math.inf])
def test_train_step__clips_the_norm_of_the_gradient(windows: dict[str, Windows], clip: float) -> None:
    made = trainer("sgd", clip=clip)
    before = [parameter.detach().clone() for parameter in made.model.parameters()]
    norm = float(made.train_step(windows["train"].batch(0, 8, 0))["gradient"])  # before clipping
    moved = [parameter.detach() - old for parameter, old in zip(made.model.parameters(), before, strict=True)]
    step = float(torch.stack([move.norm() for move in moved]).norm())
    assert norm > 1e-3
    assert step == pytest.approx(1e-2 * min(norm, clip), rel=1e-2)


def test_train_step__computes_in_bfloat16_if_asked_to(windows: dict[str, Windows]) -> None:
    seen = set()
    for bf16 in (False, True):
        made = trainer()
        made.bf16 = bf16
        hook = made.model.predictor.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        made.train_step(windows["train"].batch(0, 8, 0))
        hook.remove()
        assert seen == ({torch.float32, torch.bfloat16} if bf16 else {torch.float32})
        assert all(parameter.dtype == torch.float32 for parameter in made.model.parameters())


# --- going on


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit__goes_on_to_the_same_bits(optimizer: str, windows: dict[str, Windows], tmp_path: Path) -> None:
    whole = fit(trainer(optimizer, save_every=2), windows, tmp_path / "whole")
    for step in (3, 4, 5):  # killed between two saves, right after one, and before the last
        made = trainer(optimizer, save_every=2)
        interrupt_at(made, step)
        with pytest.raises(Interrupted):
            fit(made, windows, tmp_path / "parts")
    resumed = trainer(optimizer, save_every=2)
    torch.manual_seed(123)  # whatever was drawn before
    fit(resumed, windows, tmp_path / "parts")
    assert_same_weights(resumed.model, whole.model)
    rows = [read_metrics(tmp_path / name) for name in ("whole", "parts")]
    for row in (*rows[0], *rows[1]):
        row.pop("frames_per_second", None)
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0] if "train/loss" in row] == [1, 2, 3, 4, 5, 6]


def test_fit__logs_six_digits_of_terms_however_small(windows: dict[str, Windows], tmp_path: Path) -> None:
    made, seen = trainer(steps=1), list[dict[str, Tensor]]()
    original, train_step = made.loss, made.train_step
    made.loss = lambda batch: {name: 1e-9 * term for name, term in original(batch).items()}
    made.train_step = lambda batch: seen.append(train_step(batch)) or seen[-1]  # type: ignore
    fit(made, windows, tmp_path)
    [row] = [row for row in read_metrics(tmp_path) if "train/loss" in row]
    assert 0 < seen[0]["loss"] < 1e-7
    for name, number in seen[0].items():
        assert row[f"train/{name}"] == pytest.approx(float(number), rel=5e-6)
        assert row[f"train/{name}"] == float(f"{row[f'train/{name}']:.5e}")


def test_fit__sees_the_batches_of_its_steps(windows: dict[str, Windows], tmp_path: Path) -> None:
    seen: list[Tensor] = []
    for step in (3, None):
        made = trainer(save_every=1, seed=5)
        train_step = made.train_step
        made.train_step = lambda batch, train_step=train_step: seen.append(batch["actions"]) or train_step(batch)  # type: ignore
        if step is None:
            fit(made, windows, tmp_path)
        else:
            interrupt_at(made, step)
            with pytest.raises(Interrupted):
                fit(made, windows, tmp_path)
    assert len(seen) == 6
    for number, actions in enumerate(seen):
        assert torch.equal(actions, windows["train"].batch(number, 8, seed=5)["actions"])
    assert not torch.equal(seen[0], seen[1])


def test_fit__saves_at_the_last_step_whatever_save_every(windows: dict[str, Windows], tmp_path: Path) -> None:
    made = fit(trainer(steps=3, save_every=100), windows, tmp_path)
    state = load_tensors(tmp_path / STATE)
    assert int(state["step"]) == 3
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(state[f"model.{name}"], tensor)


def test_fit__has_nothing_left_to_do_at_the_last_step(windows: dict[str, Windows], tmp_path: Path) -> None:
    done = fit(trainer(steps=2), windows, tmp_path)
    again = trainer(steps=2)
    interrupt_at(again, 2)
    assert_same_weights(fit(again, windows, tmp_path).model, done.model)


def test_fit__does_not_depend_on_diagnostics_and_probes(windows: dict[str, Windows], tmp_path: Path) -> None:
    never = fit(trainer(diagnose_every=100), windows, tmp_path / "never")
    always = trainer(diagnose_every=1)
    probed: list[int] = []
    always.fit(windows["train"], windows["validation"], tmp_path / "always", lambda: probed.append(1) or {"probe": 1.0})
    assert len(probed) == 6
    assert_same_weights(never.model, always.model)
    rows = [row for row in read_metrics(tmp_path / "always") if "held_out/probe" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].keys() == {
        "step",
        *(f"held_out/{name}" for name in ("prediction", "size", "r_within", "rankme", "action_sensitivity", "probe")),
    }


def test_resume__keeps_the_memory_layout_on_which_fused_optimisers_rely(
    windows: dict[str, Windows], tmp_path: Path
) -> None:
    fit(trainer("adamw", steps=2), windows, tmp_path)
    resumed = trainer("adamw", steps=2)
    resumed.resume(tmp_path / STATE)
    layouts = set()
    for parameter, state in resumed.optimizer.state.items():
        assert state["exp_avg"].stride() == parameter.stride()
        layouts.add(parameter.ndim > 1 and not parameter.is_contiguous())
    assert layouts == {False, True}  # the model does have weights of either layout


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other_model", "no_step", "other_optimizer"])
def test_resume__says_which_state_it_cannot_go_on_from(
    damage: str, windows: dict[str, Windows], tmp_path: Path
) -> None:
    fit(trainer(steps=1), windows, tmp_path)
    file = tmp_path / STATE
    tensors = load_tensors(file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "foreign":
        save_tensors({"x": torch.zeros(3)}, file)
    elif damage == "other_model":
        save_tensors({name.replace("model.predictor", "model.other"): x for name, x in tensors.items()}, file)
    elif damage == "no_step":
        save_tensors({name: x for name, x in tensors.items() if name != "step"}, file)
    else:
        save_tensors({**tensors, "optimizer.99.exp_avg": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"cannot go on from .*training\.safetensors: .*[Rr]emove it to train"):
        trainer(steps=1).resume(file)


# --- guards


def diverge_at(made: Trainer, step: int, value: float = math.nan) -> None:
    original = made.loss

    def loss(batch: Batch) -> Terms:
        return {name: term * (value if made.step == step else 1) for name, term in original(batch).items()}

    made.loss = loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("often", [{"log_every": 1}, {"diagnose_every": 1}, {"save_every": 1}, {}])
def test_fit__stops_at_a_loss_that_is_not_finite(
    value: float, often: Settings, windows: dict[str, Windows], tmp_path: Path
) -> None:
    made = trainer(**{"log_every": 100, **often})
    diverge_at(made, 3, value)
    with pytest.raises(ValueError, match=r"not finite at step \d or just before.*lower optimizer\.lr or clip"):
        fit(made, windows, tmp_path)
    assert made.step == (4 if often else 6)
    assert all(math.isfinite(number) for row in read_metrics(tmp_path) for number in row.values())


def test_fit__stops_at_a_loss_that_is_not_finite_though_its_gradient_is(
    windows: dict[str, Windows], tmp_path: Path
) -> None:
    made = trainer()
    original = made.loss
    made.loss = lambda batch: {**original(batch), "size": torch.tensor(math.inf)}
    with pytest.raises(ValueError, match="not finite at step 1 or just before"):
        fit(made, windows, tmp_path)
    assert all(parameter.isfinite().all() for parameter in made.model.parameters())


def test_fit__keeps_the_last_good_state(windows: dict[str, Windows], tmp_path: Path) -> None:
    made = trainer(save_every=2, log_every=100)
    diverge_at(made, 4)
    with pytest.raises(ValueError, match=rf"the last good state is kept in {tmp_path / STATE}"):
        fit(made, windows, tmp_path)
    state = load_tensors(tmp_path / STATE)
    assert int(state["step"]) == 4
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert_same_weights(
        fit(trainer(save_every=2, log_every=100), windows, tmp_path).model,
        fit(trainer(save_every=2, log_every=100), windows, tmp_path / "healthy").model,
    )


def test_fit__keeps_no_weights_that_overflowed_under_a_finite_loss(windows: dict[str, Windows], tmp_path: Path) -> None:
    made = trainer("sgd", steps=1)
    made.peaks, made.weights = [3e38], {"prediction": 1e3, "size": 1e3}
    with pytest.raises(ValueError, match="the weights are not finite at step 1"):
        fit(made, windows, tmp_path)
    assert not (tmp_path / STATE).exists()


# --- diagnostics


def test_diagnose__averages_the_terms_over_batches_of_the_training_size(windows: dict[str, Windows]) -> None:
    class Counting(Noisy):
        def loss(self, batch: Batch) -> Terms:
            assert not self.training
            sizes.append(len(batch["frames"]))
            return {"size": batch["frames"].float().mean()}

    sizes: list[int] = []
    held_out = windows["validation"]  # 5 episodes of 17 frames: 45 windows of 9
    found = diagnose(Counting(), held_out, 8)
    assert sizes == [8] * 5
    batch = held_out.batch(0, len(held_out), seed=0)["frames"][:40].float()
    assert found["size"] == pytest.approx(float(batch.mean()), rel=1e-5)
    assert found.keys() == {"size", "r_within", "rankme", "action_sensitivity"}
    sizes.clear()
    diagnose(Counting(), held_out, 64)
    assert sizes == [45]


def test_diagnose__leaves_the_random_state_as_it_was(windows: dict[str, Windows]) -> None:
    before = torch.get_rng_state()
    diagnose(Noisy().eval(), windows["validation"], 8)
    made = torch.get_rng_state()
    torch.set_rng_state(before)
    Noisy()
    assert torch.equal(torch.get_rng_state(), made)


def test_diagnose__refuses_a_single_window(windows: dict[str, Windows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Windows, "__len__", lambda self: 1)
    with pytest.raises(ValueError, match="at least 2 held-out windows are needed for diagnostics, got 1"):
        diagnose(Noisy(), windows["validation"], 8)


def test_diagnose__says_that_a_model_has_diverged(windows: dict[str, Windows]) -> None:
    model = Noisy()
    with torch.no_grad():
        model.encoder.head.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="it has diverged, or its weights are damaged"):
        diagnose(model, windows["validation"], 8)


# --- averages


def test_train_step__moves_averages_of_weights_once_after_them(windows: dict[str, Windows]) -> None:
    seen: list[float] = []

    class Averaging(Noisy):
        def after_step(self) -> None:
            seen.append(float(next(self.parameters()).detach().sum()))

    model = Averaging()
    made = Trainer(model, WEIGHTS, OPTIMIZERS["sgd"](model.parameters()), schedule(steps=2))
    for step in range(2):
        made.train_step(windows["train"].batch(step, 8, 0))
        assert len(seen) == step + 1 and seen[-1] == float(next(model.parameters()).detach().sum())
    assert seen[0] != seen[1]


# --- signals


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [(signal.SIGTERM, SystemExit, "143"), (signal.SIGINT, KeyboardInterrupt, "stopped at step 3; run the same")],
)
def test_fit__saves_at_once_when_asked_to_stop_and_goes_on_to_the_same_bits(
    number: signal.Signals,
    error: type[BaseException],
    message: str,
    windows: dict[str, Windows],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = fit(trainer(), windows, tmp_path / "whole")
    made = trainer()
    original = made.train_step

    def train_step(batch: Batch) -> dict[str, Tensor]:
        if made.step == 2:
            signal.raise_signal(number)
        return original(batch)

    made.train_step = train_step  # type: ignore[method-assign]
    before = signal.getsignal(number)
    with pytest.raises(error, match=message):
        fit(made, windows, tmp_path / "stopped")
    assert signal.getsignal(number) is before
    if number == signal.SIGTERM:
        assert "stopped at step 3; run the same command again to go on" in capsys.readouterr().err
    assert int(load_tensors(tmp_path / "stopped" / STATE)["step"]) == 3
    assert_same_weights(fit(trainer(), windows, tmp_path / "stopped").model, whole.model)


def test_stop__interrupts_at_once_at_the_second_ctrl_c() -> None:
    with Stop() as stop:
        stop.leave_if_requested("nobody asked")
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_stop__leaves_the_handlers_as_they_were_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted), Stop():
        assert signal.getsignal(signal.SIGTERM) not in before
        raise Interrupted
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_stop__leaves_to_the_parent_what_a_worker_ignores() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_stop__does_nothing_outside_the_main_thread() -> None:
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            with Stop() as stop:
                stop.leave_if_requested("nobody asked")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not errors
