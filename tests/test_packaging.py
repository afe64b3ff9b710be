"""The wheel, installed in an environment of its own, works without the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(build, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of a clean environment: the wheel's own files, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": folder, "platbase": folder}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A path file adds a folder without running its path files: this clone's editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_wheel__holds_the_packages_and_the_configurations(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [path for package in ("agents", "envs", "jepa_worlds") for path in (ROOT / package).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in sources} <= names
    configs = (ROOT / "configs").rglob("*.yaml")
    assert {f"jepa_worlds/{path.relative_to(ROOT)}" for path in configs} <= names
    templates = (ROOT / "jepa_worlds" / "templates").glob("*.html")
    assert {f"jepa_worlds/templates/{path.name}" for path in templates} <= names
    assert {f"{package}/py.typed" for package in ("agents", "envs", "jepa_worlds")} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_installed_wheel__finds_its_own_code_and_configurations(installed, tmp_path):
    code = (
        "import envs, agents; from jepa_worlds.shared.app import CONFIGS; "
        "print(CONFIGS, envs.__file__, agents.__file__)"
    )
    result = run(installed, "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert all(str(installed.parent.parent) in path for path in result.stdout.split())
    assert str(ROOT) not in result.stdout


def test_installed_wheel__collects_and_trains(installed, tmp_path):
    collected = run(installed, "-m", "jepa_worlds.collect", "episodes=24", "out=data", cwd=tmp_path)
    assert collected.returncode == 0, collected.stderr
    overrides = ("data=data", "steps=1", "batch_size=4", "model.latent_dim=8", "out=run")
    trained = run(installed, "-m", "jepa_worlds.train", *overrides, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_import__says_who_shadows_envs(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("")
    result = run(Path(sys.executable), "-c", "import jepa_worlds", cwd=tmp_path)
    assert result.returncode != 0
    assert f"Python finds {tmp_path / 'envs'} first" in result.stderr
