"""The merge adds to a file that belongs to someone else and leaves every byte of theirs as it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.errors import UserError
from if_factory.exporting import dataset_info
from if_factory.exporting.dataset_info import dataset_entry, merge_entries, read_entries
from if_factory.exporting.rules import COLUMNS, TAGS

OURS = {"ours": dataset_entry("ours.jsonl", "sharegpt", "dpo")}
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                    max_leaves=8)


@st.composite
def formatted(draw: Any, value: Any) -> str:
    """``value`` as JSON text with arbitrary blanks between the tokens."""
    blank = st.text(alphabet=" \t\n\r", max_size=3)

    def text(v: Any) -> str:
        if isinstance(v, dict):
            inner = [f"{draw(blank)}{json.dumps(k)}{draw(blank)}:{draw(blank)}{text(x)}" for k, x in v.items()]
            return "{" + f"{draw(blank)},".join(inner) + draw(blank) + "}"
        if isinstance(v, list):
            return "[" + f"{draw(blank)},".join(draw(blank) + text(x) for x in v) + draw(blank) + "]"
        return json.dumps(v, ensure_ascii=draw(st.booleans()))

    return draw(blank) + text(value) + draw(blank)


FILES = st.dictionaries(st.text(), JSON, max_size=4).flatmap(
    lambda value: st.tuples(st.just(value), formatted(value)))


@settings(max_examples=150, deadline=None)
@given(file=FILES, new=st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True),
                                       st.just(OURS["ours"]), min_size=1, max_size=3))
def test_bytes_outside_the_insertion_stay(file: Any, new: Any, tmp_path_factory: Any) -> None:
    value, text = file
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    path = tmp_path_factory.mktemp("d") / "dataset_info.json"
    path.write_bytes(text.encode())
    clash = [k for k in new if k in value]
    if clash:
        with pytest.raises(UserError, match="already there"):
            merge_entries(path, new)
        assert path.read_bytes() == text.encode()
        return
    report = merge_entries(path, new)
    result = path.read_bytes().decode()
    assert json.loads(result) == {**value, **new}
    assert list(json.loads(result)) == [*value, *new]
    assert report.backup is not None
    assert report.backup.read_bytes() == text.encode()
    # what was there is still there, in one piece before and one after what was put in
    cut = next((i for i, (a, b) in enumerate(zip(text, result, strict=False)) if a != b), len(text))
    assert not value or result.endswith(text[cut:])
    merge_entries(path, new)
    assert path.read_bytes().decode() == result, "merging the same again changes nothing"


@settings(max_examples=100, deadline=None)
@given(file=FILES.filter(lambda f: bool(f[0])), data=st.data())
def test_force_changes_only_the_bytes_of_the_clashing_entry(file: Any, data: Any, tmp_path_factory: Any) -> None:
    value, text = file
    name = data.draw(st.sampled_from(sorted(value)))
    if not name.isascii() or "," in name or name != name.strip() or not name:
        return
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    path = tmp_path_factory.mktemp("d") / "dataset_info.json"
    path.write_bytes(raw)
    merge_entries(path, {name: OURS["ours"]}, force=True)
    result = path.read_bytes().decode()
    start, stop = dataset_info._scan(text)[0].values[name]
    assert result.startswith(text[:start])
    assert result.endswith(text[stop:])
    assert json.loads(result) == {**value, name: OURS["ours"]}


def test_upstream_file_keeps_its_text(shared: Path, tmp_path: Path) -> None:
    text = (shared / "data" / "soft" / "upstream_dataset_info.json").read_bytes()
    path = tmp_path / "dataset_info.json"
    path.write_bytes(text)
    merge_entries(path, OURS)
    assert path.read_bytes().startswith(text.rstrip(b"}\n "))
    assert list(read_entries(path)) == ["dpo_easy", "dpo_hard", "ift_train", "ours"]
    assert b'\n    "ours": {\n        "file_name"' in path.read_bytes(), "laid out with the file's own indent"


def test_line_ends_of_the_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_bytes(b'{\r\n\t"a": {\r\n\t\t"file_name": "a.json"\r\n\t}\r\n}\r\n')
    merge_entries(path, OURS)
    text = path.read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n")
    assert b'\r\n\t"ours": {\r\n\t\t"file_name"' in text
    assert text.endswith(b"\r\n}\r\n")


def test_one_line_file_stays_one_line(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text('{"a": {"file_name": "a.json"}}')
    merge_entries(path, OURS)
    assert "\n" not in path.read_text()
    assert path.read_text().startswith('{"a": {"file_name": "a.json"}, "ours": {')


def test_missing_file_is_made_and_is_ascii(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dataset_info.json"
    report = merge_entries(path, {"d": {"file_name": "d\u00e9.jsonl"}})
    assert path.read_bytes().isascii()
    assert (report.added, report.backup) == (["d"], None)
    assert path.read_text().startswith('{\n  "d": {\n    "file_name"')


@pytest.mark.parametrize("fmt", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
def test_entries_name_known_columns_and_all_tags(fmt: Any, kind: Any) -> None:
    entry = dataset_entry("x.jsonl", fmt, kind)
    assert set(entry["columns"]) <= set(COLUMNS)
    assert set(entry.get("tags", TAGS)) == set(TAGS)
    assert entry["ranking"] is (kind == "dpo")


def test_same_content_in_another_order_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps({"ours": dict(reversed(OURS["ours"].items()))}))
    before = path.read_bytes()
    assert merge_entries(path, OURS).unchanged == ["ours"]
    assert path.read_bytes() == before
    assert not path.with_name("dataset_info.json.bak").exists()


def test_clash_says_which_key_differs(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps({"ours": OURS["ours"] | {"file_name": "theirs.jsonl"}}))
    with pytest.raises(UserError, match=r"'file_name' is \"theirs.jsonl\", ours is \"ours.jsonl\""):
        merge_entries(path, OURS)
    assert "theirs" in path.read_text()


def test_clash_of_one_name_writes_none_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text('{"b": {}}')
    with pytest.raises(UserError):
        merge_entries(path, {"a": OURS["ours"], "b": OURS["ours"]})
    assert path.read_text() == '{"b": {}}'


@pytest.mark.parametrize(("raw", "words"), [
    (b'{"a": {}', "not valid JSON"), (b"", "not valid JSON"), (b'{"a": {},}', "not valid JSON"),
    (b"[]", "found a list"), (b'"x"', "found 'x'"), (b'{"a": 1, "a": 2}', "'a' is there twice"),
    (b'\xef\xbb\xbf{"a": {}}', "byte order mark"), (b'{"caf\xe9": {}}', "byte 5 is 0xe9"),
    (b'{"a": {}} x', "not valid JSON")])
def test_broken_file_is_explained_and_left_alone(raw: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=words):
        merge_entries(path, OURS)
    assert path.read_bytes() == raw
    assert not path.with_name("dataset_info.json.bak").exists()


@pytest.mark.parametrize("name", ["a,b", " a", "caf\u00e9", ""])
def test_names_that_llamafactory_cannot_use_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be a dataset name"):
        merge_entries(tmp_path / "dataset_info.json", {name: OURS["ours"]})


def test_read_only_folder_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text("{}")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")  # what a read-only folder gives; root may write anywhere

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        merge_entries(path, OURS)
    assert path.read_text() == "{}"


def test_held_lock_ends_in_a_clear_error(tmp_path: Path) -> None:
    from filelock import FileLock

    path = tmp_path / "dataset_info.json"
    error: list[BaseException] = []

    def second() -> None:
        try:
            merge_entries(path, OURS, timeout=0.1)
        except UserError as e:
            error.append(e)

    with FileLock(f"{path}.lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "another writer" in str(error[0])


def _add_eight(path: Path, who: int) -> None:
    for i in range(8):
        merge_entries(path, {f"w{who}_{i}": dataset_entry(f"{who}_{i}.jsonl", "alpaca", "sft")})


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text('{\n  "theirs": {"file_name": "t.json"}\n}\n')
    writers = [multiprocessing.get_context("fork").Process(target=_add_eight, args=(path, w)) for w in range(2)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    assert set(read_entries(path)) == {"theirs", *(f"w{w}_{i}" for w in range(2) for i in range(8))}


def test_killed_writer_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text('{"theirs": {"file_name": "t.json"}}')
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04):
        writer = multiprocessing.get_context("fork").Process(target=_add_eight, args=(path, int(delay * 1000)))
        writer.start()
        time.sleep(delay)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        assert "theirs" in read_entries(path)
    merge_entries(path, OURS)  # a dead writer's lock is free again
    assert "ours" in read_entries(path)
