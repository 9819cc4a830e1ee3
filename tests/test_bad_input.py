"""Bad input users meet: each says which file, which row and what to do, and nothing is lost or changed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.errors import UserError
from if_factory.files import read_rows, read_text, strict_json, write_atomic, write_jsonl

GOOD = '{"prompt": "Why is the sky blue?"}\n'

# (what the user did, file name, bytes, row named in the message or None, words of the problem, words of the fix)
BROKEN_FILES: list[tuple[str, str, bytes, int | None, str, str]] = [
    ("cut_line", "s.jsonl", (GOOD * 2 + '{"prompt": "W').encode(), 3, "not valid JSON", "fix or delete"),
    ("column_of_a_line", "s.jsonl", (GOOD + '{"prompt" 1}').encode(), 2, "delimiter: column 11", "fix or delete"),
    ("single_quotes", "s.jsonl", (GOOD + "{'prompt': 'x'}\n").encode(), 2, "not valid JSON", "fix or delete"),
    ("trailing_comma", "s.jsonl", (GOOD + '{"prompt": "x",}\n').encode(), 2, "not valid JSON", "fix or delete"),
    ("two_objects_on_a_line", "s.jsonl", (GOOD + GOOD.strip() * 2).encode(), 2, "Extra data", "one JSON object"),
    ("blank_lines_are_counted", "s.jsonl", (GOOD + "\n\nnope\n").encode(), 4, "not valid JSON", "fix or delete"),
    ("indented_list_as_jsonl", "s.jsonl", b'[\n  {"prompt": "x"}\n]\n', 1, "not valid JSON", ".json file"),
    ("one_line_list_as_jsonl", "s.jsonl", b'[{"prompt": "x"}]\n', 1, "found a list", ".json file"),
    ("indented_object_as_jsonl", "s.jsonl", b'{\n  "prompt": "x"\n}\n', 1, "not valid JSON", ".json file"),
    ("string_row", "s.jsonl", (GOOD + '"Why?"\n').encode(), 2, "found a string", "{ ... }"),
    ("number_row", "s.jsonl", (GOOD + "7\n").encode(), 2, "found a number", "{ ... }"),
    ("null_row", "s.jsonl", (GOOD + "null\n").encode(), 2, "found null", "{ ... }"),
    ("true_row", "s.jsonl", (GOOD + "true\n").encode(), 2, "found a boolean", "{ ... }"),
    ("plain_text", "s.jsonl", b"Why is the sky blue?\n", 1, "not valid JSON", "one JSON object per line"),
    ("nan", "s.jsonl", (GOOD + '{"score": NaN}\n').encode(), 2, "NaN is not a JSON value", "fix or delete"),
    ("infinity", "s.jsonl", (GOOD + '{"score": -Infinity}\n').encode(), 2, "-Infinity", "fix or delete"),
    ("half_surrogate", "s.jsonl", (GOOD + '{"prompt": "\\ud83d"}\n').encode(), 2, "surrogate", "fix or delete"),
    ("nested_too_deeply", "s.jsonl", GOOD.encode() + b"[" * 100_000, 2, "nested too deeply", "fix or delete"),
    ("long_integer", "s.jsonl", GOOD.encode() + b'{"n": ' + b"9" * 5000 + b"}", 2, "not valid JSON", "fix"),
    ("control_character", "s.jsonl", GOOD.encode() + b'{"prompt": "a\x01b"}', 2, "control character", "fix"),
    ("latin_1", "s.jsonl", (GOOD + '{"prompt": "caf\xe9"}\n').encode("latin-1"), 2, "0xe9", "iconv -f LATIN1"),
    ("latin_1_after_bom", "s.jsonl", b"\xef\xbb\xbf" + (GOOD + "\xe9").encode("latin-1"), 2, "0xe9", "iconv"),
    ("utf_16", "s.jsonl", GOOD.encode("utf-16"), None, "UTF-16", "iconv -f UTF-16"),
    ("utf_16_without_bom", "s.jsonl", GOOD.encode("utf-16-le"), None, "UTF-16", "iconv -f UTF-16"),
    ("nul_bytes_after_a_crash", "s.jsonl", GOOD.encode() + b"\0" * 512, 2, "NUL", "delete this line"),
    ("gzip", "s.jsonl", b"\x1f\x8b\x08\x00" + bytes(20), None, "binary", "convert"),
    ("json_broken", "s.json", b'[\n{"prompt": "x"},\n{"prompt" "y"}\n]', 3, "not valid JSON", "fix the file"),
    ("json_cut", "s.json", b'[\n{"prompt": "x"},\n', 3, "not valid JSON", "fix the file"),
    ("jsonl_as_json", "s.json", (GOOD * 2).encode(), 2, "Extra data", "name the file .jsonl"),
    ("json_empty", "s.json", b"", 1, "not valid JSON", "fix the file"),
    ("json_top_level_object", "s.json", b'{"data": []}', None, "found an object", "wrap the rows in [ ... ]"),
    ("json_top_level_number", "s.json", b"3", None, "found a number", "wrap the rows in [ ... ]"),
    ("json_top_level_null", "s.json", b"null", None, "found null", "wrap the rows in [ ... ]"),
    ("json_scalar_row", "s.json", b'[{"prompt": "x"}, "y"]', 2, "found a string", "{ ... }"),
    ("json_nan", "s.json", b'[{"x": NaN}]', None, "NaN is not a JSON value", "remove that value"),
    ("csv", "s.csv", b"prompt\nWhy?\n", None, "cannot read a '.csv' file", "use .jsonl"),
    ("compressed_jsonl", "s.jsonl.gz", b"\x1f\x8b", None, "cannot read a '.gz' file", "use .jsonl"),
    ("no_ending", "seeds", GOOD.encode(), None, "no ending", "use .jsonl"),
]


@pytest.mark.parametrize(("name", "data", "row", "problem", "fix"), [pytest.param(*case[1:], id=case[0])
                                                                    for case in BROKEN_FILES])
def test_a_broken_file_is_named_with_its_row_and_the_remedy_and_left_alone(
        tmp_path: Path, name: str, data: bytes, row: int | None, problem: str, fix: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        list(read_rows(path))
    assert caught.value.where == (f"{path}:{row}" if row else str(path))
    assert problem in caught.value.problem
    assert caught.value.fix is not None
    assert fix in caught.value.fix
    assert path.read_bytes() == data


def test_a_folder_is_called_one_and_a_whole_path_is_relative_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is a folder"):
        list(read_rows(tmp_path))
    for name in ("x.jsonl", "x.parquet"):
        with pytest.raises(UserError) as caught:
            list(read_rows(tmp_path / name))
        assert caught.value.fix == "check the path"


def test_rows_before_a_broken_one_are_still_yielded(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(GOOD * 2 + "nope\n")
    rows = read_rows(path)
    assert [next(rows)[0], next(rows)[0]] == [1, 2]
    with pytest.raises(UserError):
        next(rows)


def a_folder(tmp_path: Path) -> Path:
    (tmp_path / "s.jsonl").mkdir()
    return tmp_path / "s.jsonl"


def a_missing_file(tmp_path: Path) -> Path:
    return tmp_path / "s.jsonl"


def a_file_below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "s.jsonl"


def a_link_loop(tmp_path: Path) -> Path:
    (tmp_path / "s.jsonl").symlink_to(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").symlink_to(tmp_path / "s.jsonl")
    return tmp_path / "s.jsonl"


@pytest.mark.parametrize(("make", "problem"), [(a_folder, "folder"), (a_missing_file, "no such file"),
                                               (a_file_below_a_file, "Not a directory"),
                                               (a_link_loop, "symbolic links")])
def test_a_path_that_cannot_be_read_is_named_with_the_remedy(
        tmp_path: Path, make: Callable[[Path], Path], problem: str) -> None:
    path = make(tmp_path)
    with pytest.raises(UserError) as caught:
        list(read_rows(path))
    assert caught.value.where == str(path)
    assert problem in caught.value.problem
    assert caught.value.fix


@pytest.fixture
def ordinary_user() -> Iterator[Callable[[], None]]:
    """Call it to go on without root's rights, for tests of permissions that run as root in a container."""
    before = os.geteuid()
    yield lambda: os.seteuid(65534) if before == 0 else None
    os.seteuid(before)


