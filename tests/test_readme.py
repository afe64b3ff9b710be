"""What the README and the pages behind it show runs: every command and snippet, at a debug size."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jepa_worlds.shared.app import composed, plain
from jepa_worlds.studies.grid import Grid
from jepa_worlds.studies.reading import read_grid

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
SMALL = {
    "collect": ["episodes=60"],
    "export_minari": [],
    "import_minari": [],
    "train": ["steps=2", "batch_size=8"],
    "probe": [],
    "record": ["episodes=1"],
    "demo": ["episodes=60", "steps=2", "film_episodes=1"],
    "benchmark": ["seconds=0", "worlds=[4]", "faces=[1]", "episodes=60", "train=[batch_size=8]"],
    "experiment": ["preset=debug", "methods=[vicreg,supervised]", "panels=[static-uniform]"],
    "report": ["films=false"],
    "evaluate": ["timesteps=64", "seeds=1", "protocol.evaluations=1", "protocol.episodes=2"],
    "plan": ["protocol.episodes=2", "protocol.seeds=[0]", "planner.iterations=1", "film=false"],
    "doctor": ["seconds=0"],
    "gallery": ["steps=1", "cell=32"],
}


def blocks(language: str) -> list[str]:
    return [
        block
        for page in PAGES
        for block in re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    ]


def commands() -> list[list[str]]:
    """Every `python -m jepa_worlds.…` line of all pages, as arguments; a page goes on where the README ends."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("python -m jepa_worlds.")]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_pages__run_from_top_to_bottom(tmp_path, monkeypatch):
    """The commands in their order, then the snippets, which use what the commands leave."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    found, snippets = commands(), blocks("python")
    assert {arguments[2].removeprefix("jepa_worlds.") for arguments in found} >= {"collect", "train", "probe", "record"}
    files = [block for block in [*snippets, *blocks("yaml")] if FILE.match(block)]
    assert snippets and files
    for block in files:  # their first line says where they lie
        file = tmp_path / FILE.match(block)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block, encoding="utf-8")
    for arguments in found:
        name = arguments[2].removeprefix("jepa_worlds.")
        overridden = {extra.split("=")[0] for extra in SMALL[name]}
        kept = [argument for argument in arguments[1:] if argument.split("=")[0] not in overridden]
        result = run(*kept, *SMALL[name], cwd=tmp_path)
        assert result.returncode == 0, f"{' '.join(arguments)}\n{result.stderr}"
        for argument in arguments:
            if argument.startswith("out="):
                assert (tmp_path / argument.removeprefix("out=")).exists(), argument
    for snippet in (snippet for snippet in snippets if snippet not in files):
        result = run("-c", snippet, cwd=tmp_path)
        assert result.returncode == 0, f"{snippet}\n{result.stderr}"


def test_make_targets__exist_and_do_what_the_readme_says():
    for target in set(re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE)):
        plan = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert plan.returncode == 0, plan.stderr
        assert {"demo": "-m jepa_worlds.demo", "test": "-m pytest"}[target] in plan.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links__lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        file, _, section = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_studies__are_as_large_as_their_page_says():
    text = " ".join((ROOT / "docs" / "study.md").read_text(encoding="utf-8").split())
    sizes = {name: len(grid(f"experiment={name}").cells) for name in ("slow_features", "remedies")}
    assert f"`slow_features` has {sizes['slow_features']} models, `remedies` {sizes['remedies']};" in text
    assert f"job='range(0,{len(grid('preset=paper').cells)})'" in text


def grid(*overrides: str) -> Grid:
    return read_grid(plain(composed("experiment", list(overrides))))
