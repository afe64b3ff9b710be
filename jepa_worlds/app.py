"""What all commands share: Hydra, and one clear message for whatever goes wrong."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir())
"""The folder of configurations: inside the package in a wheel, beside it in a clone."""

Plain = dict[str, Any]


def command(name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Make a Hydra command of a function of its configuration.

    Bad input ends in one message on stderr and exit status 1, Ctrl-C in status 130. HYDRA_FULL_ERROR=1 asks for the
    traceback.
    """

    def decorate(function: Callable[[DictConfig], object]) -> Callable[[], None]:
        def task(config: DictConfig) -> None:
            function(config)

        def main() -> None:
            wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them its own way
            try:
                hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(task)()
            except KeyboardInterrupt:
                _exit(f"interrupted: what was finished is kept; run {name} again to go on", 130)
            except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
                if wants_traceback:
                    raise
                _exit(_explained(error, name), 1)

        return main

    return decorate


def plain(config: DictConfig) -> Plain:
    """A configuration as plain dicts and lists, everything resolved.

    Raises:
        ValueError: a mandatory value is missing.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(f"{' and '.join(f'{key}=…' for key in missing)} must be given")
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The configuration of a command under overrides, as its command line would give it."""
    if GlobalHydra.instance().is_initialized():
        return compose(name, overrides)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides)


def _exit(message: str, status: int) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(status)


def _explained(error: Exception, name: str) -> str:
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if unknown is None:
        return str(error).strip() or repr(error)
    *parents, key = unknown[1].split("@")[0].replace("/", ".").split(".")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = OmegaConf.select(compose(name), ".".join(parents)) if parents else compose(name)
    keys = sorted(str(known) for known in node) if isinstance(node, DictConfig) else []
    close = difflib.get_close_matches(key, keys, n=1)
    place = f" in {'.'.join(parents)!r}" if parents else ""
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown configuration key {unknown[1]!r}{guess} Known{place}: {', '.join(keys) or 'nothing'}"