def test_a_file_without_read_permission_is_named(tmp_path: Path, ordinary_user: Callable[[], None]) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(GOOD)
    path.chmod(0)
    ordinary_user()
    with pytest.raises(UserError, match="Permission denied"):
        read_text(path)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode(),
                                  GOOD.strip().encode(), ("\n \n" + GOOD).encode(),
                                  '{"prompt": "a\u2028b"}'.encode(), b'{"prompt": "\\ud83d\\ude00"}'],
                         ids=["bom", "crlf", "no_last_newline", "blank_lines", "u2028", "emoji_escape"])
def test_harmless_oddities_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.JSONL"
    path.write_bytes(data)
    assert [set(row) for _, row in read_rows(path)] == [{"prompt"}]


def test_an_empty_jsonl_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"")
    assert list(read_rows(path)) == []


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_rows_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        assert all(isinstance(row, dict) for _, row in read_rows(path))


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(st.characters(exclude_categories=["Cs"])),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(
                        exclude_categories=["Cs"])), inner), max_leaves=8))
def test_parse_json_reads_all_that_json_writes(value: object) -> None:
    assert strict_json(json.dumps(value)) == value
    assert strict_json(json.dumps(value, ensure_ascii=False)) == value


# ---------------------------------------------------------------- writing


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    return path


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_behind(
        old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"(?s)out\.jsonl: cannot write: No space left.*what to do: free space"):
        write_jsonl(old, [{"a": 1}])
    assert old.read_text() == "old\n"
    assert leftovers(old.parent) == ["out.jsonl"]


