"""Collect an offline, reward-free dataset.

    python -m jepa_worlds.collect env=moving_dot distractor=uniform distractor.dynamics=static distractor.level=1 \\
        behaviour=random_walk episodes=5000 episode_length=16 seed=0 out=data/static
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from jepa_worlds.data.collecting import Collection, collect
from jepa_worlds.policies.behaviours import identified, make_behaviour
from jepa_worlds.shared.app import command, plain, require_types
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import CONFIG, write_config


def main(config: DictConfig) -> Path:
    """Collect, or go on with a dataset that was begun; returns its folder.

    Raises:
        ValueError: bad input.
    """
    settings = plain(config)
    require_types(settings, trust=list)
    if settings["out"] in (None, ""):
        raise ValueError(f"out must be the folder that the dataset goes to, got {settings['out']!r}")
    out = Path(str(settings["out"]))
    wanted: Plain = {name: settings.get(name) for name in Collection.__dataclass_fields__}
    trust = tuple(settings["trust"])
    collection = Collection(**wanted)
    behaviour = make_behaviour(collection.behaviour, trust)
    collect(replace(collection, behaviour=identified(collection.behaviour)), behaviour, out, trust)
    if not (out / CONFIG).is_file():  # a finished dataset is left as it is
        write_config(out, settings)
    return out


if __name__ == "__main__":
    command("collect")(main)()
