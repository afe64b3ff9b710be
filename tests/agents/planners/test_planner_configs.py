"""Each planner can be chosen by its yaml, which says what the class says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from agents.planners.core import Planner
from jepa_worlds.shared.build import build

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs" / "planner").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_planner_config__has_all_settings_with_their_defaults(path):
    config = OmegaConf.to_container(OmegaConf.load(path))
    planner = build(config)
    assert isinstance(planner, Planner)
    assert planner == get_class(config["_target_"])()
    assert config.keys() - {"_target_"} == {field.name for field in dataclasses.fields(planner)}


def test_planner_configs__are_one_for_each_module():
    modules = (Path(__file__).resolve().parents[3] / "agents" / "planners").glob("*.py")
    assert [path.stem for path in CONFIGS] == sorted({path.stem for path in modules} - {"__init__", "core"})