CUT_SHORT = """
import resource, signal, sys
from pathlib import Path
from if_factory.errors import UserError
from if_factory.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(Path(sys.argv[1]), "x" * 8192)
except UserError as error:
    sys.exit(str(error))
"""


def test_a_write_cut_short_by_the_kernel_keeps_the_old_file(old: Path) -> None:
    # In a process of its own: the kernel's limit would hold for the test run's own output file too.
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, str(old)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write: File too large" in done.stderr
    assert old.read_text() == "old\n"
    assert leftovers(old.parent) == ["out.jsonl"]


def test_an_interrupt_while_writing_keeps_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(old, "new\n")
    assert old.read_text() == "old\n"
    assert leftovers(old.parent) == ["out.jsonl"]


def test_a_row_that_is_not_json_writes_nothing(old: Path) -> None:
    with pytest.raises(TypeError):
        write_jsonl(old, [{"a": 1}, {"a": {1, 2}}])
    assert old.read_text() == "old\n"


def test_an_output_folder_that_is_a_file_is_said_so(old: Path) -> None:
    with pytest.raises(UserError, match=r"'.*out\.jsonl' is a file, not a folder"):
        write_atomic(old / "data.jsonl", "new\n")
    assert old.read_text() == "old\n"


def test_an_output_file_that_is_a_folder_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(UserError, match=r"out\.jsonl: cannot write: Is a directory"):
        write_atomic(tmp_path / "out.jsonl", "new\n")
    assert leftovers(tmp_path) == ["out.jsonl"]


def test_a_read_only_folder_is_an_error(ordinary_user: Callable[[], None]) -> None:
    # Not below tmp_path, which is closed to other users as a whole.
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "out.jsonl"
        old.write_text("old\n")
        old.parent.chmod(0o555)
        ordinary_user()
        with pytest.raises(UserError, match=r"out\.jsonl: cannot write: Permission denied"):
            write_atomic(old, "new\n")
        assert old.read_text() == "old\n"
        assert leftovers(old.parent) == ["out.jsonl"]
        os.seteuid(os.getuid())
        old.parent.chmod(0o755)


def test_a_read_only_file_system_is_an_error() -> None:
    with pytest.raises(UserError, match=r"/proc/if_factory/out\.jsonl: cannot write: .+\n  what to do: "):
        write_atomic(Path("/proc/if_factory/out.jsonl"), "new\n")


def test_a_link_is_written_through_and_stays_a_link(old: Path) -> None:
    link = old.parent / "link.jsonl"
    link.symlink_to(old)
    write_atomic(link, "new\n")
    assert link.is_symlink()
    assert old.read_text() == "new\n"


def test_a_link_loop_is_an_error_and_stays(tmp_path: Path) -> None:
    path = a_link_loop(tmp_path)
    with pytest.raises(UserError, match="symbolic links"):
        write_atomic(path, "new\n")
    assert path.is_symlink()


def test_the_mode_of_an_existing_file_is_kept(old: Path) -> None:
    old.chmod(0o640)
    write_atomic(old, "new\n")
    assert old.stat().st_mode & 0o777 == 0o640
