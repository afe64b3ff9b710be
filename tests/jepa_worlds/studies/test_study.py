"""What a report says of the results of an experiment: means, intervals, floors, tables, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jepa_worlds import report
from jepa_worlds.report import words_as_run
from jepa_worlds.shared.app import composed
from jepa_worlds.studies import leaderboard, panels, telling
from jepa_worlds.studies.plans import plan_measures
from jepa_worlds.studies.study import Condition, Study, rollout_rmse
from jepa_worlds.studies.tabulating import ROLLOUT, markdown, tables

SHARED, STATIC, DYNAMIC = Condition(None, 0), Condition("static", 1), Condition("dynamic", 1)
PANELS = {
    "static": {"title": "fixed noise", "collect": ["distractor=uniform", "distractor.dynamics=static"]},
    "dynamic": {"title": "changing noise", "collect": ["distractor=uniform", "distractor.dynamics=dynamic"]},
    "square": {"title": "a square", "collect": ["distractor=square"], "levels": [None]},
}


def row(method: str, condition: Condition, seed: int, error: float, **changed: Any) -> dict[str, Any]:
    """A row of ``results.json`` with this error; its floors are 10, 6 and 8."""
    number = {"rollout_rmse": error, "encoder_rmse": error / 2, "r2": 0.5, "encoder_r2": 0.25}
    term = {"_target_": "agents.objectives.vicreg.VICReg"} | ({"factor": "location"} if method == "supervised" else {})
    losses = {"trained": {"total": 2.0}, "copy": {"total": 1.0}}
    return {
        "name": f"{method} seed {seed}",
        "cell": {"method": method, "panel": condition.panel, "level": condition.level, "seed": seed},
        "run": f"runs/{method}",
        "data": f"data/{condition.panel}",
        "commands": [f"collect seed={seed}", f"train of={method}", "probe it"],
        "config": {
            "model": {"_target_": "agents.Model", "latent_dim": 4},
            "objective": {"terms": {"a": term}, "weights": {"a": 25.0}},
            **{"steps": 7, "batch_size": 8, "window": 9},
        },
        "metrics": {
            "location": {**number, "per_step_rmse": [error, error]},
            **({"background": {**number, "per_step_rmse": [1.0, 1.0]}} if condition.panel else {}),
        },
        "floors": {"location": {"chance": 10.0, "pixels": 6.0, "untrained": 8.0}},
        "diagnostics": {"r_within": 0.1, "rankme": 3.0, "action_sensitivity": 0.5},
        "protocol": {"id": "probe/v1", "hash": "aaa"},
        "dataset": {"path": "d", "hash": f"{condition}{seed}"},
        "explained": {"losses": losses, "spectrum": [0.7, 0.2, 0.1], "unavailable": {"controlled": "nobody acts"}},
        "seconds": {"collect": None, "train": 30.0, "probe": 1.0},
        **changed,
    }


def write(out: Path, rows: list[dict[str, Any]], failed: tuple[dict[str, Any], ...] = ()) -> Path:
    out.mkdir(exist_ok=True)
    methods = {"vicreg": "VICReg", "idm": "inverse dynamics", "supervised": "supervised", "never": "never run"}
    found = {name: {"levels": [0, 1], "score": ["location"]} | panel for name, panel in PANELS.items()}
    experiment = {"name": "tiny", "title": "Tiny <study>", "preset": "debug", "score": ["location"], "methods": methods}
    experiment |= {"panels": found, "levels": [0, 1], "seeds": [0, 1]}
    content = {"experiment": experiment, "rows": rows, "failed": list(failed), "versions": {"python": "3"}}
    (out / "results.json").write_text(json.dumps(content))
    (out / "config.yaml").write_text(yaml.safe_dump({"experiment": {"panels": PANELS}, "seeds": 2, "subset": None}))
    return out


def grid(*conditions: Condition) -> list[dict[str, Any]]:
    """Two seeds of a method that is fooled, one that is not, and one that knows the truth."""
    errors = {"vicreg": 9.0, "idm": 2.0, "supervised": 1.0}
    return [row(m, c, s, error + s) for m, error in errors.items() for c in conditions for s in (0, 1)]


def test_study__counts_what_panels_share_once_and_in_every_chart(tmp_path):
    study = Study(write(tmp_path, grid(SHARED, STATIC, Condition("square", None))))
    assert study.conditions == [SHARED, STATIC, Condition("square", None)]
    [chart] = study.charts(1)
    assert (chart.title, chart.points) == ("fixed noise", ((0.0, SHARED), (1, STATIC)))
    assert study.near(3) == study.conditions
    assert list(study.methods) == ["vicreg", "idm", "supervised"]
    assert study.estimate("idm", STATIC, rollout_rmse("location")).mean == 2.5


def test_study__pairs_a_static_panel_with_the_dynamic_one_that_is_otherwise_the_same(tmp_path):
    study = Study(write(tmp_path, grid(SHARED, STATIC, DYNAMIC, Condition("square", None))))
    assert study.controls(study.near(1)) == [(STATIC, DYNAMIC)]


def test_study__refuses_a_mean_over_protocols_and_a_seed_twice(tmp_path):
    other = {"id": "probe/v1", "hash": "bbb"}
    with pytest.raises(
        ValueError, match=r"'idm', fixed noise, level 1 were probed under different protocols.*aaa.*bbb"
    ):
        Study(write(tmp_path, [row("idm", STATIC, 0, 1.0), row("idm", STATIC, 1, 1.0, protocol=other)]))
    with pytest.raises(ValueError, match=r"a seed more than once: \[0, 0\]"):
        Study(write(tmp_path, [row("idm", STATIC, 0, 1.0), row("idm", STATIC, 0, 1.0)]))


def test_tables__never_hold_two_protocols_in_a_column(tmp_path):
    other = {"id": "probe/v1", "hash": "bbb"}
    rows = [
        row("vicreg", STATIC, 0, 3.0),
        row("supervised", STATIC, 0, 1.0),
        row("idm", STATIC, 0, 2.0, protocol=other),
    ]
    study = Study(write(tmp_path, rows))
    assert study.parts == [["vicreg", "supervised"], ["idm"]]
    for part in study.parts:
        [table] = tables(study, part, ROLLOUT)
        assert [line.name for line in table.lines if line.name] == part


def plans(share: float, hashed: str = "ccc", **changed: Any) -> dict[str, Any]:
    """What a row says of plans that reached this share of their goals; the ceiling is 1, the floor 0.125."""
    acting = {"planner": {"success_end": share, "return": -share}, "gcbc": {"success_end": 0.5, "return": -1.0}}
    floors = {"true simulator": {"success_end": 1.0, "return": 0.0}, "random": {"success_end": 0.125, "return": -9.0}}
    found = {"protocol": {"id": "plan/x/v1", "hash": hashed}, "score": "success", "acting": acting, "floors": floors}
    return {"planned": {**found, **changed}}


def test_plans__are_shares_over_seeds_beside_their_own_floors(tmp_path):
    errors = {("vicreg", 0): 0.0, ("vicreg", 1): 0.5, ("idm", 0): 0.75, ("idm", 1): 0.75}
    rows = [row(m, STATIC, seed, 1.0, **plans(share)) for (m, seed), share in errors.items()]
    study = Study(write(tmp_path, [*rows, row("idm", DYNAMIC, 0, 1.0)]))
    planner, cloning = plan_measures(study)
    [table] = tables(study, study.parts[0], planner)
    assert [head.condition for head in table.heads] == [STATIC]  # nothing was planned under the other
    assert [(line.title, line.cells[0].number.mean) for line in table.lines] == [
        *(("VICReg", 25.0), ("inverse dynamics", 75.0), ("true simulator", 100.0), ("random", 12.5))
    ]
    assert [line.cells[0].best for line in table.lines[:2]] == [False, True]
    assert [line.cells[0].number.half for line in table.lines[2:]] == [None, None]  # of the same episodes every time
    assert any("| VICReg | 25 ± 318 | 30 |" in line for line in markdown(study, study.parts[0], planner))
    assert [line.cells[0].number.mean for line in tables(study, study.parts[0], cloning)[0].lines[:2]] == [50.0, 50.0]


def test_columns__are_called_by_a_factor_only_where_it_is_what_is_measured(tmp_path):
    study = Study(write(tmp_path, [row("idm", Condition("square", None), 0, 1.0, **plans(0.5))]))
    assert markdown(study, ["idm"], ROLLOUT)[0] == "| method | a square: location | s of training |"
    assert markdown(study, ["idm"], plan_measures(study)[0])[0] == "| method | a square | s of training |"


def test_plans__are_returns_where_the_protocol_is_scored_by_them(tmp_path):
    study = Study(write(tmp_path, [row("idm", STATIC, 0, 1.0, **plans(0.25, score="return"))]))
    [table] = tables(study, ["idm"], plan_measures(study)[0])
    assert [line.cells[0].number.mean for line in table.lines] == [-0.25, 0.0, -9.0]


def test_plans__under_different_protocols_are_never_in_one_column(tmp_path):
    rows = [row("vicreg", STATIC, 0, 3.0, **plans(1.0)), row("idm", STATIC, 0, 3.0, **plans(1.0, "ddd"))]
    assert Study(write(tmp_path, rows)).parts == [["vicreg"], ["idm"]]
    rows = [row("idm", STATIC, 0, 3.0, **plans(1.0)), row("idm", STATIC, 1, 3.0, **plans(1.0, "ddd"))]
    with pytest.raises(ValueError, match=r"level 1 were planned in under different protocols.*ccc.*ddd"):
        Study(write(tmp_path, rows))


def test_report__has_plans_where_there_are_some(tmp_path):
    out = write(tmp_path / "x", [row(m, STATIC, 0, 2.0, explained=None, **plans(0.5)) for m in ("vicreg", "idm")])
    text = report.main(composed("report", [f"run={out}", "shown=0"])).read_text()
    assert '<h2 id="plans">' in text and "<code>plan/x/v1 ccc</code>" in text and "true simulator" in text
    assert "Planning in the model" in (out / "report" / "table.md").read_text()
    out = write(tmp_path / "y", grid(STATIC))
    assert "Planning" not in report.main(composed("report", [f"run={out}", "shown=0"])).read_text()


def test_tables__are_bold_where_a_competitor_is_best_and_have_floors_of_their_own(tmp_path):
    study = Study(write(tmp_path, grid(SHARED, STATIC)))
    [table] = tables(study, study.parts[0], ROLLOUT)
    assert [line.title for line in table.lines[:3]] == ["VICReg", "inverse dynamics", "supervised"]
    assert [[cell.best for cell in line.cells] for line in table.lines[:3]] == [[False] * 2, [True] * 2, [False] * 2]
    assert [line.cells[1].number.mean for line in table.lines[3:]] == [10.0, 6.0, 8.0]
    assert table.lines[1].cells[1].share == pytest.approx(0.75)
    assert table.lines[1].seconds.mean == 30
    assert any(
        "| inverse dynamics | **2.50** ± 6.35 | **2.50** ± 6.35 | 30 |" in line
        for line in markdown(study, study.parts[0], ROLLOUT)
    )


def test_tables__of_a_single_seed_have_no_interval(tmp_path):
    study = Study(write(tmp_path, [row("vicreg", STATIC, 0, 3.0), row("idm", STATIC, 0, 2.0)]))
    assert not any("±" in line for line in markdown(study, study.parts[0], ROLLOUT))


def board(out: Path, rows: list[dict[str, Any]]) -> leaderboard.Leaderboard | None:
    study = Study(write(out, rows))
    return leaderboard.leaderboard(study, study.parts[0])


def test_leaderboard__is_of_geometric_means_of_multiples_of_what_was_told_the_truth(tmp_path):
    square = Condition("square", None)
    errors = {"supervised": (1.0, 4.0), "idm": (2.0, 2.0), "vicreg": (9.0, 8.0)}
    found = board(
        tmp_path,
        [
            row(m, c, s, e if m == "idm" else e + s * e)
            for m, es in errors.items()
            for c, e in zip((STATIC, square), es, strict=True)
            for s in (0, 1)
        ],
    )
    assert found is not None and found.reference == "supervised" and len(found.heads) == 2
    idm, vicreg, chance, untrained = found.standings
    assert [line.title for line in found.standings[:2]] == ["inverse dynamics", "VICReg"]
    # Seed by seed the reference has 1, 4 and 2, 8, inverse dynamics 2, 2 both times.
    assert idm.ratio.values == pytest.approx((np.sqrt(2 / 1 * 2 / 4), np.sqrt(2 / 2 * 2 / 8)))
    assert (idm.worst[0], idm.worst[1].condition) == (pytest.approx((2 / 1 + 2 / 2) / 2), STATIC)
    assert (idm.count, idm.seconds.mean) == (2, 30)
    assert vicreg.worst[0] == pytest.approx(9)
    assert [line.ratio.half for line in (chance, untrained)] == [None] * 2
    assert chance.ratio.mean == pytest.approx(np.sqrt(10 / 1.5 * 10 / 6))


def test_leaderboard__leaves_out_what_cannot_be_known_and_ranks_what_was_measured_everywhere_first(tmp_path):
    square = Condition("square", None)
    told = [row("supervised", STATIC, 0, 1.0), row("supervised", DYNAMIC, 0, 2.0), row("supervised", square, 0, 9.5)]
    rows = [*told, *(row("vicreg", c, 0, 8.0) for c in (STATIC, DYNAMIC, square)), row("idm", STATIC, 0, 1.0)]
    found = board(tmp_path, rows)
    assert [head.condition for head in found.heads] == [STATIC, DYNAMIC]
    assert [(line.name, line.count) for line in found.standings[:2]] == [("vicreg", 2), ("idm", 1)]
    assert found.ordered(["idm", "supervised", "vicreg"]) == ["vicreg", "idm", "supervised"]
    lines = leaderboard.markdown(Study(tmp_path), found)
    assert "| VICReg | 5.66 | 8.00 | fixed noise: level 1 | 2 | 30 |" in lines
    assert "| *always the mean (chance)* | 7.07 | 10.00 | fixed noise: level 1 | 2 | – |" in lines


def test_leaderboard__counts_seeds_that_were_measured_wherever_any_was(tmp_path):
    told = [row("supervised", c, s, 1.0) for c in (STATIC, DYNAMIC) for s in (0, 1)]
    half = [row("idm", STATIC, 0, 2.0), row("idm", DYNAMIC, 0, 2.0), row("idm", STATIC, 1, 9.0)]
    never = [row("vicreg", STATIC, 0, 2.0), row("vicreg", DYNAMIC, 1, 2.0)]
    found = board(tmp_path, [*told, *half, *never])
    assert [line.name for line in found.standings if line.name] == ["idm"]
    assert found.standings[0].ratio.values == (pytest.approx(2),)


def test_leaderboard__needs_one_that_was_told_the_truth_and_two_columns(tmp_path):
    assert board(tmp_path / "a", [row("idm", STATIC, 0, 2.0), row("idm", DYNAMIC, 0, 2.0)]) is None
    assert board(tmp_path / "b", [row("idm", STATIC, 0, 2.0), row("supervised", STATIC, 0, 1.0)]) is None


def test_findings__name_the_best_and_who_is_no_better_than_an_untrained_network(tmp_path):
    study = Study(write(tmp_path, grid(STATIC)))
    [(title, said)] = telling.findings(study, study.parts[0], study.near(1))
    assert title == "fixed noise, level 1"
    assert said.startswith("inverse dynamics is best with 2.50 px (chance 10.00, untrained network 8.00).")
    assert said.endswith("No better than an untrained network: VICReg.")


def test_looks__tell_many_methods_apart_by_colour_and_marker():
    class Many:
        methods = dict.fromkeys(map(str, range(40)), "")

    found = [(look.colour, look.marker) for look in panels.looks(Many()).values()]  # type: ignore[arg-type]
    assert len({*found}) == 40


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["runs/a"], ["run=runs/a"]),
        (["run=runs/a", "level=2"], ["run=runs/a", "level=2"]),
        (["--cfg", "job", "a b"], ["--cfg", "job", "run='a b'"]),
    ],
)
def test_words_as_run__take_a_bare_word_for_the_folder(given, expected):
    assert words_as_run(given) == expected


def test_report__is_one_page_that_needs_nothing_else(tmp_path):
    failed = ({"cell": {"method": "rssm", "panel": None, "level": 0, "seed": 1}, "error": "<diverged>"},)
    out = write(tmp_path / "x", grid(SHARED, STATIC, DYNAMIC, Condition("square", None)), failed)
    page = report.main(composed("report", [f"run={out}"]))
    text = page.read_text()
    assert page == out / "report" / "report.html"
    assert "http://" not in text and "https://" not in text and 'src="data:image/png' in text
    assert "Tiny &lt;study&gt;" in text and "&lt;diverged&gt;" in text
    assert "data/static has been removed" in text
    assert text.count("VICReg, knows what actions move alone: nobody acts.") == 1
    assert all(command in text for found in grid(STATIC) for command in found["commands"])
    names = {"levels", "panels", "steps", "control", "background", "diagnostics", "spectra", "losses"}
    assert {file.stem for file in (out / "report").glob("*.png")} == names
    assert "seeds=2" in (out / "report" / "table.md").read_text()


def test_report__tells_what_there_is_of_a_single_cell(tmp_path):
    out = write(tmp_path / "x", [row("idm", SHARED, 0, 2.0, explained=None)])
    report.main(composed("report", [f"run={out}", "shown=0"]))
    assert {file.stem for file in (out / "report").glob("*.png")} == {"panels", "steps", "diagnostics"}


def test_report__draws_nothing_of_methods_that_no_chosen_panel_has(tmp_path):
    longer = {"protocol": {"id": "probe/v1", "hash": "of another window"}}
    rows = [row("idm", STATIC, 0, 2.0), row("idm", DYNAMIC, 0, 2.0), row("vicreg", DYNAMIC, 0, 3.0, **longer)]
    out = write(tmp_path / "x", rows)
    assert len(Study(out).parts) == 2
    text = report.main(composed("report", [f"run={out}", "shown=0", f"panels=[{STATIC.panel}]"])).read_text()
    drawn = {file.stem for file in (out / "report").glob("*.png")}
    assert {"panels-2", "steps-2", "diagnostics-2"} <= drawn and not drawn & {"panels", "steps", "diagnostics"}
    assert "VICReg" in text and "| VICReg | 3.00 |" in (out / "report" / "table.md").read_text()


def test_command_of__says_how_the_experiment_was_chosen_and_what_was_given(tmp_path):
    out = write(tmp_path / "x", grid(STATIC))
    content = json.loads((out / "results.json").read_text())
    content["experiment"] |= {"chosen": ["--config-dir=my", "experiment=paper/slow_features"]}
    (out / "results.json").write_text(json.dumps(content))
    (out / "config.yaml").write_text(
        yaml.safe_dump({"seeds": 2, "explain": False, "trust": ["my_lab"], "subset": None})
    )
    assert telling.command_of(Study(out)) == (
        "python -m jepa_worlds.experiment --config-dir=my experiment=paper/slow_features preset=debug "
        f"out={out} seeds=2 'trust=[\"my_lab\"]' explain=false"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["methods=[nobody]"], "methods must be among"),
        (["panels=[nowhere]"], "panels must be among"),
        (["panels=[]"], r"panels must be among \[.*\], got \[\]"),
        (["shown=-1"], "shown must be 0 or more"),
        (["level=high"], "level must be a number"),
    ],
)
def test_report__refuses_bad_input(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        report.main(composed("report", [f"run={write(tmp_path / 'x', grid(STATIC))}", *overrides]))
    assert not (tmp_path / "x" / "report").exists()


def test_report__refuses_what_no_experiment_wrote(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"jepa_worlds\.experiment"):
        report.main(composed("report", [f"run={tmp_path}"]))
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="it lacks 'experiment' or 'rows'"):
        report.main(composed("report", [f"run={tmp_path}"]))
    with pytest.raises(ValueError, match="no finished cell"):
        report.main(composed("report", [f"run={write(tmp_path, [])}"]))
