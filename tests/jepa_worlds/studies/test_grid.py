"""Grids: which cells there are, what they override, and what is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from jepa_worlds.shared.app import CONFIGS, composed, plain
from jepa_worlds.shared.files import Plain
from jepa_worlds.studies.cells import Job, make_jobs
from jepa_worlds.studies.grid import Cell, Grid
from jepa_worlds.studies.reading import read_grid

SMALL = ["methods=[vicreg,supervised]", "panels=[static-uniform,dynamic-uniform]", "levels=[0,1]", "seeds=2"]
FOLDER = CONFIGS / "experiment"
SHIPPED = sorted(str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.rglob("*.yaml"))


@cache
def settings(*groups: str) -> Plain:
    return plain(composed("experiment", [*groups]))


def grid(*overrides: str) -> Grid:
    """The grid under overrides; those of groups are composed once, and all others set here, which is much faster."""
    groups = [override for override in overrides if override.startswith(("experiment=", "preset="))]
    changed = OmegaConf.create(settings(*groups))
    for key, _, value in (override.partition("=") for override in overrides if override not in groups):
        OmegaConf.update(changed, key.removeprefix("+"), yaml.safe_load(value), merge=False)
    return read_grid(plain(changed))


def job(of: Grid, cell: Cell, out: Path) -> Job:
    return make_jobs(of, [cell], out)[0]


def test_cells__are_methods_on_panels_at_levels_with_seeds_and_level_0_is_there_once() -> None:
    found = grid(*SMALL, "first_seed=3").cells
    assert found[:6] == [
        Cell("vicreg", None, 0, 3),
        Cell("supervised", None, 0, 3),
        Cell("vicreg", "static-uniform", 1, 3),
        Cell("supervised", "static-uniform", 1, 3),
        Cell("vicreg", "dynamic-uniform", 1, 3),
        Cell("supervised", "dynamic-uniform", 1, 3),
    ]
    assert [cell.seed for cell in found] == [3] * 6 + [4] * 6 and len(set(found)) == 12
    names = [str(cell) for cell in found[1:3]]
    assert names == ["supervised none 0 seed 3", "vicreg static-uniform 1 seed 3"]


def test_cells__have_a_level_0_of_their_own_where_more_than_the_distractor_is_theirs() -> None:
    found = grid("experiment=remedies", "methods=[vicreg]", "panels=[static-uniform,square,three-dots]", "seeds=1")
    assert [(cell.panel, cell.level) for cell in found.cells] == [
        (None, 0),
        ("static-uniform", 1),
        ("static-uniform", 2),
        ("square", None),
        ("three-dots", None),
    ]
    bigger = "+experiment.panels.big={title: big, collect: ['env.size=32','distractor=uniform']}"
    found = grid(*SMALL, bigger, "methods=[vicreg]", "panels=[static-uniform,big]", "seeds=1")
    assert [(cell.panel, cell.level) for cell in found.cells] == [
        (None, 0),
        ("static-uniform", 1),
        ("big", 0),
        ("big", 1),
    ]
    assert found.overrides(Cell("vicreg", "big", 0, 0))["collect"][-2:] == ["env.size=32", "distractor=none"]


@pytest.mark.parametrize(
    ("given", "steps", "seeds"),
    [
        ([], 600, 3),
        (["subset=headline"], 600, 1),
        (["subset=headline", "seeds=2", "steps=7"], 7, 2),
        (["preset=paper"], 15600, 3),
        (["+experiment.steps=5", "preset.steps=null"], 5, 3),
    ],
)
def test_grid__is_of_the_command_line_then_the_subset_then_the_preset_then_the_experiment(
    given: list[str], steps: int, seeds: int
) -> None:
    found = grid(*given)
    assert len(found.seeds) == seeds
    assert f"steps={steps}" in found.overrides(found.cells[0])["train"]


def test_job__has_the_overrides_of_all_in_order_and_commands_for_them(tmp_path: Path) -> None:
    given = [
        "train=['clip=2.0']",
        "collect=['validation=0.2']",
        "trust=[mine]",
        "device=cpu",
        "episodes=40",
        "window=9",
    ]
    of = grid(*SMALL, *given, "+experiment.panels.static-uniform.train=['window=5']")
    found = job(of, Cell("supervised", "static-uniform", 1.0, 1), tmp_path / "out")
    assert (found.collect["distractor"]["dynamics"], found.collect["distractor"]["level"]) == ("static", 1)
    assert (found.collect["episodes"], found.collect["validation"], found.collect["seed"]) == (40, 0.2, 1)
    assert found.train["model"]["objectives"] and found.train["objective"]["weights"] == {"supervised": 1.0}
    assert (found.train["window"], found.train["clip"], found.train["seed"], found.train["trust"]) == (
        5,
        2.0,
        1,
        ["mine"],
    )
    assert found.collect["trust"] == found.probe["trust"] == ["mine"]
    assert found.probe["device"] == found.train["device"] == "cpu" and found.probe["run"] == str(found.run)
    assert found.data.name.startswith("static-uniform-1-s1-")
    assert found.run.name.startswith("supervised-static-uniform-1-s1-")
    collecting, training, probing = found.commands
    assert collecting.startswith("python -m jepa_worlds.collect episodes=40 ") and "distractor.level=1 " in collecting
    assert collecting.endswith(f" seed=1 out={found.data}")
    assert "window=5" in training and "window=9" not in training  # of two overrides of a key, the last
    assert training.endswith(f" seed=1 data={found.data} out={found.run}")
    assert probing == f"python -m jepa_worlds.probe device=cpu 'trust=[mine]' seed=1 run={found.run}"


def test_job__plans_where_a_protocol_is_named_and_the_panel_does_not_refuse(tmp_path: Path) -> None:
    chosen = ["experiment=remedies", "preset=quick", "methods=[vicreg]", "panels=[static-photographs,three-dots]"]
    plan = "plan=['protocol=moving_dot/v1','precision=int8']"
    of = grid(*chosen, plan, "+experiment.panels.static-photographs.plan=['planner=icem']")
    cell = Cell("vicreg", "static-photographs", 1, 0)
    found = job(of, cell, tmp_path)
    assert found.plan is not None and found.plan["planner"]["_target_"].endswith("ICEM")
    assert (found.plan["protocol"]["id"], found.plan["precision"]) == ("plan/moving_dot/v1", "int8")
    assert found.plan["out"] == str(found.plans) and found.plans.parent == found.run / "plan"
    said = "python -m jepa_worlds.plan planner=icem protocol=moving_dot/v1 precision=int8 "
    assert found.commands[-1] == f"{said}run={found.run} out={found.plans}"
    assert job(of, Cell("vicreg", "three-dots", None, 0), tmp_path).plan is None
    without = job(grid(*chosen), cell, tmp_path)
    assert without.plan is None and without.planned and len(without.commands) == 3
    assert without.run == found.run


def test_job__plans_little_under_the_debug_preset_and_only_where_its_experiment_plans(tmp_path: Path) -> None:
    for experiment, planned in (("control", True), ("remedies", False)):
        of = grid(f"experiment={experiment}", "preset=debug")
        found = job(of, of.cells[0], tmp_path).plan
        assert (found is not None) == planned
        if found:
            assert (found["protocol"]["budget"], found["protocol"]["episodes"], found["protocol"]["seeds"]) == (
                4,
                2,
                [0],
            )


def test_job__is_named_by_all_that_it_depends_on_and_nothing_else(tmp_path: Path) -> None:
    cell = Cell("vicreg", "static-uniform", 1, 0)

    def names(*overrides: str) -> tuple[str, str]:
        found = job(grid(*SMALL, *overrides), cell, tmp_path)
        return found.data.name, found.run.name

    data, run = names()
    assert names("device=cpu", "jobs=1", "seeds=3", "probe=['protocol.test_windows=5']", "collect=['num_envs=2']") == (
        data,
        run,
    )
    assert names("trust=[mine]") == (data, run)  # which lets it be made
    assert names("steps=601")[0] == data and names("steps=601")[1] != run
    assert names("episodes=4999")[0] != data and names("episodes=4999")[1] != run
    assert names("collect=['env.sigma=1.4']")[1] != run
    one = job(grid(*SMALL, "levels=[1.0]"), Cell("vicreg", "static-uniform", 1.0, 0), tmp_path)
    assert (one.data.name, one.run.name) == (data, run)
    other = job(grid(*SMALL), Cell("vicreg", "static-uniform", 1, 1), tmp_path)
    assert other.data.name.rpartition("-")[2] != data.rpartition("-")[2]


@pytest.mark.parametrize(("plan", "planned"), [("null", [True, False]), ("['planner=icem']", [True, True])])
def test_cells__have_a_level_0_of_their_own_where_they_plan_otherwise(
    tmp_path: Path, plan: str, planned: list[bool]
) -> None:
    chosen = ["experiment=remedies", "preset=quick", "methods=[vicreg]", "panels=[static-photographs,static-uniform]"]
    of = grid(
        *chosen, "levels=[0]", "plan=['protocol=moving_dot/v1']", f"+experiment.panels.static-photographs.plan={plan}"
    )
    jobs = make_jobs(of, of.cells[:2], tmp_path)
    assert [job.cell.panel for job in jobs] == [None, "static-photographs"]
    assert [job.plan is not None for job in jobs] == planned
    assert jobs[0].run == jobs[1].run and jobs[0].plans != jobs[1].plans


def test_jobs__of_the_same_settings_share_their_folders_whatever_they_are_called(tmp_path: Path) -> None:
    of = grid("experiment=remedies", "methods=[vicreg]", "panels=[static-uniform,episodes-5000]", "levels=[1]")
    first, second = make_jobs(of, of.cells[:2], tmp_path)
    assert (first.cell.panel, second.cell.panel) == ("static-uniform", "episodes-5000")
    assert (first.data, first.run) == (second.data, second.run)
    first.data.mkdir(parents=True)
    assert job(of, second.cell, tmp_path).data == first.data  # what is there keeps its name


def test_jobs__quote_paths_in_commands_and_escape_them_in_configurations(tmp_path: Path) -> None:
    found = job(grid(*SMALL), Cell("vicreg", None, 0, 0), tmp_path / "a=1 ${b}")
    assert "out='" in found.commands[0].replace("'\"'\"'", "'")
    assert found.train["data"] == str(found.data).replace("${", r"\${")


REFUSED: list[tuple[list[str], str]] = [
    (["methods=[vicrg]"], "unknown method 'vicrg': did you mean 'vicreg'?"),
    (["panels=[static-unifrm]"], "unknown panel 'static-unifrm': did you mean 'static-uniform'?"),
    (["subset=headlin"], "unknown subset 'headlin': did you mean 'headline'?"),
    (["methods=[vicreg,vicreg]"], "methods has vicreg more than once"),
    (["methods=[]"], r"methods must be a list of names, as in methods=\[vicreg,simclr\], got \[\]"),
    (["panels=static"], "panels must be a list of names"),
    (["levels=[]"], r"levels must be a list of numbers, as in \[0, 1\], got \[\]"),
    (["levels=[0,-1]"], "a level must be a number of at least 0, or null for none, got -1"),
    (["levels=[high]"], "a level must be a number of at least 0, or null for none, got 'high'"),
    (["levels=[1,1.0]"], "levels has 1, 1.0 more than once"),
    (["seeds=0"], "seeds must be an integer of at least 1, or null, got 0"),
    (["seeds=[0,1]"], r"seeds must be an integer of at least 1, or null, got \[0, 1\]"),
    (["steps=many"], "steps must be an integer of at least 1, or null, got 'many'"),
    (["first_seed=-1"], "first_seed must be an integer of at least 0, got -1"),
    (["trials=-1"], "trials must be an integer of at least 0, got -1"),
    (["+experiment.pannels={}"], "experiment has no place for 'pannels': did you mean 'panels'?"),
    (["+preset.step=4"], "preset has no place for 'step': did you mean 'steps'?"),
    (["experiment.title=null"], "an experiment needs title"),
    (["experiment.methods={a/b: {title: x}}"], "'a/b' becomes the name of a folder"),
    (["+experiment.methods.new={train: []}"], "method 'new' must be described by a title and overrides"),
    (["+experiment.methods.new={title: x, trian: []}"], "method 'new' has no place for 'trian': did you mean 'train'?"),
    (["+experiment.panels.new={title: x, collect: 'a=1'}"], "panel 'new': collect must be a list of overrides"),
    (["plan=['precision=int8']"], r"names no protocol, as in plan=\[\"protocol=moving_dot/v1\"\]"),
    (["+experiment.panels.new={title: x, plan: 'a=1'}"], "panel 'new': plan must be a list of overrides"),
    (["+experiment.panels.new={title: x, levels: [a]}"], "panel 'new': a level must be a number"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_grid__refuses_what_has_no_place_in_it(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+experiment.methods.new={title: x, train: ['objective=vicrg']}", "methods=[new]"],
            "new static-uniform 1 seed 0 cannot be run: .*: unknown option objective=vicrg: did you mean",
        ),
        (["train=['optimizer.rl=1']"], "cannot be run: train .*: unknown configuration key 'optimizer.rl'"),
        (["collect=['episode=5']"], "cannot be run: collect .*: unknown configuration key 'episode': did you mean"),
        (["collect=['episodes=0']"], "cannot be run: collect .*: episodes must be an integer of at least 1, got 0"),
        (["train=['clip=0']"], "cannot be run: train .*: clip must be a positive number"),
        (["probe=[seed]"], "cannot be run: probe seed"),
        (["plan=['protocol=dot/v1']"], "cannot be run: plan .*unknown option"),
        (["plan=['protocol=moving_dot/v1','protocol.budget=0']"], "cannot be run: plan .*budget"),
        (["plan=['protocol=moving_dot/v1','runs=[x]']"], "cannot be run: plan .*leave out runs=\\[x\\]"),
        (["plan=['protocol=moving_dot/v1','precision=int4']"], "cannot be run: plan .*precision must be one of"),
        (["plan=['protocol=moving_dot/v1','num_envs=0']"], "cannot be run: plan .*num_envs must be an integer of at"),
        (
            ["+experiment.panels.new={title: x, collect: ['distractor=square']}", "panels=[new]"],
            r"vicreg new 1 seed 0 cannot be run: there is no distractor.level to set to 1; ",
        ),
    ],
)
def test_jobs__refuse_what_does_not_fit_together(tmp_path: Path, overrides: list[str], message: str) -> None:
    of = grid(*SMALL[2:], "methods=[vicreg]", "panels=[static-uniform]", "levels=[1]", *overrides)
    with pytest.raises(ValueError, match=message):
        make_jobs(of, of.cells, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("experiment", SHIPPED)
def test_shipped_experiments__fit_together_under_every_preset(tmp_path: Path, experiment: str) -> None:
    presets = [file.stem for file in (CONFIGS / "preset").glob("*.yaml")]
    assert set(presets) >= {"debug", "quick", "paper"}
    for preset in presets:
        of = grid(f"experiment={experiment}", f"preset={preset}")
        assert of.cells and len({str(cell) for cell in of.cells}) == len(of.cells)
        for name in settings(f"experiment={experiment}")["experiment"]["subsets"]:
            grid(f"experiment={experiment}", f"preset={preset}", f"subset={name}")
    of = grid(f"experiment={experiment}")
    method, panel = next(iter(of.methods)), next(iter(of.panels))
    cells = {(cell.method, cell.panel): cell for cell in of.cells if method == cell.method or panel == cell.panel}
    jobs = make_jobs(of, list(cells.values()), tmp_path)
    assert len({job.run for job in jobs if job.cell.panel == panel}) == len(of.methods)


def test_grid__wants_experiments_to_be_chosen() -> None:
    with pytest.raises(ValueError, match="experiment must be chosen"):
        read_grid({**settings(), "experiment": None})
