"""Gymnasium environments made of pixels, and the distractors behind them. Importing this package registers them."""

import importlib
import pkgutil

from envs import external, worlds

for _package in (worlds, external):  # one file, one world: a new file is registered by being there
    for _module in pkgutil.iter_modules(_package.__path__):
        importlib.import_module(f"{_package.__name__}.{_module.name}")
