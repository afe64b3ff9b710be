"""The table of an evaluation of planning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.planning.rows import Effort, summary
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.markdown import markdown_table

Read = Callable[[Plain], str]
SOLVED = "already there"  # what is at its goal as it begins


def numbers(row: Plain, protocol: Protocol) -> Plain:
    """What a row that was played comes to: over all episodes, for each seed, and what decisions took."""
    found = summary(row["episodes"], protocol.success.within)
    effort, count = Effort(**row["effort"]), max(1, row["effort"]["decisions"])
    by_seed = {
        str(seed): summary([x for x in row["episodes"] if x["seed"] == seed], protocol.success.within)
        for seed in protocol.seeds
    }
    kept = ("success_end", "success_ever", "final_distance", "return")
    return {
        **found,
        "by_seed": {seed: {name: x[name] for name in kept} for seed, x in by_seed.items()},
        "seconds_per_decision": effort.seconds / count,
        "candidates_per_decision": effort.judged / count,
        "peak_memory_mib": effort.memory,
    }


def table(content: Plain, protocol: Protocol) -> list[str]:
    """A line a row, as a Markdown table, and notes."""
    unit = f" [{protocol.success.unit}]" if protocol.success.unit else ""
    heads: dict[str, Read | None] = {
        "row": None,
        "there at the end": _share("success_end"),
        "ever": _share("success_ever"),
        f"distance at the end{unit}": _number("final_distance"),
        f"way{unit}": _plain("path_length", 3),
        "return": _number("return"),
        "steps": _plain("median_steps", 3),
        "s a decision": _plain("seconds_per_decision", 2),
        "candidates": _plain("candidates_per_decision", 5),
        "MiB": _plain("peak_memory_mib", 4),
    }
    names = [*content["metrics"], *content["floors"]]
    metrics = {**content["metrics"], **content["floors"]}
    first = names[0]
    lines = []
    for name in names:
        cells = [read(metrics[name]) for read in heads.values() if read is not None]
        lines.append([f"**{name}**" if name == first else name, *cells])
    about = [
        f"There: {protocol.success.factor} within {protocol.success.within:g} {protocol.success.unit}".rstrip()
        + " of the goal; [95 %]: Wilson's interval of shares, Student's of means. steps: the median until first there.",
        "s a decision: of one environment, a batch's time shared out; MiB: peak of the whole process until then.",
        f"Protocol {content['protocol']['id']} ({content['protocol']['hash']}), scored by its {protocol.score}.",
        *content["notes"],
    ]
    return [*markdown_table(list(heads), lines), "", *about]


def _share(name: str) -> Read:
    def read(row: Plain) -> str:
        low, high = row[f"{name}_ci95"]
        return f"{100 * row[name]:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"

    return read


def _number(name: str) -> Read:
    def read(row: Plain) -> str:
        if row.get(name) is None:
            return "–"
        return f"{row[name]:.3g}{_range(row[f'{name}_ci95'])}"

    return read


def _plain(name: str, digits: int) -> Read:
    return lambda row: "–" if row.get(name) is None else f"{row[name]:.{digits}g}"


def _range(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" [{ends[0]:.3g}, {ends[1]:.3g}]"
