"""What all commands share: Hydra, and one clear message for whatever goes wrong. Shown on `jepa_worlds.collect`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from jepa_worlds import collect
from jepa_worlds.shared.app import command, composed, override, plain, require_types

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    """``run("seed=1", main=…)``: the collect command with these arguments, in this process: exit status and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(*arguments: str, main=collect.main) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["collect", *arguments])
        try:
            command("collect")(main)()
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def raising(error: BaseException) -> Callable[..., None]:
    def main(config) -> None:
        raise error

    return main


def test_command__hands_over_the_configuration_under_its_overrides(run):
    seen = []
    assert run("env=three_dots", "env.size=32", "out=x", main=lambda config: seen.append(plain(config))) == (0, "")
    assert seen[0]["env"]["id"] == "jepa_worlds/ThreeDots-v0"
    assert seen[0]["env"]["size"] == 32
    assert seen == [plain(composed("collect", ["env=three_dots", "env.size=32", "out=x"]))]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("this was bad"),
        OSError("this was bad"),
        FileNotFoundError("this was bad"),
        MemoryError("this was bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_command__ends_in_one_message_and_status_1(run, error):
    assert run("out=x", main=raising(error)) == (1, "error: this was bad\n")


def test_command__has_a_message_for_an_error_without_one(run):
    assert run("out=x", main=raising(ValueError())) == (1, "error: ValueError()\n")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("a bug")], ids=lambda error: type(error).__name__)
def test_command__does_not_hide_a_bug(run, error):
    with pytest.raises(type(error), match="a bug"):
        run("out=x", main=raising(error))


def test_command__ends_in_status_130_after_ctrl_c(run):
    status, message = run("out=x", main=raising(KeyboardInterrupt()))
    assert (status, message) == (
        130,
        "error: interrupted: what was finished is kept; run collect again to go on\n",
    )
    assert run("out=x", main=raising(KeyboardInterrupt("stopped at step 5"))) == (130, "error: stopped at step 5\n")


HALF_MADE = """
from jepa_worlds.shared.app import command

class Bar:  # Ctrl-C comes while it is made; it fails when it goes, at the very end
    def __init__(self):
        raise KeyboardInterrupt
    def __del__(self):
        self.closed

command("doctor")(lambda config: Bar())()
"""


def test_command__says_nothing_of_what_ctrl_c_left_half_made(tmp_path):
    ended = subprocess.run([sys.executable, "-c", HALF_MADE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert ended.stderr == "error: interrupted: what was finished is kept; run doctor again to go on\n"


def test_command__keeps_a_status_of_its_own(run):
    assert run("out=x", main=raising(SystemExit(143))) == (143, "")


def test_command__lists_the_keys_and_guesses_when_one_is_unknown(run):
    status, message = run("episode=5", "out=x")
    assert status == 1
    assert message.startswith("error: unknown configuration key 'episode': did you mean 'episodes'? Known: behaviour, ")
    assert message.count("\n") == 1
    for key in ("distractor", "env", "num_envs", "out", "seed", "shard_episodes", "validation"):
        assert f" {key}" in message


def test_command__lists_the_keys_of_the_option_that_was_chosen(run):
    assert run("distractor=uniform", "distractor.dynamic=static", "out=x") == (
        1,
        "error: unknown configuration key 'distractor.dynamic': did you mean 'dynamics'? Known in 'distractor': "
        "_target_, blend, dynamics, level, source, speed\n",
    )
    assert run("distractor=uniform", "distractor.source.file=x", "out=x") == (
        1,
        "error: unknown configuration key 'distractor.source.file'. Known in 'distractor.source': _target_\n",
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.kwargs={slippery: false}", "'env.kwargs' lacks a key that is to be set: .* added as +env.kwargs.KEY=…"),
        ("env.kwargs.slippery=false", "'env.kwargs' holds no 'slippery' yet: add it as +env.kwargs.slippery=…"),
    ],
)
def test_command__says_how_arguments_of_an_environment_are_added(run, override, message):
    status, said = run("env=gymnasium", "env.id=FrozenLake-v1", override, "out=x")
    assert status == 1
    assert re.fullmatch(f"error: {message}\n".replace("+", r"\+"), said)
    status, message = run("distractor.level=1", "out=x")
    assert (status, "unknown configuration key 'distractor.level'" in message) == (1, True)


def test_command__lists_the_options_of_a_group(run):
    status, message = run("env=moving", "out=x")
    assert status == 1
    assert message.startswith("error: unknown option env=moving: did you mean 'moving_dot'? Known: ")
    assert {"moving_dot", "three_dots"} <= set(message.split("Known: ")[1].strip().split(", "))
    status, message = run("behaviour=qqq", "out=x")
    assert (status, message.startswith("error: unknown option behaviour=qqq. Known: ")) == (1, True)
    assert {"random_walk", "uniform"} <= set(message.split("Known: ")[1].strip().split(", "))


def test_command__refuses_a_group_of_another_command(run):
    status, message = run("objective=vicreg", "out=x")
    assert status == 1
    assert message.startswith("error: unknown configuration key 'objective'. It is a group of other commands. Known: b")


@pytest.mark.parametrize("override", ["+unknown=1", "++unknown=1", "+unknown.deep=1", "+readout=ridge"])
def test_command__refuses_a_key_that_is_added_at_the_top_and_never_looked_at(run, override):
    status, message = run(override, "out=x", main=lambda config: pytest.fail("accepted"))
    key = re.split(r"[.=]", override.lstrip("+"))[0]
    assert status == 1
    assert message.startswith(f"error: unknown configuration key {key!r}")
    assert "Known: behaviour, " in message and message.count("\n") == 1


@pytest.mark.parametrize(
    "override",
    ["+distractor.third._target_=x", "+distractor@distractor.third=uniform", "++seed=1", "++distractor.first.x=1"],
)
def test_command__takes_what_is_added_below(run, override):
    seen = []
    assert run("distractor=stack", override, "out=x", main=lambda config: seen.append(plain(config))) == (0, "")
    assert seen == [plain(composed("collect", ["distractor=stack", override, "out=x"]))]


@pytest.mark.parametrize("before", ["0", "1", None])
@pytest.mark.parametrize("error", [None, ValueError("bad"), KeyboardInterrupt()])
def test_command__leaves_the_environment_as_it_was(run, monkeypatch, before, error):
    if before is None:
        monkeypatch.delenv("HYDRA_FULL_ERROR")
    else:
        monkeypatch.setenv("HYDRA_FULL_ERROR", before)
    environment, seen = dict(os.environ), []

    def main(config):
        seen.append(os.environ["HYDRA_FULL_ERROR"])
        if error:
            raise error

    with suppress(ValueError):  # with HYDRA_FULL_ERROR=1, bad input shows its traceback
        run("out=x", main=main)
    assert seen == ["1"]
    assert dict(os.environ) == environment


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("yes", bool, "true or false"),
        (1.5, int, "an integer"),
        (True, int, "an integer"),
        ("a", list, r"a list, as in"),
    ],
)
def test_require_types__names_what_was_expected_and_got(value, kind, said):
    require_types({"x": kind(), "y": value}, x=kind)
    with pytest.raises(ValueError, match=f"y must be {said}.*, got {value!r}"):
        require_types({"x": kind(), "y": value}, x=kind, y=kind)


