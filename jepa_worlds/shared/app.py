"""What all commands share: Hydra, and one clear message for whatever goes wrong."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from jepa_worlds import PACKAGE
from jepa_worlds.shared import help_texts
from jepa_worlds.shared.files import Plain, code_commit

CONFIGS = next(path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir())
"""The folder of configurations: inside the package in a wheel, beside it in a clone."""

EXPECTED = (ValueError, OSError, MemoryError, HydraException, OmegaConfBaseException, YAMLError)
"""What bad input raises. Anything else is a bug, and shows its traceback."""

OmegaConf.register_new_resolver(
    "share", lambda size, first, last: round(last * size) - round(first * size), replace=True
)  # ${share:${model.latent_dim},0.5,1}: the size of a part of the latent, see `agents.objectives.part`
OmegaConf.register_new_resolver("groups", help_texts.groups, replace=True)  # of configs/hydra/help, as is the next
OmegaConf.register_new_resolver("settings", lambda name: help_texts.settings(CONFIGS, name), replace=True)


def command(name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Make a Hydra command of a function of its configuration.

    Bad input ends in one message on stderr and exit status 1, Ctrl-C in status 130. HYDRA_FULL_ERROR=1 asks for the
    traceback.
    """

    def decorate(function: Callable[[DictConfig], object]) -> Callable[[], None]:
        def main() -> None:
            wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"

            def task(config: DictConfig) -> None:
                code_commit()
                with _one_message(name, wants_traceback):  # in here too: Hydra would add a line to what comes out
                    _refuse_unknown(name, config)
                    function(config)

            with _one_message(name, wants_traceback), _errors_handed_on():
                hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(task)()

        return main

    return decorate


def plain(config: DictConfig) -> Plain:
    """A configuration as plain dicts and lists, everything resolved.

    Raises:
        ValueError: a mandatory value is missing.
    """
    require_all(config)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def require_all(config: DictConfig) -> None:
    """Check that every mandatory value of a configuration is given.

    Raises:
        ValueError: one is missing.
    """
    missing = sorted(_missing(OmegaConf.to_container(config)))  # unresolved: interpolations may lead nowhere as yet
    if missing:
        raise ValueError(f"{' and '.join(f'{key}=…' for key in missing)} must be given; --help shows an example")


def require_types(settings: Plain, **expected: type) -> None:
    """Check values that would otherwise fail late, or be taken for something else: ``verify=bool``, ``seed=int``.

    Raises:
        ValueError: one is of another type.
    """
    said = {bool: "true or false", int: "an integer", str: "a string", list: "a list, as in [a, b]"}
    for name, kind in expected.items():
        if type(settings[name]) is not kind:
            raise ValueError(f"{name} must be {said[kind]}, got {settings[name]!r}")


def _missing(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _missing(value, f"{path}.{key}".lstrip("."))
    elif node == "???":
        yield path


def override(key: str, value: object) -> str:
    """``key=value`` as Hydra takes it, whatever signs are in the value: quoted, if it has to be."""
    text = str(value)
    if "/" in text and re.fullmatch(r"[\w./-]+", text, re.ASCII):  # no number, and none of Hydra's words
        return f"{key}={text}"
    escaped = re.sub(r"(\\*)('|\$\{|$)", lambda found: found[1] * 2 + ("\\" + found[2] if found[2] else ""), text)
    return f"{key}='{escaped}'"


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The configuration of a command under overrides, as its command line would give it."""
    if GlobalHydra.instance().is_initialized():
        return compose(name, overrides)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides)


@contextmanager
def _one_message(name: str, wants_traceback: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        sys.unraisablehook = _unsaid
        _exit(str(interrupt) or f"interrupted: what was finished is kept; run {name} again to go on", 130)
    except EXPECTED as error:
        if wants_traceback:
            raise
        _exit(explained(error, name), 1)


@contextmanager
def _errors_handed_on() -> Iterator[None]:
    """Hydra hands errors on instead of printing them its own way; the environment is the same after as before."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _refuse_unknown(name: str, config: DictConfig) -> None:
    """Refuse ``+key=…`` with a key at the top that the command does not have, and would never look at.

    Raises:
        ValueError: there is one.
    """
    given = HydraConfig.get().overrides.task
    added = [re.match(r"\+{1,2}([^=.@/]+)", override) for override in given]
    if any(added):
        known = composed(name, [override for override in given if not override.startswith("+")])
        for match in filter(None, added):
            if match[1] in config and match[1] not in known:
                raise ValueError(_unknown_key(match[1], name))


def _unsaid(_: object) -> None:
    """Passed over: an object that Ctrl-C left half made, such as a progress bar, may fail as it goes."""


def _exit(message: str, status: int) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(status)


def explained(error: BaseException, name: str, given: Sequence[str] | None = None) -> str:
    """What Hydra says of a command's overrides (None: those on the command line), in fewer words that help more."""
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if unknown:
        return _unknown_key(unknown[1], name, given)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = list(error.options)
        if not known:  # there is not even such a folder: what is in the one above, and in its folders
            group, _, folder = group.rpartition("/")
            option, inside = f"{folder}/{option}", CONFIGS / group
            known = sorted(str(file.relative_to(inside).with_suffix("")) for file in inside.rglob("*.yaml"))
        return f"unknown option {group}={option}{guess(option, known)} Known: {', '.join(known)}"
    return str(error).strip() or repr(error)


def _unknown_key(path: str, name: str, given: Sequence[str] | None = None) -> str:
    *parents, key = path.split("@")[0].replace("/", ".").split(".")
    config = composed(name, [])
    if parents:  # what is known depends on the options of groups, which are on the command line too
        chosen = [item for item in (sys.argv[1:] if given is None else given) if item.partition("=")[0] in config]
        config = composed(name, chosen)
        if config.get(parents[0]) is None and (CONFIGS / parents[0]).is_dir():
            return f"{path!r} is of a group from which nothing is chosen here: give {parents[0]}=… too"
        config = OmegaConf.select(config, ".".join(parents))
    keys = sorted(str(known) for known in config) if isinstance(config, DictConfig) else []
    if key in keys:
        return f"{path!r} lacks a key that is to be set: keys are set one by one, and added as +{path}.KEY=…"
    if parents[-1:] == ["kwargs"]:  # whatever an environment takes
        return f"{'.'.join(parents)!r} holds no {key!r} yet: add it as +{path}=…"
    place = f" in {'.'.join(parents)!r}" if parents else ""
    elsewhere = " It is a group of other commands." if not parents and (CONFIGS / key).is_dir() else ""
    return (
        f"unknown configuration key {path!r}{guess(key, keys)}{elsewhere} Known{place}: {', '.join(keys) or 'nothing'}"
    )


def guess(word: str, known: Sequence[str]) -> str:
    """A question after a word that is not known; a full stop where there is none to ask."""
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else "."
