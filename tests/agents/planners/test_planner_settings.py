"""What settings planners refuse: each class that a yaml names is tested."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "planner"
PLANNERS = {path.stem: get_class(OmegaConf.load(path)["_target_"]) for path in sorted(CONFIGS.glob("*.yaml"))}


def settings(*names: str) -> list[tuple[str, str]]:
    """(planner, setting) for each planner that has it."""
    has = {name: {field.name for field in dataclasses.fields(planner)} for name, planner in PLANNERS.items()}
    return [(planner, name) for planner in PLANNERS for name in names if name in has[planner]]


@pytest.mark.parametrize(
    ("name", "setting"),
    settings("candidates", "iterations", "at_once", "elites", "starts", "steps", "refined", "decay"),
)
@pytest.mark.parametrize("value", [0, -3])
def test_planner__refuses_to_do_nothing(name, setting, value):
    least = r"\d+" if setting == "candidates" else "1"
    with pytest.raises(ValueError, match=f"{setting} must be at least {least}, got {value}"):
        PLANNERS[name](**{setting: value})


@pytest.mark.parametrize(("name", "setting"), settings("std", "min_std", "lr", "beta"))
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_planner__refuses_negative_and_infinite_settings(name, setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be at least 0, got {value}"):
        PLANNERS[name](**{setting: value})


@pytest.mark.parametrize(("name", "setting"), settings("momentum", "kept", "exploration"))
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_planner__refuses_shares_that_are_none(name, setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be from 0 to 1, got {value}"):
        PLANNERS[name](**{setting: value})


@pytest.mark.parametrize(("name", "setting"), settings("elites"))
def test_planner__refuses_more_elites_than_candidates(name, setting):
    with pytest.raises(ValueError, match=r"candidates must be at least \d+, got 8"):
        PLANNERS[name](candidates=8, elites=9)
