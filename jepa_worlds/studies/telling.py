"""The sentences of a report: what was compared, and what was found, from configurations and numbers alone."""

from __future__ import annotations

import importlib
import inspect
import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from jepa_worlds.shared.app import override
from jepa_worlds.studies.study import Condition, Study, rollout_rmse, unit

# Settings of the command that say where and how it ran, or what the experiment and the preset are named for.
UNSAID = ("experiment", "preset", "out", "list", "jobs", "job", "explain", "device")


def about_method(study: Study, method: str) -> str:
    """What a method is: its objective in the words of the code, its weights, its networks and its budget."""
    row = next(row for row in study.rows if row["cell"]["method"] == method)
    config, weights = row["config"], row["config"]["objective"].get("weights", {})
    said = [sentence for term in config["objective"].get("terms", {}).values() if (sentence := _docstring(term))]
    loss = " + ".join(f"{weight:g} · {name}" for name, weight in weights.items())
    model = config["model"]
    parts = [_class(model), *(_class(model[part]) for part in ("encoder", "predictor", "decoder") if model.get(part))]
    frames = f", {model['frames']} frames at a time" if model.get("frames", 1) > 1 else ""
    size = f", {model['latent_dim']} latent dimensions" if "latent_dim" in model else ""
    budget = f"{config['steps']} steps of {config['batch_size']} windows of {config['window']} frames"
    trained = f"Loss: {loss}; {budget}." if weights else "Not trained."
    return f"{' '.join(said)} {trained} {' + '.join(parts)}{size}{frames}.".strip()


def about_panel(study: Study, panel: str) -> str:
    """What a panel collects and changes, as overrides."""
    found = study.config.get("experiment", {}).get("panels", {}).get(panel, {})
    return " ".join(map(str, [*found.get("collect", []), *found.get("train", []), *(found.get("plan") or [])]))


def findings(study: Study, methods: Sequence[str], conditions: Sequence[Condition]) -> Iterator[tuple[str, str]]:
    """For every condition: its title, and who is best, and who no better than an untrained network."""
    rivals = [method for method in methods if not study.privileged(method)]
    for condition in conditions:
        for factor in study.factors(condition):
            found = {m: x for m in rivals if (x := study.estimate(m, condition, rollout_rmse(factor)))}
            floors = study.floors(methods, condition, factor)
            if len(found) < 2 or not floors:
                continue
            best = min(found, key=lambda m: found[m].mean)
            bound = floors["untrained"].mean
            fooled = [study.methods[m] for m, x in found.items() if x.mean >= bound and _trained(study, m)]
            of = f" of {factor}" if len(study.factors(condition)) > 1 else ""
            said = f"{study.methods[best]} is best{of} with {found[best].mean:.2f} {unit(factor)}".rstrip()
            said += f" (chance {floors['chance'].mean:.2f}, untrained network {bound:.2f})."
            if fooled:
                said += f" No better than an untrained network: {', '.join(fooled)}."
            yield study.title(condition), said


def _trained(study: Study, method: str) -> bool:
    return any(row["config"]["objective"].get("weights") for row in study.rows if row["cell"]["method"] == method)


def command_of(study: Study) -> str:
    """The command that made the results."""
    chosen = study.experiment.get("chosen", [f"experiment={study.experiment['name']}"])
    where = [f"preset={study.experiment['preset']}", override("out", study.out)]
    given = {key: value for key, value in study.config.items() if key not in UNSAID and value not in (None, [], 0)}
    said = [f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in given.items()]
    silent = [] if study.config.get("explain", True) else ["explain=false"]
    return shlex.join(["python", "-m", "jepa_worlds.experiment", *chosen, *where, *said, *silent])


def _docstring(config: dict[str, Any]) -> str:
    """The first sentence of the module of an objective, if it is of `agents`; others are not imported."""
    module = str(config.get("_target_", "")).rpartition(".")[0]
    if not module.startswith("agents."):
        return ""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return " ".join(text.split("\n\n")[0].split())


def _class(config: dict[str, Any]) -> str:
    return str(config.get("_target_", "?")).rpartition(".")[2]
