"""Jobs side by side: all of them, whatever becomes of some; and none left when it is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from jepa_worlds.shared.jobs import Report, cores, run_jobs


def work(job: tuple[Path, str], report: Report) -> None:
    """A job: leaves its process and threads in a file, unless it is to fail."""
    file, fate = job
    report(1)
    if fate == "bad input":
        raise ValueError("2 apples are too few")
    if fate == "bug":
        raise KeyError("apples")
    if fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "endless":
        while True:
            report(0)
    report(2)
    file.write_text(f"{os.getpid()} {torch.get_num_threads()}")


def run(folder: Path, fates: list[str], workers: int) -> tuple[list[str | None], float]:
    with tqdm(total=3 * len(fates), disable=True) as progress:
        done = []
        progress.update = done.append  # type: ignore[method-assign]
        found = run_jobs(work, [(folder / str(i), fate) for i, fate in enumerate(fates)], workers, progress)
    return found, sum(done)


@pytest.mark.parametrize("workers", [1, 2])
def test_run_jobs__keeps_what_others_find_when_some_fail(tmp_path: Path, workers: int) -> None:
    found, done = run(tmp_path, ["", "bad input", "bug", ""], workers)
    assert found[0] is found[3] is None
    assert found[1] == "2 apples are too few"
    assert found[2] is not None and "Traceback" in found[2] and "KeyError: 'apples'" in found[2]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "3"]
    assert done == 3 + 1 + 1 + 3


def test_run_jobs__says_when_a_process_was_killed(tmp_path: Path) -> None:
    found, _ = run(tmp_path, ["killed", "", ""], 2)
    assert found[0] is not None and "its process ended with status -9; was it killed, or out of memory?" in found[0]
    assert found[1:] == [None, None]


def test_run_jobs__gives_each_its_share_of_the_cores_even_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(tmp_path, [""], workers=cores() + 1)
    process, threads = (tmp_path / "0").read_text().split()
    assert int(process) != os.getpid() and threads == "1"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("number", "stopped"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_run_jobs__leaves_no_process_behind(
    tmp_path: Path, workers: int, number: signal.Signals, stopped: type[BaseException]
) -> None:
    class Interrupting(tqdm):  # type: ignore[type-arg]
        def update(self, n: float | None = 1) -> bool | None:
            if n == 1:
                os.kill(os.getpid(), number)
            return None

    with Interrupting(disable=True) as progress, pytest.raises(stopped) as said:
        run_jobs(work, [(tmp_path / "0", "endless"), (tmp_path / "1", "endless")], workers, progress)
    assert said.value.args[0] in ("stopped; run the same command again to go on", 143)
    assert not multiprocessing.active_children()
