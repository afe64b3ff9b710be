"""Make a dataset of one of Minari's whose observations hold images.

python -m jepa_worlds.import_minari name=jepa_worlds/moving_dot/static-v0 out=data/static
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from jepa_worlds.data.minari_datasets import import_minari
from jepa_worlds.shared.app import command, plain, require_types


def main(config: DictConfig) -> Path:
    """Import, or go on with what was begun; returns the folder of the dataset.

    Raises:
        FileNotFoundError: there is no such dataset of Minari's.
        ValueError: bad input, or Minari is not installed.
    """
    settings = plain(config)
    require_types(settings, download=bool)
    if settings["factors"] is not None:
        require_types(settings, factors=list)
    out = Path(str(settings.pop("out")))
    import_minari(str(settings.pop("name")), out, **settings)
    return out


if __name__ == "__main__":
    command("import_minari")(main)()
