"""The doctor: whatever is broken, it says so, says what to install, and goes on."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from types import ModuleType
from typing import Any

import moviepy.config
import pytest

from jepa_worlds import doctor
from jepa_worlds.doctor import sound, tell
from jepa_worlds.machine import health
from jepa_worlds.machine.health import CHECKS, Finding, examine
from jepa_worlds.shared.app import composed, plain


def found(*names: str, **changed: Any) -> dict[str, Finding]:
    """The findings of some checks, by what was looked at."""
    return {finding.what: finding for finding in examine(plain(composed("doctor", ["seconds=0"])) | changed, names)}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions to pretend, by package; None for one that is not installed."""
    pretended: dict[str, str | None] = {}
    real = importlib.metadata.version

    def version(name: str) -> str:
        if pretended.get(name, "") is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return pretended.get(name) or real(name)

    monkeypatch.setattr(health.importlib.metadata, "version", version)
    return pretended


@pytest.fixture
def gl(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the module that tries backends, and for MuJoCo, which may be absent here."""
    module = ModuleType("envs.external.gl")
    monkeypatch.setitem(sys.modules, "envs.external.gl", module)
    monkeypatch.setattr(health.importlib.util, "find_spec", lambda name: name)
    return module


def test_checks__find_nothing_broken_here():
    findings = found("machine", "packages", "torch", "video", "native world")
    assert [finding for finding in findings.values() if finding.mark == "broken"] == []
    assert sound(findings.values())
    assert findings["numpy"].told == importlib.metadata.version("numpy")
    assert "device=auto is " in findings["training"].told
    assert findings["GIF"].mark == findings["MP4"].mark == "ok"
    assert "libx264" in findings["MP4"].told
    assert findings["Pendulum-v0 x 256"].metrics["native"] > 0
    assert re.fullmatch(r"[1-9]\d* cores, .* GiB of memory, .* GiB of disk free here", findings["hardware"].told)


def test_packages__says_what_to_install_for_an_absent_dependency(versions):
    versions["tqdm"] = None
    finding = found("packages")["tqdm"]
    assert (finding.mark, finding.required) == ("missing", True)
    assert finding.told == "not installed, needs >=4.66"
    assert finding.install == ('python -m pip install "tqdm>=4.66"',)
    assert not sound([finding])


def test_packages__refuses_a_version_that_is_not_wanted(versions):
    versions["numpy"] = "1.20"
    finding = found("packages")["numpy"]
    assert (finding.mark, finding.required, finding.told) == ("broken", True, "1.20, needs >=1.26")
    versions["numpy"] = "3.0.dev1"
    assert found("packages")["numpy"].mark == "ok"


def test_packages__may_lack_an_extra(versions):
    versions |= {"mujoco": None, "dm-control": "1.0.30"}
    findings = found("packages")
    finding = findings["extra control"]
    assert (finding.mark, finding.required) == ("missing", False)
    assert "dm-control 1.0.30" in finding.told
    assert "mujoco (not installed)" in finding.told
    assert finding.install == ('python -m pip install "mujoco<4,>=3.1"',)
    assert sound(findings.values())


def test_packages__are_those_that_the_distribution_asks_for_here(monkeypatch, versions):
    asked = [
        "numpy>=1.26",
        'nothing-for-old-pythons; python_version < "3"',
        "jepa_worlds[control]; extra == 'dev'",
        "pytest; extra == 'dev'",
        "another>=2; extra == 'dev'",
    ]
    monkeypatch.setattr(health.importlib.metadata, "requires", lambda name: asked)
    versions["pytest"] = None
    findings = found("packages")
    assert set(findings) == {"numpy", "extra dev"}
    assert findings["extra dev"].told == "pytest (not installed), another (not installed)"
    assert findings["extra dev"].install == ('python -m pip install "pytest" "another>=2"',)


def test_torch__may_be_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "jepa_worlds.machine.benchmarking", None)
    findings = list(examine({}, ["torch"]))
    assert [(finding.mark, finding.what, finding.required) for finding in findings] == [("broken", "torch", True)]
    assert not sound(findings)


@pytest.mark.parametrize(
    "error", [OSError("libGL.so:\n no such file"), RuntimeError(), KeyError("x"), AssertionError()]
)
def test_examine__survives_a_check_that_fails(monkeypatch, error):
    def check(settings: Any) -> Any:
        yield Finding("ok", "first", "well")
        raise error

    monkeypatch.setitem(health.CHECKS, "bad", (check, True))
    monkeypatch.setitem(health.CHECKS, "worse", (check, False))
    findings = list(examine({}, ["bad", "worse"]))
    assert [(f.mark, f.what, f.required) for f in findings if f.what != "first"] == [
        ("broken", "bad", True),
        ("broken", "worse", False),
    ]
    assert all(finding.told and "\n" not in finding.told for finding in findings)
    assert [f.what for f in findings].count("first") == 2


def test_gl__needs_no_more_than_one_backend(gl):
    gl.backends = lambda: {"egl": "no such\nlibrary", "osmesa": "ok"}
    findings = found("GL")
    assert findings["GL osmesa"].mark == "ok"
    assert findings["GL egl"].mark == "missing"
    assert findings["GL egl"].told == "no such library (not needed: osmesa renders)"
    assert not any(finding.install for finding in findings.values())


def test_gl__says_what_to_install_if_nothing_renders(gl):
    gl.backends = lambda: {"egl": "no libEGL", "glfw": "no display"}
    findings = found("GL")
    assert {finding.mark for finding in findings.values()} == {"missing"}
    assert findings["GL egl"].install == ("apt-get install libegl1 libgl1-mesa-dri",)
    assert sound(findings.values())


def test_gl__is_tried_by_what_chooses_the_backend(monkeypatch):
    from envs.external import gl

    monkeypatch.setattr(health.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(gl, "probe", lambda name: "ok" if name == gl.BACKENDS[-1] else "it does not")
    findings = found("GL")
    assert {what: finding.mark for what, finding in findings.items()} == {
        f"GL {name}": "ok" if name == gl.BACKENDS[-1] else "missing" for name in gl.BACKENDS
    }


def test_gl__may_crash(gl):
    def backends() -> dict[str, str]:
        raise RuntimeError("the driver is gone")

    gl.backends = backends
    finding = found("GL")["GL"]
    assert (finding.mark, finding.told, finding.required) == ("broken", "the driver is gone", False)


def test_mujoco__may_be_absent(monkeypatch):
    for name in ("mujoco", "dm_control"):
        monkeypatch.setitem(sys.modules, name, None)
    findings = found("GL", "MuJoCo world")
    assert {what: finding.mark for what, finding in findings.items()} == {
        "GL": "missing",
        "DMControl-v0 reacher-easy": "missing",
    }
    assert sound(findings.values())


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os.abort()", "its process ended with status -6"),
        ("raise OSError('the driver is gone')", "OSError: the driver is gone"),
    ],
)
def test_mujoco__may_take_its_process_along(gl, monkeypatch, code, told):
    monkeypatch.setattr(health, "MEASURE", code)
    finding = found("MuJoCo world")["DMControl-v0 reacher-easy"]
    assert (finding.mark, finding.told, finding.required) == ("broken", told, False)


def test_mujoco__may_hang(gl, monkeypatch):
    monkeypatch.setattr(health, "MEASURE", "import time; time.sleep(100)")
    monkeypatch.setattr(health, "SECONDS", 0.1)
    finding = found("MuJoCo world")["MuJoCo world"]
    assert finding.mark == "broken"
    assert "timed out" in finding.told


def test_mujoco__is_measured_by_what_its_process_says(gl, monkeypatch):
    monkeypatch.setattr(health, "MEASURE", "import sys; print('a greeting'); print(len(sys.argv[1]) * 0 + 50.0)")
    finding = found("MuJoCo world")["DMControl-v0 reacher-easy"]
    assert (finding.mark, finding.metrics) == ("slow", {"mujoco": 50})
    assert finding.told == "50 frames/s, less than the usual 100"


def test_measure__measures_an_environment(gl):
    chosen = {"id": "jepa_worlds/MovingDot-v0", "kwargs": {"size": 32}, "slow_below": 1}
    finding = found("MuJoCo world", mujoco=chosen)["MovingDot-v0 32"]
    assert finding.mark == "ok"
    assert finding.metrics["mujoco"] > 0


def test_native_world__may_be_slow_or_broken():
    chosen = plain(composed("doctor", []))["native"]
    slow = found("native world", native=chosen | {"slow_below": 10**12})["Pendulum-v0 x 256"]
    assert slow.mark == "slow"
    assert "less than the usual 1,000,000,000,000" in slow.told
    broken = found("native world", native=chosen | {"id": "jepa_worlds/NoSuch-v0"})["native world"]
    assert (broken.mark, sound([slow]), sound([broken])) == ("broken", True, False)


def test_video__may_lack_ffmpeg(monkeypatch):
    monkeypatch.setattr(moviepy.config, "FFMPEG_BINARY", "/nowhere/ffmpeg")
    findings = found("video")
    assert (findings["GIF"].mark, findings["MP4"].mark) == ("ok", "missing")
    assert "/nowhere/ffmpeg" in findings["MP4"].told
    assert findings["MP4"].install == ("python -m pip install --upgrade imageio-ffmpeg moviepy",)
    assert sound(findings.values())


def test_video__may_have_an_ffmpeg_that_fails(monkeypatch, tmp_path):
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text("#!/bin/sh\necho no such encoder >&2\nexit 1\n")
    ffmpeg.chmod(0o755)
    monkeypatch.setattr(moviepy.config, "FFMPEG_BINARY", str(ffmpeg))
    monkeypatch.setattr("moviepy.video.io.ffmpeg_writer.FFMPEG_BINARY", str(ffmpeg))
    monkeypatch.setattr("moviepy.video.io.ffmpeg_reader.FFMPEG_BINARY", str(ffmpeg))
    finding = found("video")["MP4"]
    assert (finding.mark, finding.required) == ("missing", False)
    assert finding.told


def test_tell__ends_with_what_to_install(capsys):
    findings = [
        Finding("ok", "Python", "3.12"),
        Finding("missing", "a", "gone", ("pip install a",)),
        Finding("missing", "b", "gone", ("pip install a", "apt-get install b")),
    ]
    assert tell(iter(findings)) == findings
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["ok", "Python", "3.12"],
        ["missing", "a", "gone"],
        ["missing", "b", "gone"],
    ]
    assert lines[4:7] == ["To install what is missing:", "  pip install a", "  apt-get install b"]
    assert lines[-1] == "everything that is required works"
    tell([Finding("broken", "torch", "gone", required=True), Finding("ok", "numpy", "2.0", required=True)])
    assert capsys.readouterr().out.splitlines()[-1] == "nothing works without torch"


def doctored(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(doctor, "examine", lambda settings: iter(findings))


def test_doctor__writes_results(monkeypatch, tmp_path):
    doctored(monkeypatch, Finding("slow", "x", "50 frames/s", metrics={"mujoco": 50}), Finding("missing", "y", "gone"))
    doctor.main(composed("doctor", [f"out={tmp_path / 'out'}"]))
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (content["command"], content["metrics"]) == ("doctor", {"mujoco": 50})
    assert [(row["mark"], row["what"], row["told"]) for row in content["findings"]] == [
        ("slow", "x", "50 frames/s"),
        ("missing", "y", "gone"),
    ]


def test_doctor__ends_in_status_1_if_something_required_is_broken(monkeypatch, tmp_path):
    doctored(monkeypatch, Finding("broken", "x", "gone", required=True))
    with pytest.raises(SystemExit) as end:
        doctor.main(composed("doctor", [f"out={tmp_path / 'out'}"]))
    assert end.value.code == 1
    assert (tmp_path / "out" / "results.json").is_file()


def test_process__examines_everything_and_ends_in_status_0(run_command, tmp_path):
    """With MuJoCo out of reach, which would take a while."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "sitecustomize.py").write_text("import sys\nsys.modules['mujoco'] = sys.modules['dm_control'] = None\n")
    absent = {"PYTHONPATH": str(shadow), "IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg"}
    ended = run_command("doctor", "seconds=0", env=absent)
    assert (ended.returncode, ended.stderr) == (0, "")
    marks = {line[9:32].strip(): line[:8].strip() for line in ended.stdout.splitlines() if line}
    assert marks["Python"] == marks["torch"] == marks["training"] == marks["GIF"] == "ok"
    assert marks["MP4"] == marks["GL"] == "missing"
    assert "  python -m pip install --upgrade imageio-ffmpeg moviepy" in ended.stdout.splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["shadow"]


def test_process__says_what_is_missing_without_hydra(run_command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['hydra'] = None\n")
    ended = run_command("doctor", env={"PYTHONPATH": str(tmp_path)})
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.splitlines()[-1] == "nothing works without Hydra"
    assert "  python -m pip install --force-reinstall hydra-core" in ended.stdout.splitlines()


def test_checks__say_what_is_required():
    assert {name for name, (_, required) in CHECKS.items() if not required} == {"GL", "MuJoCo world"}


@pytest.mark.parametrize("bad", ["abc", -1, True])
def test_command__refuses_seconds_that_are_none(bad):
    with pytest.raises(ValueError, match=f"seconds must be a number of at least 0, got {bad!r}"):
        doctor.main(composed("doctor", [f"seconds={bad}"]))
