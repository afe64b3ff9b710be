"""The choice of an OpenGL backend."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from envs.external import gl


@pytest.fixture(autouse=True)
def no_choice_yet(monkeypatch):
    """MUJOCO_GL unset, and back to what it was afterwards."""
    monkeypatch.setenv(gl.VARIABLE, "")


@pytest.fixture
def rendering(monkeypatch):
    """``rendering("egl", …)``: a machine with MuJoCo where these backends render, and no others."""

    def pretend(*names):
        monkeypatch.setattr(gl, "require", lambda package, wanted_by: None)
        monkeypatch.setattr(gl, "BACKENDS", ("egl", "osmesa", "glfw"))
        monkeypatch.setattr(gl, "probe", lambda name: gl.OK if name in names else f"no lib{name}")

    return pretend


@pytest.mark.parametrize(
    ("names", "chosen"), [(("egl", "osmesa", "glfw"), "egl"), (("glfw", "osmesa"), "osmesa"), (("glfw",), "glfw")]
)
def test_choose_backend__takes_the_first_that_renders_and_tells_mujoco(rendering, names, chosen):
    rendering(*names)
    assert gl.choose_backend() == chosen == os.environ[gl.VARIABLE]


def test_choose_backend__honours_the_users_choice(rendering, monkeypatch):
    rendering("egl", "osmesa")
    monkeypatch.setenv(gl.VARIABLE, "osmesa")
    assert gl.choose_backend() == "osmesa"
    monkeypatch.setenv(gl.VARIABLE, "glfw")
    with pytest.raises(ValueError, match=r"MUJOCO_GL='glfw' does not render: no libglfw\. Unset it"):
        gl.choose_backend()


def test_choose_backend__leaves_mujoco_its_own_choice_elsewhere(rendering, monkeypatch):
    rendering("default")
    monkeypatch.setattr(gl, "BACKENDS", ("default",))
    assert gl.choose_backend() == "default"
    assert os.environ[gl.VARIABLE] == ""


def test_choose_backend__says_what_to_install_where_nothing_renders(rendering):
    rendering()
    with pytest.raises(
        ValueError, match=r"egl: no libegl; .*glfw: no libglfw.*apt-get install libegl1 libgl1-mesa-dri"
    ):
        gl.choose_backend()
    assert gl.backends() == {name: f"no lib{name}" for name in ("egl", "osmesa", "glfw")}


def test_choose_backend__says_how_to_install_mujoco(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ValueError, match=r'needs mujoco, which is not installed: pip install "jepa_worlds\[control\]"'):
        gl.choose_backend()


def test_probe__renders_for_real(renders):
    assert gl.choose_backend() in gl.BACKENDS
    assert "invalid value" in gl.probe("bogus")


def test_probe__survives_a_backend_that_hangs_or_crashes(monkeypatch):
    monkeypatch.setattr(gl, "TIMEOUT", 0.2)
    monkeypatch.setattr(gl, "_PROBE", "import time; time.sleep(60)")
    assert gl.probe("one that hangs") == "it has not rendered a frame in 0.2 s"
    monkeypatch.setattr(gl, "TIMEOUT", 60)
    monkeypatch.setattr(gl, "_PROBE", "import os; os.abort()")
    assert gl.probe("one that crashes") == "the process that tried it died with status -6"


def test_foreground__is_all_but_the_void_and_planes(renders):
    import mujoco

    geom, site = int(mujoco.mjtObj.mjOBJ_GEOM), int(mujoco.mjtObj.mjOBJ_SITE)
    plane, sphere = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_SPHERE)
    model = SimpleNamespace(geom_type=np.array([sphere, plane]))
    labels = np.array([[(-1, -1), (0, geom), (1, geom), (1, site)]], np.int32)
    assert gl.foreground(labels, model).tolist() == [[False, True, False, True]]


def test_dropped__keeps_what_it_is_told_to():
    assert gl.dropped(True, ["shadow"]) == {"multisampling", "reflection", "skybox", "haze"}
    assert gl.dropped(False, []) == set()
    with pytest.raises(ValueError, match=r"keep must name some of .*'haze'.*got \['fog'\]"):
        gl.dropped(True, ["fog"])
