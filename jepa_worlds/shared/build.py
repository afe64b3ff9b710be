"""Objects from configuration: a mapping with ``_target_`` becomes an instance of that class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

from envs.arguments import check_types

TRUSTED = ("agents", "envs")


def build(config: Any, trusted: Sequence[str] = TRUSTED, **extra: Any) -> Any:
    """Instantiate a plain configuration (dicts, lists, numbers, strings), nested ``_target_`` mappings first.

    Only classes that are defined in trusted packages are ever instantiated: a configuration that comes with a
    checkpoint or a dataset cannot run anything else.

    Args:
        config: the configuration; what is not a mapping with ``_target_`` is returned with its parts built.
        trusted: packages whose classes may be built.
        extra: keyword arguments beside those of the outermost mapping.

    Raises:
        ValueError: a target that is not trusted, does not exist or does not take these arguments.
    """
    if isinstance(config, (list, tuple)):
        return [build(item, trusted) for item in config]
    if not isinstance(config, dict):
        return config
    arguments = {name: build(value, trusted) for name, value in config.items() if name != "_target_"}
    if "_target_" not in config:
        return arguments
    target = _find(config["_target_"], trusted)
    try:
        inspect.signature(target).bind(**arguments, **extra)
        check_types(target.__init__, arguments)  # type: ignore[misc]
        return target(**arguments, **extra)
    except TypeError as error:  # arguments of other names, or of other types
        given = {name: value for name, value in config.items() if name != "_target_"}
        raise ValueError(f"{config['_target_']}: {error}; it takes {inspect.signature(target)}, got {given}") from error


def _find(path: Any, trusted: Sequence[str]) -> type:
    module_name, _, name = str(path).rpartition(".")
    if not any(module_name == package or module_name.startswith(f"{package}.") for package in trusted):
        raise ValueError(
            f"_target_ {path!r} is not in {' or '.join(trusted)}, whose classes alone are built; a command that has "
            f"trust=[…] builds those of the packages named there too"
        )
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"_target_ {path!r} does not exist: {error}") from error
    home = getattr(found, "__module__", "")
    if not (inspect.isclass(found) and any(home == package or home.startswith(f"{package}.") for package in trusted)):
        raise ValueError(f"_target_ {path!r} is not a class defined in {' or '.join(trusted)}")
    return found
