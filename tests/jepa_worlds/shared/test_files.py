"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest

from jepa_worlds.shared.files import (
    atomic,
    code_commit,
    commit,
    digest,
    read_json,
    temporary_name,
    versions,
    write_array,
    write_json,
    writing,
)


@contextmanager
def at_most(size: int):
    """No file may grow beyond ``size`` bytes: the nearest thing to a full disk that needs no privileges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_atomic__puts_what_was_written_in_place(tmp_path):
    file = tmp_path / "new" / "folders" / "a.txt"
    with atomic(file) as temporary:
        temporary.write_text("whole")
        assert not file.exists()
    assert file.read_text() == "whole"
    assert list(file.parent.iterdir()) == [file]


def test_atomic__keeps_the_suffix_by_which_writers_choose_a_format(tmp_path):
    with atomic(tmp_path / "video.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        temporary.touch()


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_atomic__leaves_the_old_content_and_no_other_file_when_writing_fails(tmp_path, failure):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(failure), atomic(file) as temporary:
        temporary.write_text("ne")
        raise failure
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic__overwrites_what_a_killed_process_left(tmp_path):
    file = tmp_path / "a.txt"
    temporary_name(file).write_text("half of somethi")
    with atomic(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic__says_which_file_found_no_room_and_keeps_the_old_one(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError, match=r"cannot write '.*a\.txt': File too large; make room, and run") as caught:  # noqa: SIM117
        with at_most(1000), atomic(file) as temporary:
            temporary.write_bytes(bytes(2000))
    assert caught.value.__cause__.errno == errno.EFBIG
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic__says_which_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write '.*file/a\.txt': .*; choose a place that can be written"):  # noqa: SIM117
        with atomic(tmp_path / "file" / "a.txt"):
            pytest.fail("nothing can be written here")


def test_writing__passes_on_what_is_not_of_the_system(tmp_path):
    with pytest.raises(OSError, match=r"^no such codec$"), writing(tmp_path):
        raise OSError("no such codec")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.arange(12.0).reshape(3, 4).T,
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        np.arange(10_000)[::2],
    ],
    ids=["bytes", "transposed", "bools", "empty", "strided"],
)
def test_write_array__gives_what_numpy_loads(tmp_path, array):
    write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array, strict=True)


def test_write_array__notices_a_disk_that_is_full_at_the_very_end(tmp_path):
    array = np.zeros(3000, np.uint8)  # numpy.save buffers this much, and does not look whether the buffer was written
    with pytest.raises(OSError, match="File too large"), at_most(2000):
        write_array(tmp_path / "a.npy", array)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("-inf")])
def test_write_json__refuses_what_json_lacks_and_leaves_the_file(tmp_path, number):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match=r"a\.json cannot be written, because JSON has neither NaN nor infinity"):
        write_json(file, {"a": [number]})
    assert read_json(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_write_json__is_read_back_the_same(tmp_path):
    content = {"σ": [1, 2.5, None, True], "nested": {"a": "b"}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert "σ" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe{}"], ids=["empty", "cut off", "not text"])
def test_read_json__names_a_file_that_is_not_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")


def test_digest__is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180-2
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_versions__name_the_packages_that_results_depend_on(monkeypatch):
    code_commit.cache_clear()
    found = versions()
    assert {"python", "jepa_worlds", "numpy", "torch", "gymnasium", "hydra-core"} <= found.keys()
    assert found["numpy"] == np.__version__
    monkeypatch.setenv("PATH", "/nowhere")  # no git: no commit, and no error
    assert versions() == found  # the commit of what runs, whatever happens meanwhile
    code_commit.cache_clear()
    assert versions() == {name: version for name, version in found.items() if name != "commit"}
    code_commit.cache_clear()


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_commit__says_whether_tracked_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def git(*arguments):
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", tmp_path, *who, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    file = tmp_path / "a.py"
    file.write_text("1")
    assert commit(tmp_path) is None  # no clone
    git("init")
    assert commit(tmp_path) == "unknown"  # nothing is committed
    git("add", "a.py")
    git("commit", "-m", "a")
    git("tag", "-a", "v1", "-m", "v1")
    head = git("rev-parse", "HEAD")
    assert len(head) == 40 and commit(tmp_path) == head
    (tmp_path / "untracked.py").write_text("1")
    assert commit(tmp_path) == head
    file.write_text("22")
    assert commit(tmp_path) == f"{head}-dirty"
    git("add", "a.py")
    assert commit(tmp_path) == f"{head}-dirty"
