"""Write a dataset into Minari's local store, with nothing lost.

python -m jepa_worlds.export_minari data=data/static name=jepa_worlds/moving_dot/static-v0
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from jepa_worlds.data.minari_datasets import export_minari
from jepa_worlds.shared.app import command, plain


def main(config: DictConfig) -> Path:
    """Export; returns the folder in Minari's store.

    Raises:
        FileNotFoundError: there is no dataset.
        ValueError: bad input, a name that is taken, or Minari is not installed.
    """
    settings = plain(config)
    folder = export_minari(Path(str(settings.pop("data"))), str(settings.pop("name")), **settings)
    sys.stdout.write(f"{folder}\n")
    return folder


if __name__ == "__main__":
    command("export_minari")(main)()
