"""One new thing = one new file + one yaml: nothing that exists is edited to add one of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

NEW = {
    "envs/worlds/still_dot.py": """
        '''A dot that does not move.'''
        from envs.registry import register
        from envs.worlds.moving_dot import MovingDot

        class StillDot(MovingDot):
            '''Actions change nothing.'''
            def transition(self, state, action):
                return state

        register("StillDot-v0", StillDot, max_episode_steps=16)
    """,
    "configs/env/still_dot.yaml": "id: jepa_worlds/StillDot-v0",
    "envs/distractors/grey.py": """
        '''Nothing but grey.'''
        import dataclasses
        import numpy as np
        from envs.distractors.background import Source

        @dataclasses.dataclass(frozen=True)
        class Grey(Source):
            '''The same grey everywhere.'''
            value: int = 100
            def sample(self, key, frame_shape, held_out):
                return np.full((len(key), *frame_shape), self.value, np.uint8)
    """,
    "configs/distractor/grey.yaml": """
        _target_: envs.distractors.background.Background
        source: {_target_: envs.distractors.grey.Grey, value: 100}
        level: 1.0
    """,
    "agents/behaviours/idle.py": """
        '''Doing nothing.'''
        import numpy as np
        from agents.behaviours.core import Behaviour

        class Idle(Behaviour):
            '''Always zero.'''
            def start(self, key, action_space):
                return {"zero": np.zeros((len(key), *action_space.shape), action_space.dtype)}
            def act(self, state, frames, factors):
                return state["zero"], state
    """,
    "configs/behaviour/idle.yaml": "_target_: agents.behaviours.idle.Idle",
    "agents/encoders/flat.py": """
        '''A linear encoder.'''
        import math
        from torch import nn

        class Flat(nn.Sequential):
            '''One linear layer.'''
            def __init__(self, frame_shape, latent_dim):
                super().__init__(nn.Flatten(), nn.Linear(math.prod(frame_shape), latent_dim))
    """,
    "configs/encoder/flat.yaml": """
        _target_: agents.encoders.flat.Flat
        frame_shape: ${spec.frame_shape}
        latent_dim: ${model.latent_dim}
    """,
    "agents/predictors/identity.py": """
        '''Nothing changes.'''
        from torch import nn

        class Identity(nn.Module):
            '''The last latent, again and again.'''
            def forward(self, context, actions):
                return context[:, -1:].expand(-1, actions.shape[1], -1)
    """,
    "configs/predictor/identity.yaml": "_target_: agents.predictors.identity.Identity",
    "agents/objectives/norm.py": """
        '''Latents of length one.'''
        from torch import nn

        class Norm(nn.Module):
            '''Term `norm`.'''
            def forward(self, views):
                return {"norm": (views.latents.square().sum(-1) - 1).square().mean()}
    """,
    "configs/objective/norm.yaml": """
        terms: {norm: {_target_: agents.objectives.norm.Norm}}
        weights: {norm: 1.0}
    """,
    "agents/world_models/double.py": """
        '''A world model of another kind.'''
        from agents.world_models.encoder_predictor import EncoderPredictor

        class Double(EncoderPredictor):
            '''Latents twice as long.'''
            def encode(self, frames, actions=None):
                return 2 * super().encode(frames, actions)
    """,
    "configs/model/double.yaml": """
        defaults: [jepa]
        _target_: agents.world_models.double.Double
    """,
    "agents/probes/mean.py": """
        '''The mean, whatever is seen.'''
        from agents.probes.core import Probe

        class Mean(Probe):
            '''Chance.'''
            def fit(self, train, validation):
                self.mean = train.targets.mean(0)
            def predict(self, features):
                return self.mean.expand(len(features), -1)
    """,
    "configs/readout/mean.yaml": "_target_: agents.probes.mean.Mean",
    "configs/protocol/probe/v2.yaml": """
        # @package protocol
        id: probe/v2
        window: 9
        train_windows: 20
        validation_windows: 5
        test_windows: 5
    """,
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the project with one new file and one new yaml for everything that can be added."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("envs", "agents", "jepa_worlds", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW.items():
        assert not (folder / name).exists()
        lines = text.strip("\n").splitlines()
        margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        (folder / name).write_text("\n".join(line[margin:] for line in lines) + "\n")
    return folder


def run(clone: Path, module: str, *overrides: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(clone)}
    arguments = [sys.executable, "-m", f"jepa_worlds.{module}", *overrides]
    result = subprocess.run(arguments, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_new_files__are_enough_for_one_of_each(clone):
    run(clone, "collect", "env=still_dot", "distractor=grey", "behaviour=idle", "episodes=40", "out=data")
    manifest = json.loads((clone / "data" / "dataset.json").read_text())
    assert manifest["env"]["id"] == "jepa_worlds/StillDot-v0"
    new = ("model=double", "encoder=flat", "predictor=identity", "objective=norm", "model.latent_dim=8")
    run(clone, "train", "data=data", *new, "steps=2", "batch_size=4", "out=run")
    run(clone, "probe", "run=run", "readout=mean", "protocol=probe/v2")
    found = json.loads((clone / "run" / "probe" / "results.json").read_text())
    assert found["protocol"]["id"] == "probe/v2"
    assert found["metrics"]["location"]["rollout_rmse"] == pytest.approx(
        found["floors"]["location"]["chance"], rel=1e-4
    )
    assert len(found["metrics"]["location"]["per_step_rmse"]) == 9
