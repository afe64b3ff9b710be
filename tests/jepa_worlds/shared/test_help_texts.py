"""What --help says can be set."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from jepa_worlds.shared.app import CONFIGS, command

Help = Callable[..., str]


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    """``help_of("train", …)``: what the command prints with these arguments and --help."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments, "--help"])
        with pytest.raises(SystemExit) as ended:
            command(name)(lambda config: pytest.fail("the command ran"))()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "hydra" / "help").glob("*.yaml")))
def test_help__has_every_setting_of_a_command_with_its_comment(name: str, help_of: Help) -> None:
    written = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    own = written[written.index("") + 1 :] if written[0] == "defaults:" else written
    assert own and "\n".join(own) in help_of(name)


def test_help__lists_the_groups_of_the_command_with_options_of_one_s_own(help_of: Help, tmp_path) -> None:
    (tmp_path / "planner").mkdir()
    (tmp_path / "planner" / "mine.yaml").write_text("_target_: mine.Planner", encoding="utf-8")
    lines = help_of("plan", f"--config-dir={tmp_path}").splitlines()
    first = lines.index("Groups, as in group=option; [this] is the default:") + 1
    told = [line.split(": ") for line in lines[first : lines.index("", first)]]
    listed = {name: options.split(", ") for name, options in told}
    assert listed.keys() == {"cost", "head", "planner", "protocol", "readout"}
    assert {"[cem]", "icem", "mine"} <= {*listed["planner"]}  # the brackets say what is chosen
    assert {"moving_dot/v1", "two_rooms/lewm"} <= {*listed["protocol"]}


def test_help__keeps_interpolations_as_they_are_written(help_of: Help) -> None:
    assert re.search(r"^  - episodes=\$\{episodes\}$", help_of("demo"), re.MULTILINE)
