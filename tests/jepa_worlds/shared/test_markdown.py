"""Tables as Markdown has them."""

from __future__ import annotations

from jepa_worlds.shared.markdown import markdown_table


def test_markdown_table__has_as_many_cells_in_every_line():
    found = markdown_table(["method", "px"], [["slow | fast", "0.47"], ["RSSM", "0.42"]])
    assert found == ["| method | px |", "|---|---|", "| slow \\| fast | 0.47 |", "| RSSM | 0.42 |"]


def test_markdown_table__aligns_its_columns_where_asked():
    found = markdown_table(["method", "px"], [["slow | fast", "0.47"], ["RSSM", "0.42"]], aligned=True)
    assert found == [
        "| method       | px   |",
        "|--------------|------|",
        "| slow \\| fast | 0.47 |",
        "| RSSM         | 0.42 |",
    ]