def test_command__says_what_must_be_given(run):
    assert run() == (1, "error: out=… must be given; --help shows an example\n")


@pytest.mark.parametrize("override", ["seed=[", "~nothing"])
def test_command__reports_what_hydra_cannot_read(run, override):
    status, message = run(override, "out=x")
    assert status == 1
    assert message.startswith("error: ")
    assert "Traceback" not in message


def test_plain__resolves_everything():
    config = OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": ["${b.c}"]}})
    found = plain(config)
    assert found == {"a": 1, "b": {"c": 1, "d": [1]}}
    assert type(found["b"]) is dict
    assert type(found["b"]["d"]) is list


def test_plain__names_all_that_is_missing():
    with pytest.raises(ValueError, match=r"^a\.b=… and out=… must be given"):
        plain(OmegaConf.create({"out": "???", "a": {"b": "???", "c": 1}}))


SIGNS = ["runs/a-1.2_b", "o'brien", "a(1)", "a=b", "a,b", "${x}", "{a}", "[b]", "a b", "C:\\RUN~1\\x", "né", "#a"]


@pytest.mark.parametrize("text", [*SIGNS, "1e5", "null", "2024_06", "1/2", "a\\", "a\\'b", "a\\${x}"])
def test_override__is_taken_as_it_is_whatever_signs_are_in_it(text):
    config = composed("train", [override("data", text), override("out", Path(text))])
    assert (config.data, config.out) == (text, text)


def test_composed__works_within_a_command_too(run):
    seen = []
    run("out=x", main=lambda config: seen.append(composed("collect", ["seed=5", "out=y"])))
    assert seen == [composed("collect", ["seed=5", "out=y"])]
    assert seen[0].seed == 5


def test_process__ends_in_one_line_and_status_1(run_command, tmp_path):
    ended = run_command("collect", "episodes=0", "out=x")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: episodes must be an integer of at least 1, got 0\n"
    assert list(tmp_path.iterdir()) == []


def test_process__says_where_a_configuration_of_one_s_own_cannot_be_read(run_command, tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env/mine.yaml").write_text("id: [a\n")
    done = run_command("collect", f"--config-dir={tmp_path}", "env=mine", "out=data")
    assert done.returncode == 1 and done.stderr.startswith("error: while parsing") and "Traceback" not in done.stderr
    assert f'"{tmp_path / "env/mine.yaml"}", line 1' in done.stderr


def test_process__shows_the_traceback_when_asked(run_command):
    ended = run_command("collect", "episodes=0", "out=x", env={"HYDRA_FULL_ERROR": "1"})
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert ended.stderr.endswith("ValueError: episodes must be an integer of at least 1, got 0\n")


def test_process__helps(run_command, tmp_path):
    ended = run_command("collect", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Collect an offline, reward-free dataset" in ended.stdout
    assert "python -m jepa_worlds.collect env=moving_dot" in ended.stdout
    options, *_ = [line for line in ended.stdout.splitlines() if line.startswith("distractor: ")]
    assert {"[none]", "uniform"} <= {*options.removeprefix("distractor: ").split(", ")}
    assert "\nnum_envs: " in ended.stdout and "\nmodel: " not in ended.stdout
    assert list(tmp_path.iterdir()) == []
