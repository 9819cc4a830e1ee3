from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from if_factory.files import Hold, TemporaryLines


def test_one_holds_a_lock_until_it_is_released(tmp_path: Path) -> None:
    first = Hold(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        Hold(tmp_path / "lock")
    first.release()
    first.release()
    Hold(tmp_path / "lock").release()


def test_it_is_the_lock_of_filelock(tmp_path: Path) -> None:
    """An older version of this package, or a script beside it, may hold it."""
    ours = Hold(tmp_path / "lock")
    with pytest.raises(Timeout):
        FileLock(tmp_path / "lock", timeout=0).acquire()
    ours.release()
    with FileLock(tmp_path / "lock"), pytest.raises(BlockingIOError):
        Hold(tmp_path / "lock")
    Hold(tmp_path / "lock").release()


def test_it_ends_with_the_process_and_with_the_object(tmp_path: Path) -> None:
    code = ("import os, sys; from if_factory.files import Hold; held = Hold(sys.argv[1]); "
            "print('held', flush=True); sys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError):
        Hold(tmp_path / "lock")
    other.kill()
    other.communicate()
    held = Hold(tmp_path / "lock")
    del held
    Hold(tmp_path / "lock").release()


def test_a_forked_process_does_not_keep_a_lock_that_was_released(tmp_path: Path) -> None:
    held = Hold(tmp_path / "lock")
    fork = multiprocessing.get_context("fork")
    over = fork.Event()
    child = fork.Process(target=over.wait, daemon=True)
    child.start()
    held.release()
    Hold(tmp_path / "lock").release()
    over.set()
    child.join()


def test_where_there_is_no_flock_filelock_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: str) -> None:
        raise NotImplementedError

    monkeypatch.setattr("if_factory.files._flocked", none)
    held = Hold(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        Hold(tmp_path / "lock")
    held.release()
    Hold(tmp_path / "lock").release()


def test_a_folder_that_is_not_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Hold(tmp_path / "nowhere" / "lock")


def test_temporary_lines_are_read_and_appended_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.files._IN_MEMORY", 40)
    lines, expected = TemporaryLines(tmp_path), []
    for i in range(30):
        expected.append(b"%d" % i * (i % 7))
        lines.append(expected[-1])
        if i % 3 == 0:
            assert lines[i // 2] == expected[i // 2]
    assert list(map(lines.__getitem__, range(30))) == expected
