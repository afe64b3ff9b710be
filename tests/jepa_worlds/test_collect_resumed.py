"""Collection: whatever happens while a dataset is made, it ends as if nothing had happened."""

from __future__ import annotations

import errno
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from agents.behaviours.random_walk import RandomWalk
from jepa_worlds.data import sharding
from jepa_worlds.data.collecting import Collection, collect
from jepa_worlds.data.dataset import MANIFEST
from jepa_worlds.shared.files import read_json

SMALL = Collection(
    env={"id": "jepa_worlds/MovingDot-v0"},
    distractor=None,
    behaviour={"_target_": "agents.behaviours.random_walk.RandomWalk"},
    episodes=10,
    episode_length=3,
    validation=0.1,
    test=0.1,
    seed=0,
    shard_episodes=4,
    num_envs=256,
)
FILES = 1 + 4 * (8 + 1) + 1  # the manifest comes first, after each of 4 shards of 8 arrays, and last


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def fail_at(monkeypatch):
    """``fail_at(n, error)``: writing the n-th file fails half way; if by the end of the process, nothing tidies up."""

    def arm(number: int | None, error: BaseException) -> list[str]:
        written: list[str] = []

        def failing(write):
            def write_or_fail(path, content, **options):
                written.append(path.name)
                if len(written) != number:
                    return write(path, content, **options)
                path.write_bytes(b"half of i")
                if isinstance(error, Killed):
                    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
                    monkeypatch.setattr(Path, "unlink", lambda *args, **kwargs: None)
                raise error

            return write_or_fail

        monkeypatch.undo()
        monkeypatch.setattr(sharding, "write_array", failing(sharding.write_array))
        monkeypatch.setattr(Path, "write_text", failing(Path.write_text))
        return written

    return arm


def test_collect__killed_at_any_file_and_resumed_is_byte_identical(tmp_path, fail_at, monkeypatch, contents):
    files = fail_at(None, Killed())
    collect(SMALL, RandomWalk(), tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    assert len(files) == FILES
    for number in range(1, FILES + 1):
        out = tmp_path / f"killed-{number}"
        fail_at(number, Killed())
        with pytest.raises(Killed):
            collect(SMALL, RandomWalk(), out)
        assert b"half of i" in contents(out).values()
        monkeypatch.undo()
        collect(SMALL, RandomWalk(), out)
        assert contents(out) == whole, f"killed at file {number}: {files[number - 1]}"


@pytest.mark.parametrize("number", [1, 2, 12, 19, FILES])
def test_collect__leaves_no_half_of_a_file_where_there_is_no_room(tmp_path, fail_at, monkeypatch, number, contents):
    collect(SMALL, RandomWalk(), tmp_path / "whole")
    fail_at(number, OSError(errno.ENOSPC, "full"))
    with pytest.raises(
        OSError, match=r"cannot write '.*': No space left on device; make room, and run the same command"
    ):
        collect(SMALL, RandomWalk(), tmp_path / "data")
    left = contents(tmp_path / "data")
    shards = left.pop(MANIFEST, b"").count(b'"name": "shard-')
    assert b"half of i" not in left.values()
    assert not any(name.startswith(".") for name in left)
    assert {name.split("/")[0] for name in left} <= {f"shard-{n:05d}" for n in range(shards + 1)}
    monkeypatch.undo()
    collect(SMALL, RandomWalk(), tmp_path / "data")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_collect__killed_before_a_shard_counts_makes_it_again(tmp_path, monkeypatch, contents):
    collect(SMALL, RandomWalk(), tmp_path / "whole")
    real, written = sharding._write_shard, []

    def write_and_die(out, name, *rest):
        real(out, name, *rest)
        written.append(name)
        if len(written) == 2:
            raise Killed
        return real(out, name, *rest)

    monkeypatch.setattr(sharding, "_write_shard", write_and_die)
    with pytest.raises(Killed):
        collect(SMALL, RandomWalk(), tmp_path / "data")
    assert (tmp_path / "data" / "shard-00001").is_dir()
    assert [entry["name"] for entry in read_json(tmp_path / "data" / MANIFEST)["shards"]] == ["shard-00000"]
    monkeypatch.undo()
    (tmp_path / "data" / "shard-00001" / "frames.npy").write_bytes(b"of another time")
    for stray in (".shard-00002.tmp", "shard-00003"):
        (tmp_path / "data" / stray).mkdir()
        (tmp_path / "data" / stray / "stray.npy").touch()
    collect(SMALL, RandomWalk(), tmp_path / "data")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_collect__keeps_the_shards_that_count(tmp_path, fail_at, monkeypatch, contents):
    fail_at(25, Killed())
    with pytest.raises(Killed):
        collect(SMALL, RandomWalk(), tmp_path / "data")
    first = tmp_path / "data" / "shard-00000" / "frames.npy"
    before = first.stat()
    monkeypatch.undo()
    collect(replace(SMALL, num_envs=3), RandomWalk(), tmp_path / "data")
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


LONG = ("episodes=600", "episode_length=3", "shard_episodes=2", "out=data")


def started(cwd: Path) -> subprocess.Popen[str]:
    """A collection that has begun to write, and has a second or more to go."""
    cwd.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "jepa_worlds.collect", *LONG],
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs in the background inherit its neglect
    )
    deadline = time.monotonic() + 60
    while not (cwd / "data" / MANIFEST).is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, collect_to, contents) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("uninterrupted"))
        return contents(collect_to("data", *LONG[:-1]))


