"""Say what works on this machine, how fast, and what to install for what does not.

python -m jepa_worlds.doctor
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jepa_worlds.machine.health import PIP, Finding, examine, reason

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Examine everything, tell, and write ``results.json`` if there is an ``out``.

    Raises:
        ValueError: bad input.
        SystemExit: with status 1, if something is broken that nothing works without.
    """
    from jepa_worlds.shared.app import plain  # here, as below: without Hydra the doctor still has something to say

    started = time.perf_counter()
    settings = plain(config)
    if type(settings["seconds"]) not in (int, float) or settings["seconds"] < 0:
        raise ValueError(f"seconds must be a number of at least 0, got {settings['seconds']!r}")
    findings = tell(examine(settings))
    if settings["out"] is not None:
        from jepa_worlds.shared.runs import results, write_results

        metrics = {name: number for finding in findings for name, number in finding.metrics.items()}
        content = results(
            "doctor", metrics=metrics, started=started, findings=[asdict(finding) for finding in findings]
        )
        write_results(Path(settings["out"]), content)
    if not sound(findings):
        sys.exit(1)


def tell(findings: Iterable[Finding]) -> list[Finding]:
    """Print a line for every finding as it comes, and in the end what to install; returns them."""
    told = []
    for finding in findings:
        sys.stdout.write(f"{finding.mark:8} {finding.what:22} {finding.told}\n")
        sys.stdout.flush()
        told.append(finding)
    commands = dict.fromkeys(command for finding in told for command in finding.install)
    if commands:
        sys.stdout.write("\n".join(["", "To install what is missing:", *(f"  {command}" for command in commands), ""]))
    bad = [finding.what for finding in told if finding.required and finding.mark in ("missing", "broken")]
    verdict = f"nothing works without {', '.join(bad)}" if bad else "everything that is required works"
    sys.stdout.write(f"\n{verdict}\n")
    return told


def sound(findings: Iterable[Finding]) -> bool:
    """Whether everything that is required works."""
    return not any(finding.required and finding.mark in ("missing", "broken") for finding in findings)


if __name__ == "__main__":
    try:
        from jepa_worlds.shared.app import command
    except ImportError as error:
        broken = Finding("broken", "Hydra", reason(error), (f"{PIP} --force-reinstall hydra-core",), required=True)
        tell([*examine({}, ["machine", "packages"]), broken])
        sys.exit(1)
    command("doctor")(main)()
