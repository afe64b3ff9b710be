"""Run folders: what every command leaves behind."""

from __future__ import annotations

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jepa_worlds.shared.files import read_json, temporary_name
from jepa_worlds.shared.runs import (
    MetricsLog,
    claimed,
    read_config,
    read_metrics,
    results,
    untouched,
    write_config,
    write_results,
)

KEYS = {"command", "metrics", "floors", "diagnostics", "seeds", "protocol", "dataset", "versions", "seconds"}


def logged(run, *steps, start=0):
    with MetricsLog(run, start) as log:
        for step in steps:
            log.write(step, loss=step / 10)


def test_metrics_log__keeps_what_was_written(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, **{"train/loss": 0.5, "lr": 1e-3})
        assert read_metrics(tmp_path) == [{"step": 1, "train/loss": 0.5, "lr": 1e-3}], "at once, not at the end"
        log.write(2, **{"train/loss": 0.25})
    assert read_metrics(tmp_path) == [{"step": 1, "train/loss": 0.5, "lr": 1e-3}, {"step": 2, "train/loss": 0.25}]


def test_metrics_log__drops_what_came_after_the_step_that_is_resumed(tmp_path):
    logged(tmp_path, 1, 2, 3, 4)
    logged(tmp_path, 3, start=2)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
    logged(tmp_path, 1)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1], "a run that starts anew starts a new log"


def test_metrics_log__goes_on_after_a_line_that_was_cut_off(tmp_path):
    logged(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "los')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    logged(tmp_path, 3, start=2)
    assert read_metrics(tmp_path) == [{"step": step, "loss": step / 10} for step in (1, 2, 3)]


def test_metrics_log__writes_tensorboard_events_without_what_was_dropped(tmp_path):
    logged(tmp_path, 1, 2, 3, 4)
    time.sleep(1.1)  # events are ordered by the second in their file's name
    logged(tmp_path, 3, start=2)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, round(event.value, 3)) for event in board.Scalars("loss")] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_untouched__is_a_folder_whose_first_write_was_killed(tmp_path):
    assert untouched(tmp_path / "not there") and untouched(tmp_path)
    temporary_name(tmp_path / "config.yaml").write_text("half of somethi")
    assert untouched(tmp_path) and claimed(tmp_path, {"run"}, "probe") == tmp_path
    (tmp_path / "data").mkdir()
    assert untouched(tmp_path, "data") and not untouched(tmp_path)
    assert not untouched(temporary_name(tmp_path / "config.yaml"))  # a file


def test_read_metrics__is_empty_where_there_are_none(tmp_path):
    assert read_metrics(tmp_path) == []


def test_results__have_exactly_the_keys_of_the_contract():
    found = results("probe", metrics={"location": {"r2": 0.9}}, started=time.perf_counter() - 2)
    assert set(found) == KEYS
    assert (found["command"], found["metrics"]) == ("probe", {"location": {"r2": 0.9}})
    assert (found["floors"], found["diagnostics"], found["seeds"]) == ({}, {}, [])
    assert found["protocol"] is None and found["dataset"] is None
    assert found["versions"].keys() >= {"python", "jepa_worlds", "torch"}
    assert 2 <= found["seconds"] < 5


def test_results__of_several_runs_have_rows():
    found = results("demo", metrics={}, started=0, seeds=[1], dataset={"hash": "x"}, rows=[{"name": "a", "config": {}}])
    assert set(found) == {*KEYS, "rows"}
    assert (found["seeds"], found["dataset"]) == ([1], {"hash": "x"})


def test_write_results__is_read_back_the_same(tmp_path):
    content = results("train", metrics={"loss": 0.5}, started=0)
    write_results(tmp_path / "new", content)
    assert read_json(tmp_path / "new" / "results.json") == content
    with pytest.raises(ValueError, match=r"results\.json cannot be written, because JSON has neither NaN"):
        write_results(tmp_path / "new", results("train", metrics={"loss": float("nan")}, started=0))
    assert read_json(tmp_path / "new" / "results.json") == content


def test_write_config__is_read_back_the_same(tmp_path):
    config = {"out": "runs/μ", "model": {"_target_": "a.B", "sizes": [1, 2.5, None]}, "flag": True, "lr": 1e-05}
    write_config(tmp_path / "new", config)
    assert read_config(tmp_path / "new") == config
    assert list(read_config(tmp_path / "new")) == list(config), "in the order of the configuration"


def test_read_config__is_empty_where_there_is_none(tmp_path):
    assert read_config(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "complaint"), [("a: [1", "is not YAML"), ("", "should map"), ("- 1", "should map")]
)
def test_read_config__names_a_file_that_is_no_configuration(tmp_path, content, complaint):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=rf"config\.yaml {complaint}"):
        read_config(tmp_path)


def test_metrics_log__writes_one_json_object_a_line(tmp_path):
    logged(tmp_path, 1, 2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
