"""Independent jobs side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from jepa_worlds.shared.app import EXPECTED
from jepa_worlds.shared.signals import Stop

Job = TypeVar("Job")
Report = Callable[[float], None]
"""What a job calls with the work that it has done since the last call."""

LISTEN = 0.5  # s between looks at whether to stop


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    function: Callable[[Job, Report], None], jobs: Sequence[Job], workers: int, progress: tqdm[Any]
) -> list[str | None]:
    """Run ``function(job, report)`` for every job, at most ``workers`` at a time; one that fails stops no other.

    A job leaves what it finds on disk. Each has as many threads as if all workers were busy, whether they are or not.

    Args:
        function: of a module, so that another process finds it.
        jobs: what can be pickled.
        workers: processes; a single one is this process.
        progress: moves on as jobs report.

    Returns:
        For every job None, or what went wrong.

    Raises:
        KeyboardInterrupt, SystemExit: after Ctrl-C and SIGTERM, with all processes ended.
    """
    with Stop() as stop:

        def report(work: float) -> None:
            progress.update(work)
            stop.leave_if_requested("stopped; run the same command again to go on")

        if workers == 1:
            return [_attempted(function, job, report) for job in jobs]
        return _side_by_side(function, jobs, workers, report)


def _side_by_side(
    function: Callable[[Job, Report], None], jobs: Sequence[Job], workers: int, report: Report
) -> list[str | None]:
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":  # imported once for all; the others take seconds, and training wants them
        ours = [name for name in sys.modules if name.startswith("jepa_worlds.")]
        context.set_forkserver_preload([*ours, "torch._dynamo", "torch.utils.tensorboard"])
    failures: list[str | None] = [None] * len(jobs)
    waiting, running = list(range(len(jobs)))[::-1], dict[Any, tuple[int, BaseProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, (here, there) = waiting.pop(), context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(function, jobs[number], there, workers))  # type: ignore[attr-defined]
                process.start()
                there.close()
                running[here] = number, process
            report(0)
            for connection in wait(list(running), LISTEN):
                message = _heard(connection, running[connection][1])
                if isinstance(message, float):
                    report(message)
                else:
                    number, process = running.pop(connection)
                    failures[number] = message
                    process.join()
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
    return failures


def _heard(connection: Any, process: BaseProcess) -> float | str | None:
    """The work that a process reports, or at its end what went wrong, or None."""
    try:
        return connection.recv()
    except (EOFError, OSError):  # it said nothing at its end
        process.join()
        return f"its process ended with status {process.exitcode}; was it killed, or out of memory?"


def _attempted(function: Callable[[Job, Report], None], job: Job, report: Report) -> str | None:
    """None, or why a job failed: one message for bad input, a traceback for a bug."""
    try:
        function(job, report)
    except EXPECTED as error:
        return str(error) or repr(error)
    except Exception:
        return traceback.format_exc()
    return None


def _work(function: Callable[[Job, Report], None], job: Job, connection: Connection, workers: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    torch.set_num_threads(min(torch.get_num_threads(), max(1, cores() // workers)))
    with suppress(BrokenPipeError):  # the parent is gone
        connection.send(_attempted(function, job, lambda work: connection.send(float(work))))
