"""What ``--help`` says can be set: the settings of a command with their comments, and the groups that it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

COMPOSED = re.compile(r"^defaults:\n(?: .*\n)*\n?", re.MULTILINE)  # of which `groups` tells


def settings(configs: Path, command: str) -> str:
    """The configuration of a command as it is written, but for its defaults; for a template, where $ is $$."""
    text = (configs / f"{command}.yaml").read_text(encoding="utf-8")
    return COMPOSED.sub("", text, count=1).strip().replace("$", "$$")


def groups(command: str, choices: DictConfig) -> str:
    """The groups from which a command's configuration chooses, a line each, with their options; [those] are chosen.

    Args:
        command: its name. Where a group has a folder of that name, as ``protocol`` has, its options are in there.
        choices: what is chosen of every group, as Hydra keeps it.
    """
    chosen: dict[str, set[str]] = {}
    for place, option in choices.items():
        chosen.setdefault(str(place).partition("@")[0], set()).add(str(option))
    found = {
        name: [f"[{option}]" if option in chosen[name] else option for option in _of(name, command)]
        for name in sorted(chosen)
        if not name.startswith("hydra/")
    }
    return "\n".join(f"{name}: {', '.join(options)}" for name, options in found.items() if options)


def _of(group: str, command: str) -> list[str]:
    """The options of a group that are a command's."""
    return list(_options(f"{group}/{command}")) or list(_options(group))


def _options(group: str, prefix: str = "") -> Iterator[str]:
    """The options of a group and of the groups in it, from all folders of configurations."""
    yield from (prefix + option for option in _listed(group, ObjectType.CONFIG))
    for inner in _listed(group, ObjectType.GROUP):
        yield from _options(f"{group}/{inner}", f"{prefix}{inner}/")


def _listed(group: str, kind: ObjectType) -> Iterable[str]:
    return GlobalHydra.instance().config_loader().get_group_options(group, results_filter=kind)
