"""Gymnasium environments made of pixels, and the distractors behind them. Importing this package registers them."""

import importlib
import pkgutil

from envs import worlds

for _module in pkgutil.iter_modules(worlds.__path__):  # one file, one world: a new file is registered by being there
    importlib.import_module(f"{worlds.__name__}.{_module.name}")
