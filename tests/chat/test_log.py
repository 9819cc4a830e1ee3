from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from if_factory.chat.base import Completion
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from tests.chat.conftest import request

TEXTS = ["plain", "grüße\nin two lines\u2028", "\ud800 and \x00", "long " * 5000]


def write(path: Path, texts: list[str]) -> list[str]:
    log = ResponseLog(path)
    keys = []
    for i, text in enumerate(texts):
        asked = request(f"prompt {i}")
        keys.append(asked.key())
        log.put(asked.key(), asked, Completion(text, "stop", i, i + 1), "stage")
    log.close()
    return keys


def test_every_answer_is_found_again_at_once_and_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    keys = write(path, TEXTS)
    log = ResponseLog(path)
    assert [log.get(k) for k in keys] == [Completion(t, "stop", i, i + 1) for i, t in enumerate(TEXTS)]
    assert log.get("0" * 16) is None
    asked = request("later")
    log.put(asked.key(), asked, Completion("now"), "stage")
    assert log.get(asked.key()) == Completion("now")
    assert len(log) == len(TEXTS) + 1
    log.close()
    assert path.read_bytes().count(b"\n") == len(TEXTS) + 1
    row = json.loads(path.read_text().splitlines()[0])
    assert (row["stage"], row["request"]["messages"][0]["content"]) == ("stage", "prompt 0")


def test_a_file_torn_at_any_byte_keeps_the_whole_lines_and_takes_new_ones(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    keys = write(whole, ["one", "two ü", "three"])
    data = whole.read_bytes()
    torn = tmp_path / "torn.jsonl"
    for cut in range(len(data) + 1):
        torn.write_bytes(data[:cut])
        log = ResponseLog(torn)
        kept = data[:cut].count(b"\n")
        assert len(log) == kept
        assert [log.get(k) is not None for k in keys] == [i < kept for i in range(3)]
        asked = request("after the crash")
        log.put(asked.key(), asked, Completion("fresh"), "stage")
        log.close()
        lines = torn.read_bytes().splitlines()
        assert len([json.loads(line) for line in lines]) == kept + 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(junk=st.binary(max_size=60), at=st.integers(0, 2))
def test_a_damaged_line_costs_that_answer_and_no_other(tmp_path: Path, junk: bytes, at: int) -> None:
    path = tmp_path / "log.jsonl"
    path.unlink(missing_ok=True)
    keys = write(path, ["a", "b", "c"])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[at] = lines[at][:40] + junk + b"\n"
    path.write_bytes(b"".join(lines))
    log = ResponseLog(path)
    for i, key in enumerate(keys):
        if i != at:
            assert log.get(key) is not None
    assert log.get(keys[at]) is None
    log.put(keys[at], request(f"prompt {at}"), Completion("again"), "stage")
    assert log.get(keys[at]) == Completion("again")
    log.close()
    log = ResponseLog(path)
    assert all(log.get(key) is not None for key in keys)
    log.close()


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my only copy, no newline")
    with pytest.raises(UserError, match="not a response log"):
        ResponseLog(path)
    assert path.read_bytes() == b"my only copy, no newline"
    path.write_bytes(b"")
    ResponseLog(path).close()  # and the refusal released the lock


def test_a_second_writer_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = ResponseLog(path)
    with pytest.raises(UserError, match="another run"):
        ResponseLog(path)
    code = ("import sys; from pathlib import Path; from if_factory.chat.log import ResponseLog; "
            "from if_factory.errors import UserError\n"
            "try: ResponseLog(Path(sys.argv[1]))\nexcept UserError: sys.exit(7)")
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 7
    first.close()
    ResponseLog(path).close()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs /proc")
def test_a_folder_that_cannot_be_written_is_a_user_error() -> None:
    with pytest.raises(UserError, match="cannot open"):
        ResponseLog(Path("/proc/self/no/log.jsonl"))


def test_a_disk_that_fills_up_loses_nothing_logged_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    keys = write(path, ["one"])
    before = path.read_bytes()
    log = ResponseLog(path)
    real_write, room = os.write, [20, 0]

    def full_disk(fd: int, data: bytes) -> int:
        if not (free := room.pop(0) if room else 0):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[:free])

    monkeypatch.setattr(os, "write", full_disk)
    asked = request("new")
    with pytest.raises(UserError, match="No space left"):
        log.put(asked.key(), asked, Completion("lost"), "stage")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert log.get(asked.key()) is None
    log.put(asked.key(), asked, Completion("kept"), "stage")
    assert (log.get(keys[0]), log.get(asked.key())) == (Completion("one", "stop", 0, 1), Completion("kept"))
    log.close()


def test_the_first_answer_to_a_key_stays(tmp_path: Path) -> None:
    log = ResponseLog(tmp_path / "log.jsonl")
    asked = request()
    log.put(asked.key(), asked, Completion("first"), "a")
    log.put(asked.key(), asked, Completion("second"), "b")
    assert log.get(asked.key()) == Completion("first")
    log.close()


def test_an_answer_is_counted_once_a_session(tmp_path: Path) -> None:
    key, = write(tmp_path / "log.jsonl", ["old"])
    log = ResponseLog(tmp_path / "log.jsonl")
    assert [log.first_use(key), log.first_use(key)] == [True, False]
    asked = request("new")
    log.put(asked.key(), asked, Completion("x"), "stage")
    assert not log.first_use(asked.key())  # whoever put it has counted it
    log.close()


def test_kill_9_loses_no_answer_that_was_put(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = """
import sys
from pathlib import Path
from if_factory.chat.base import Completion
from if_factory.chat.log import ResponseLog
from tests.chat.conftest import request
log = ResponseLog(Path(sys.argv[1]))
for i in range(10**9):
    log.put(request(str(i)).key(), request(str(i)), Completion("x" * 3000), "stage")
    print(i, flush=True)
"""
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, cwd=root,
                             env={**os.environ, "PYTHONPATH": str(root)})
    assert child.stdout is not None
    last = -1
    while last < 50:
        last = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    last = max([last, *(int(line) for line in child.stdout.read().splitlines() if line.strip())])
    child.stdout.close()
    log = ResponseLog(path)  # the dead writer's lock is gone
    assert all(request(str(i)).key() in log for i in range(last))
    log.close()
