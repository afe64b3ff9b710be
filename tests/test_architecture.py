"""The arrows between the packages run one way, and what does not belong into a package is not in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("envs", "agents", "jepa_worlds")
THIRD_PARTY = {
    "envs": {"numpy", "gymnasium", "PIL", "skimage", "moviepy", "mujoco", "dm_control"},
    "agents": {"numpy", "gymnasium", "torch", "stable_baselines3"},
}
LAZY = {"PIL", "skimage", "moviepy", "mujoco", "dm_control", "stable_baselines3"}  # only inside functions
TRAINERS = {ROOT / "jepa_worlds" / "evaluate.py"} | {
    ROOT / "jepa_worlds" / "policies" / f"{name}.py" for name in ("algorithms", "comparing", "downstream", "floors")
}
SB3_CLASSES = {ROOT / "agents" / "policies" / name for name in ("extractors.py", "vec_env.py")}  # derived from its own
LAYERS = ("shared", "pictures", "data", "models", "probing", "policies", "planning")  # each may import those before it
ABOVE = {"studies", "machine"}  # which run the commands, too
RUN = {"collect", "train", "probe", "plan"}
LOGGERS = {"logging", "tqdm", "warnings", "wandb", "tensorboard"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """The top-level package of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield (node.module or "").split(".")[0]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", ["envs", "agents"])
def test_imports__run_one_way(package):
    own = {"envs": {"envs"}, "agents": {"agents", "envs"}}[package]
    allowed = own | THIRD_PARTY[package] | (set(sys.stdlib_module_names) - LOGGERS)
    assert modules(package)
    for path in modules(package):
        foreign = set(imports(parsed(path))) - allowed
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_packages_of_jepa_worlds__import_what_lies_below_them():
    pipeline = ROOT / "jepa_worlds"
    packages = {path.parent.name for path in pipeline.glob("*/__init__.py")}
    assert packages == {*LAYERS, *ABOVE}
    commands = {path.stem for path in pipeline.glob("*.py")} - {"__init__"}
    for package in packages:
        below = {*LAYERS} | RUN if package in ABOVE else {*LAYERS[: LAYERS.index(package)]}
        for path in (pipeline / package).glob("*.py"):
            found = set()
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.ImportFrom) and node.module == "jepa_worlds":
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jepa_worlds."):
                    found.add((node.module or "").split(".")[1])
                elif isinstance(node, ast.Import):
                    found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("jepa_worlds.")}
            foreign = (found & (packages | commands)) - below - {package}
            assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_imports_of_envs_and_agents__are_light():
    for path in (*modules("envs"), *modules("agents")):
        top_level = ast.Module(
            [node for node in parsed(path).body if isinstance(node, (ast.Import, ast.ImportFrom))], []
        )
        allowed = {"stable_baselines3"} if path in SB3_CLASSES else set()
        assert set(imports(top_level)) & LAZY <= allowed, path


def test_stable_baselines3__is_imported_by_what_needs_it_only():
    light = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in (*modules("agents"), *modules("jepa_worlds"))
        if path not in SB3_CLASSES | TRAINERS
    ]
    code = f"import sys, {', '.join(light)}; sys.exit('stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("package", ["envs", "agents"])
def test_package__neither_prints_nor_names_a_device(package):
    for path in modules(package):
        for node in ast.walk(parsed(path)):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            assert called != "print", f"{path.relative_to(ROOT)}:{node.lineno} prints"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "cuda" not in node.value, f"{path.relative_to(ROOT)}:{node.lineno} names cuda"


@pytest.mark.parametrize("package", PACKAGES)
def test_package__re_exports_nothing(package):
    """Names are imported from where they are defined."""
    for path in (ROOT / package).rglob("__init__.py"):
        names = [
            a.name
            for n in parsed(path).body
            if isinstance(n, ast.ImportFrom) and n.module != "__future__"
            for a in n.names
        ]
        assert set(names) <= {"Path", "TYPE_CHECKING", "external", "worlds"}, path


@pytest.mark.parametrize("package", PACKAGES)
def test_modules__have_docstrings_and_fit_a_sitting(package):
    for path in modules(package):
        tree = parsed(path)
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
        assert path.read_text().count("\n") <= 350, f"{path.relative_to(ROOT)} has grown past its page"
        for node in ast.walk(tree):
            if (
                isinstance(node, (ast.FunctionDef, ast.ClassDef))
                and not node.name.startswith("_")
                and node in tree.body
            ):
                assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name} has no docstring"
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 60, f"{path.relative_to(ROOT)}: {node.name} is too long"


@pytest.mark.parametrize("package", PACKAGES)
def test_package__is_typed(package):
    assert (ROOT / package / "py.typed").is_file()
