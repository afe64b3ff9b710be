"""What tests in several folders need: reasons to skip what this machine cannot do."""

from __future__ import annotations

import importlib
from contextlib import suppress
from types import ModuleType

import pytest

from envs.external import gl


@pytest.fixture(scope="session")
def renders() -> None:
    """Skips a test where MuJoCo cannot render."""
    pytest.importorskip("mujoco", reason='needs MuJoCo: pip install "jepa_worlds[control]"')
    if not any(said == gl.OK for said in gl.backends().values()):
        pytest.skip(f"needs OpenGL: {gl.APT} ({gl.backends()})")


@pytest.fixture(scope="session")
def dm_control(renders: None) -> None:
    """Skips a test where dm_control is absent or cannot render."""
    pytest.importorskip("dm_control", reason='needs dm_control: pip install "jepa_worlds[control]"')
    gl.choose_backend()


@pytest.fixture
def suite() -> ModuleType:
    """`dm_control.suite`, for its physics. It chooses how to render for all that follows as soon as it is imported."""
    pytest.importorskip("dm_control", reason='needs dm_control: pip install "jepa_worlds[control]"')
    with suppress(ValueError):  # nothing renders here
        gl.choose_backend()
    return importlib.import_module("dm_control.suite")


@pytest.fixture(scope="session")
def pygame() -> None:
    """Skips a test where Gymnasium's classic control cannot draw."""
    pytest.importorskip("pygame", reason='needs pygame: pip install "jepa_worlds[classic]"')