def test_collect__killed_at_random_and_resumed_is_byte_identical(
    tmp_path, uninterrupted, collect_to, monkeypatch, contents
):
    delays, statuses = [random.uniform(0, 0.3) for _ in range(4)], []
    for delay in delays:
        process = started(tmp_path)
        time.sleep(delay)
        process.kill()
        process.communicate()
        statuses.append(process.returncode)
    assert -signal.SIGKILL in statuses, f"none was killed while collecting: {delays}"
    monkeypatch.chdir(tmp_path)
    assert contents(collect_to("data", *LONG[:-1])) == uninterrupted, f"killed after {delays} s"


def test_collect__interrupted_ends_with_one_message_and_can_be_resumed(
    tmp_path, uninterrupted, collect_to, monkeypatch, contents
):
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    last = stderr.splitlines()[-1]
    assert last == "error: interrupted: what was finished is kept; run collect again to go on"
    assert not read_json(tmp_path / "data" / MANIFEST)["complete"]
    monkeypatch.chdir(tmp_path)
    assert contents(collect_to("data", *LONG[:-1])) == uninterrupted


def test_collect__on_a_full_disk_ends_with_one_message_and_can_be_resumed(
    tmp_path, uninterrupted, collect_to, monkeypatch, contents
):
    command = f"ulimit -f 16; exec {sys.executable} -m jepa_worlds.collect {' '.join(LONG)}"  # the manifest outgrows it
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == (
        "error: cannot write 'data/dataset.json': File too large; make room, and run the same command again"
    )
    shards = read_json(tmp_path / "data" / MANIFEST)["shards"]
    assert shards
    unlisted = {file.name for file in (tmp_path / "data").iterdir()} - {entry["name"] for entry in shards}
    assert unlisted <= {MANIFEST, f"shard-{len(shards):05d}"}
    monkeypatch.chdir(tmp_path)
    assert contents(collect_to("data", *LONG[:-1])) == uninterrupted


def test_collect__refuses_to_resume_under_another_configuration(tmp_path, fail_at, monkeypatch, contents):
    fail_at(15, Killed())
    with pytest.raises(Killed):
        collect(SMALL, RandomWalk(), tmp_path / "data")
    monkeypatch.undo()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"collected otherwise, with seed=0 \(now 1\)"):
        collect(replace(SMALL, seed=1), RandomWalk(), tmp_path / "data")
    assert contents(tmp_path) == before


def test_collect__does_not_go_on_over_pictures_that_have_changed(tmp_path, fail_at, monkeypatch):
    folder, out = tmp_path / "pictures", tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        Image.new("L", (40, 40), 50 * number).save(folder / f"{number}.png")
    source = {"_target_": "envs.distractors.photographs.Photographs", "path": str(folder)}
    layer = {"_target_": "envs.distractors.background.Background", "source": source}
    noisy = replace(SMALL, distractor={"background": layer})
    fail_at(15, Killed())
    with pytest.raises(Killed):
        collect(noisy, RandomWalk(), out)
    monkeypatch.undo()
    (folder / "1.png").rename(folder / "3.png")  # so that another one is held out
    with pytest.raises(ValueError, match=rf"collected otherwise, with pictures\.{folder}='\w+' \(now '\w+'\): choose"):
        collect(noisy, RandomWalk(), out)
    (folder / "3.png").rename(folder / "1.png")
    manifest = collect(noisy, RandomWalk(), out)
    assert manifest["distractor"] == {"background": layer} and manifest["complete"]
    assert "pictures" not in collect(SMALL, RandomWalk(), tmp_path / "plain")
