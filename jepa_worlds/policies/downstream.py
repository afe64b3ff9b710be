"""Training of one downstream policy: evaluated as it learns, saved where it is best, taken up where it stopped."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize, sync_envs_normalization

from agents.policies.vec_env import ObservedVecEnv
from envs import random
from envs.arguments import require_whole
from jepa_worlds.data.environments import Task, make_worlds
from jepa_worlds.models.checkpoint import WEIGHTS, load
from jepa_worlds.policies.algorithms import make_algorithm
from jepa_worlds.policies.saved import CARD as POLICY_CARD
from jepa_worlds.policies.saved import (
    NORMALISER,
    POLICY,
    make_observer,
    read_policy_card,
    recover,
    save_policy,
    written,
)
from jepa_worlds.shared.files import Plain, digest, read_json, write_json
from jepa_worlds.shared.jobs import Report
from jepa_worlds.shared.runs import differing

CURVE, SETTINGS, CHECKPOINT, BEST, REPLAY = "curve.json", "training.json", "checkpoint", "best", "replay_buffer.pkl"
STARTS = 1_000_000_007  # seed of the episodes that policies are evaluated on, the same for all
FREE = ("folder", "device", "seconds", "trust")  # may differ when a training is taken up again
SAVING = 0.1  # share of the time that goes into checkpoints at most; replay buffers of frames are large


@dataclass(frozen=True)
class Training:
    """One policy to train.

    Attributes:
        folder: where it is kept.
        seed: of the policy and of the worlds that it learns in.
        sees: its observer, see `jepa_worlds.policies.saved.make_observer`.
        finetune: the run of a world model whose encoder is trained with the policy, which then sees pixels.
        task: the worlds.
        policy: ``algorithm``, ``arguments``, ``num_envs``, and whether observations and rewards are normalised.
        timesteps: environment steps to train for.
        evaluations, episodes: how many evaluations after the first, which comes before training, and their episodes.
        seconds: training goes on until it has taken this long too, evaluation apart.
        device: of the world model, and of the policy but for small ones, see `policy_device`.
        trust: packages beside `agents` and `envs` whose classes may be built.

    Raises:
        ValueError: a number that is out of range.
    """

    folder: str
    seed: int
    sees: Plain
    finetune: str | None
    task: Task
    policy: Plain
    timesteps: int
    evaluations: int
    episodes: int
    seconds: float = 0.0
    device: str = "cpu"
    trust: tuple[str, ...] = ()

    @property
    def policy_device(self) -> str:
        """Where the policy learns; small networks that are asked at every step are slower on a GPU than on the CPU."""
        small = self.policy["algorithm"] in ("PPO", "A2C") and "pixels" not in self.sees
        return "cpu" if small else self.device

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in ("timesteps", "evaluations", "episodes")}
        numbers["policy.num_envs"] = self.policy["num_envs"]
        if self.task["episode_length"] is not None:
            numbers["episode_length"] = self.task["episode_length"]
        require_whole(**numbers)
        for name in ("normalise_observations", "normalise_rewards"):
            if type(self.policy[name]) is not bool:
                raise ValueError(f"policy.{name} must be true or false, got {self.policy[name]!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise ValueError(f"the seed of a policy must be an integer from 0 to 2**31 - 1, got {self.seed!r}")


def train_policy(training: Training, report: Report) -> None:
    """Train a policy, or go on with one that was begun; ``curve.json`` is written when it is done.

    Raises:
        ValueError: bad input, or a folder that holds a policy trained otherwise.
    """
    require_same(training)
    folder = Path(training.folder)
    if (folder / CURVE).is_file():
        return
    evaluated = VecNormalize(VecMonitor(_worlds(training, held_out=True)), training=False, **_normalised(training))
    model = _begun(training)
    write_json(folder / SETTINGS, _settings(training))
    callback = Evaluation(training, evaluated, report)
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    while not callback.over:  # more than once where only the time is not over yet
        left = training.timesteps - model.num_timesteps
        model.learn(max(left, callback.every * model.n_envs), callback=callback, reset_num_timesteps=False)
    write_json(folder / CURVE, callback.curve)
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    model.get_env().close()  # type: ignore[union-attr]
    evaluated.close()


def trained(training: Training) -> int:
    """The steps that a training need not take any more."""
    if (Path(training.folder) / CURVE).is_file():
        return training.timesteps
    begun = _checkpoint(training) / CURVE
    return min(training.timesteps, read_json(begun)["steps"][-1]) if begun.is_file() else 0


def new_algorithm(training: Training, worlds: VecEnv) -> BaseAlgorithm:
    """An untrained policy around worlds, which are normalised as the policy wants.

    Raises:
        ValueError: bad input.
    """
    # On the CPU: it is pickled with the policy, which moves it to its device.
    finetuned = load(training.finetune, "cpu", training.trust) if training.finetune else None
    arguments = {**training.policy["arguments"]}
    if "buffer_size" in arguments:  # Stable-Baselines3 saves all of it, full or not
        arguments["buffer_size"] = min(arguments["buffer_size"], training.timesteps + worlds.num_envs)
    env = VecNormalize(worlds, **_normalised(training))
    policy = {**training.policy, "arguments": arguments}
    return make_algorithm(policy, env, training.seed, training.policy_device, finetuned, training.trust)


def _begun(training: Training) -> BaseAlgorithm:
    """The policy as its checkpoint has it, or a new one, in the worlds that it learns in."""
    folder, checkpoint = Path(training.folder), _checkpoint(training)
    folder.mkdir(parents=True, exist_ok=True)
    monitor = folder / str(len(list(folder.glob("*.monitor.csv"))))  # one file a start
    worlds = VecMonitor(_worlds(training, held_out=False), str(monitor))
    if (checkpoint / CURVE).is_file():
        env = VecNormalize.load(str(checkpoint / NORMALISER), worlds)
        algorithm = getattr(stable_baselines3, training.policy["algorithm"])
        model = algorithm.load(checkpoint / POLICY, env, training.policy_device)
        if isinstance(model, OffPolicyAlgorithm):
            model.load_replay_buffer(checkpoint / REPLAY)
        model.set_random_seed(training.seed + model.num_timesteps)  # what was drawn before is not drawn again
    else:
        model = new_algorithm(training, worlds)
    # World i has the seed that is given plus i: with 0 and 1, two policies would learn in all but one the same.
    worlds.seed(int(random.fold_in(np.array([training.seed], np.uint64), np.array([model.num_timesteps]))[0]))
    return model


def _checkpoint(training: Training) -> Path:
    return recover(Path(training.folder) / CHECKPOINT)


def _worlds(training: Training, held_out: bool) -> ObservedVecEnv:
    observer = make_observer(training.sees, training.device, training.trust)
    count = training.episodes if held_out else training.policy["num_envs"]
    return ObservedVecEnv(make_worlds(training.task, count, held_out, training.trust), observer)


def _normalised(training: Training) -> Plain:
    """What `VecNormalize` normalises: frames never, which Stable-Baselines3 scales by itself."""
    policy = training.policy
    return {
        "norm_obs": policy["normalise_observations"] and "pixels" not in training.sees,
        "norm_reward": policy["normalise_rewards"],
        "gamma": policy["arguments"].get("gamma", 0.99),
    }


class Evaluation(BaseCallback):
    """Evaluates a policy in regular intervals, on the same episodes each time, and keeps it after each.

    The best so far goes into ``best``, all that is needed to go on into ``checkpoint``.
    """

    def __init__(self, training: Training, env: VecEnv, report: Report) -> None:
        super().__init__()
        self.plan, self.env, self.report = training, env, report
        self.folder = Path(training.folder)
        self.every = max(1, round(training.timesteps / training.evaluations / training.policy["num_envs"]))
        begun = _checkpoint(training) / CURVE
        self.curve: Plain = read_json(begun) if begun.is_file() else {"steps": [], "seconds": [], "returns": []}
        self._trained, self._since = (self.curve["seconds"] or [0.0])[-1], math.inf
        self._saved, self._saving = -math.inf, 0.0  # when the last checkpoint was there, and how long it took

    @property
    def over(self) -> bool:
        """Whether all steps and all seconds are spent."""
        done = self.curve["steps"] and self.curve["steps"][-1] >= self.plan.timesteps
        return bool(done and self._trained >= self.plan.seconds)

    def _on_training_start(self) -> None:
        self._since = min(self._since, time.perf_counter())  # the first start counts
        if not self.curve["steps"]:
            self._evaluate()

    def _on_step(self) -> bool:
        worlds, left = self.training_env.num_envs, self.plan.timesteps - self.num_timesteps
        self.report(max(0, min(worlds, left + worlds)))
        if self.n_calls % self.every == 0 or -worlds < left <= 0:
            self._evaluate()
        return not self.over

    def _evaluate(self) -> None:
        self._trained += time.perf_counter() - self._since
        sync_envs_normalization(self.training_env, self.env)
        self.env.seed(STARTS)
        returns, lengths = evaluate_policy(
            self.model, self.env, self.plan.episodes, deterministic=True, return_episode_rewards=True
        )
        mean = float(np.mean(returns))
        self.curve["steps"].append(self.num_timesteps)
        self.curve["seconds"].append(round(self._trained, 3))
        self.curve["returns"].append(np.asarray(returns, float).tolist())
        self.logger.record("eval/mean_reward", mean)
        self.logger.record("eval/mean_ep_length", float(np.mean(lengths)))
        self.logger.dump(self.num_timesteps)
        best = recover(self.folder / BEST)
        if not (best / POLICY_CARD).is_file() or mean > read_policy_card(best)["return"]:
            card = {"algorithm": self.plan.policy["algorithm"], "sees": self.plan.sees, "task": self.plan.task}
            save_policy(best, self.model, card | {"return": mean, "step": self.num_timesteps})
        self._save()
        self._since = time.perf_counter()

    def _save(self) -> None:
        started = time.perf_counter()
        if started - self._saved < self._saving / SAVING:
            return
        with written(self.folder / CHECKPOINT) as new:
            self.model.save(new / POLICY)
            if isinstance(self.model, OffPolicyAlgorithm):
                self.model.save_replay_buffer(new / REPLAY)
            normaliser = self.model.get_vec_normalize_env()
            assert normaliser is not None
            normaliser.save(str(new / NORMALISER))
            write_json(new / CURVE, self.curve)
        self._saved = time.perf_counter()
        self._saving = self._saved - started


def require_same(training: Training) -> None:
    """Refuse to go on with a policy that was begun otherwise.

    Raises:
        ValueError: it was.
    """
    if not (Path(training.folder) / SETTINGS).is_file():
        return
    before, now = read_json(Path(training.folder) / SETTINGS), _settings(training)
    found = [text for name in now for text in differing(name, before.get(name), now[name])]
    if found:
        raise ValueError(
            f"{training.folder!r} holds a policy trained otherwise, with {', '.join(found)}: choose another out"
        )


def _settings(training: Training) -> Plain:
    """What a training that is taken up again must agree in, down to the weights of its world model."""
    run = training.finetune or training.sees.get("latents")
    weights = digest(Path(run) / WEIGHTS) if run and (Path(run) / WEIGHTS).is_file() else None
    settings = {name: value for name, value in asdict(training).items() if name not in FREE}
    return settings | {"weights": weights}
