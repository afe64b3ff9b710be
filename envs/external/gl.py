"""OpenGL for MuJoCo: which backend really renders here, and which pixels of a picture are scenery."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.external.extras import require

VARIABLE = "MUJOCO_GL"
BACKENDS = ("egl", "osmesa", "glfw") if sys.platform.startswith("linux") else ("default",)
"""Tried in this order; ``default`` leaves the choice to MuJoCo, which has one on macOS and on Windows."""
EFFECTS = ("multisampling", "shadow", "reflection", "skybox", "haze")
"""What makes pictures pretty and rendering in software slow; all but the first are render flags of MuJoCo."""
OK = "ok"
APT = "apt-get install libegl1 libgl1-mesa-dri"
TIMEOUT = 60  # seconds for a probe: a broken display may hang

_PROBE = """
import os
try:
    import mujoco
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, 16, 16)
    renderer.update_scene(data)
    pixels = renderer.render()
    said = "ok" if pixels.max() > pixels.min() else "it renders nothing but one colour"
except BaseException as error:
    said = f"{type(error).__name__}: {error}"
print(" ".join(said.split()), flush=True)
os._exit(0)
"""


def backends() -> dict[str, str]:
    """Every backend of this platform: ``"ok"`` if it renders a frame, otherwise the reason why it does not."""
    return {name: probe(name) for name in BACKENDS}


def choose_backend() -> str:
    """The backend that MuJoCo shall render with: MUJOCO_GL if that is set, otherwise the first that renders.

    Sets MUJOCO_GL for this process and its children; call it before dm_control is imported.

    Raises:
        ValueError: none renders, the one that MUJOCO_GL asks for does not, or MuJoCo is absent; says what to do.
    """
    require("mujoco", "rendering with OpenGL")
    if asked := os.environ.get(VARIABLE, "").strip().lower():
        if (reason := probe(asked)) != OK:
            raise ValueError(
                f"{VARIABLE}={asked!r} does not render: {reason}. Unset it, and what renders here is found by trying"
            )
        return asked
    for name in BACKENDS:
        if probe(name) == OK:
            if name != "default":
                os.environ[VARIABLE] = name
            return name
    reasons = "; ".join(f"{name}: {reason}" for name, reason in backends().items())
    raise ValueError(f"no OpenGL backend renders here ({reasons}). On Debian or Ubuntu: {APT}")


@functools.cache
def probe(name: str) -> str:
    """``"ok"`` if MuJoCo renders a frame with this backend, in a process of its own; otherwise the reason."""
    environ = {key: value for key, value in os.environ.items() if key not in (VARIABLE, "PYOPENGL_PLATFORM")}
    if name != "default":
        environ[VARIABLE] = name
    command = [sys.executable, "-c", _PROBE]
    try:
        asked = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"it has not rendered a frame in {TIMEOUT} s"
    return asked.stdout.strip() or f"the process that tried it died with status {asked.returncode}"


def foreground(labels: NDArray[np.int32], model: Any) -> NDArray[np.bool_]:
    """Which pixels show the scene; the others show the void or a plane (floor, ground), which are its backdrop.

    Args:
        labels: (object id, object type) of each pixel, [H, W, 2]; (−1, −1) is the void.
        model: the MuJoCo model.
    """
    import mujoco

    number, kind = labels[..., 0], labels[..., 1]
    planes = np.flatnonzero(np.asarray(model.geom_type) == int(mujoco.mjtGeom.mjGEOM_PLANE))
    return (number != -1) & ~((kind == int(mujoco.mjtObj.mjOBJ_GEOM)) & np.isin(number, planes))


def dropped(fast: bool, keep: Sequence[str]) -> set[str]:
    """Those of `EFFECTS` that are not rendered: none, or with ``fast`` all but those to keep.

    Raises:
        ValueError: ``keep`` names something else.
    """
    if unknown := set(keep) - set(EFFECTS):
        raise ValueError(f"keep must name some of {EFFECTS}, got {sorted(unknown)}")
    return set(EFFECTS) - set(keep) if fast else set()


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, from making an OpenGL context current until all is drawn.

    A context that it frees, of an environment long forgotten, leaves its thread without any: MuJoCo's end with
    ``eglReleaseThread``. What is drawn then is lost without a word.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def simplify(renderer: Any, model: Any, effects: set[str]) -> None:
    """Drop effects from what Gymnasium's `MujocoRenderer` renders; call it before it has rendered anything."""
    import mujoco

    if "multisampling" in effects:
        model.vis.quality.offsamples = 0
    for effect in effects - {"multisampling"}:
        flag = mujoco.mjtRndFlag.__members__[f"mjRND_{effect.upper()}"]
        renderer._get_viewer("rgb_array").scn.flags[flag] = 0


def labels_of_viewer(viewer: Any, camera_id: int | None) -> NDArray[np.int32]:
    """(object id, object type) of each pixel [H, W, 2], by Gymnasium's off-screen viewer.

    Its own ``segmentation=True`` overflows with NumPy 2.
    """
    import mujoco

    flags = viewer.scn.flags
    with uncollected():
        viewer.make_context_current()
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        colour = viewer.render("rgb_array", camera_id=camera_id).astype(np.int64)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
    table = np.full((viewer.scn.ngeom + 1, 2), -1, np.int32)
    for geom in viewer.scn.geoms[: viewer.scn.ngeom]:
        table[geom.segid + 1] = geom.objid, geom.objtype
    table[0] = -1
    found = colour @ (1, 2**8, 2**16)  # [H, W]
    return table[np.where(found < len(table), found, 0)]
