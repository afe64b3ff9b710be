"""Tables as Markdown has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], aligned: bool = False) -> list[str]:
    """The lines of a table, whose columns may be aligned. What would end a cell within it is escaped."""
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (heads, *rows)]
    widths = [max(map(len, column)) if aligned else 0 for column in zip(*lines, strict=True)]
    head, *rest = (f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in lines)
    return [head, f"|{'|'.join('-' * max(3, width + 2) for width in widths)}|", *rest]
