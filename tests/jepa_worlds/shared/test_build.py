"""Objects from configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pytest

from agents.behaviours.random_walk import RandomWalk
from envs.distractors.background import Background
from envs.distractors.uniform import UniformNoise
from jepa_worlds.shared.build import build

HERE = (__name__,)


@dataclass
class Box:
    """Holds anything."""

    content: Any = None
    label: str = ""


class Abstract(ABC):
    """Cannot be instantiated."""

    @abstractmethod
    def nothing(self) -> None: ...


def function() -> None:
    """Not a class."""
    pytest.fail("a function must never be called from a configuration")


def box(**arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Box", **arguments}


def test_build__gives_an_instance_of_the_class():
    assert build({"_target_": "agents.behaviours.random_walk.RandomWalk", "kappa": 0.5}) == RandomWalk(kappa=0.5)


def test_build__builds_what_is_nested_first():
    source = {"_target_": "envs.distractors.uniform.UniformNoise"}
    config = {"_target_": "envs.distractors.background.Background", "source": source, "level": 0.5}
    assert build(config) == Background(UniformNoise(), level=0.5)
    assert source == {"_target_": "envs.distractors.uniform.UniformNoise"}, "the configuration must be left alone"


def test_build__goes_into_lists_and_mappings_without_a_target():
    config = {"a": [box(content=1), [box(content=2)], 3], "b": {"c": box(label="x")}, "d": None, "e": "text"}
    expected = {"a": [Box(1), [Box(2)], 3], "b": {"c": Box(label="x")}, "d": None, "e": "text"}
    assert build(config, HERE) == expected
    assert build((box(content=[box()]),), HERE) == [Box([Box()])]


def test_build__gives_extra_arguments_to_the_outermost_only():
    assert build(box(content=box()), HERE, label="extra") == Box(Box(label=""), "extra")


def test_build__says_which_arguments_a_class_takes():
    with pytest.raises(ValueError, match=r"RandomWalk: got an unexpected keyword argument 'kapa'; it takes \(kappa"):
        build({"_target_": "agents.behaviours.random_walk.RandomWalk", "kapa": 1})
    with pytest.raises(ValueError, match=r"Background: missing a required argument: 'source'; it takes"):
        build({"_target_": "envs.distractors.background.Background"})


def test_build__says_which_arguments_were_of_the_wrong_type():
    with pytest.raises(ValueError, match="RandomWalk: kappa must be a number, got 'much'"):
        build({"_target_": "agents.behaviours.random_walk.RandomWalk", "kappa": "much"})


def test_build__passes_on_what_a_class_says_of_its_arguments():
    with pytest.raises(ValueError, match="kappa must be finite and at least 0, got -1"):
        build({"_target_": "agents.behaviours.random_walk.RandomWalk", "kappa": -1})


@pytest.mark.parametrize(
    "target",
    [
        "agents.behaviours.random_walk.RandomWalker",
        "agents.behaviours.no_such_file.RandomWalk",
        "agents.behaviours.random_walk.",
        "agents..RandomWalk",
    ],
)
def test_build__says_that_a_class_does_not_exist(target):
    with pytest.raises(ValueError, match=f"_target_ '{target}' does not exist"):
        build({"_target_": target})


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "eval",
        "agents",
        "agentsish.evil.Class",
        "torch.nn.Linear",
        ".agents.Class",
        "",
        5,
        None,
        ["agents.behaviours.random_walk.RandomWalk"],
    ],
)
def test_build__refuses_targets_outside_the_trusted_packages(target):
    with pytest.raises(ValueError, match=r"is not in agents or envs, whose classes alone are built"):
        build({"_target_": target})


@pytest.mark.parametrize(
    "target",
    [
        "agents.optimizers.lars.torch.nn.Linear",  # through a module that a trusted one imports
        "agents.optimizers.lars.torch.hub.load",
        "agents.behaviours.random_walk.np.load",
        "agents.behaviours.random_walk.np",  # a module
        "envs.distractors.photographs.pickle.loads",
        "envs.distractors.photographs.Path",  # a class, but defined elsewhere
        "envs.registry.register",  # a function
        "agents.behaviours.random_walk.RandomWalk.__init__",
        "agents.behaviours.random_walk.__loader__",
        "agents.behaviours.random_walk.annotations",  # an instance
    ],
)
def test_build__refuses_what_can_be_reached_through_a_trusted_package(target):
    with pytest.raises(ValueError, match=r"does not exist|is not a class defined in agents or envs"):
        build({"_target_": target, "path": "x"})


def test_build__refuses_functions_and_abstract_classes():
    with pytest.raises(ValueError, match=r"'test_build\.function' is not a class defined in test_build"):
        build({"_target_": f"{__name__}.function"}, HERE)
    with pytest.raises(ValueError, match=r"test_build\.Abstract: .*abstract"):
        build({"_target_": f"{__name__}.Abstract"}, HERE)


def test_build__refuses_an_untrusted_target_however_deep():
    with pytest.raises(ValueError, match=r"'os\.system' is not in test_build"):
        build(box(content=[{"a": {"_target_": "os.system", "command": "false"}}]), HERE)


def test_build__builds_classes_of_the_packages_that_are_trusted_only():
    assert build(box(content=1), ("agents", *HERE)) == Box(1)
    with pytest.raises(ValueError, match=r"is not in agents, whose"):
        build(box(), ("agents",))
    with pytest.raises(ValueError, match="is not in agents, whose"):
        build({"_target_": "envs.distractors.uniform.UniformNoise"}, ("agents",))
