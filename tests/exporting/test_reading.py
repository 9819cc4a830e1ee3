"""The fast way to read lines finds what the slow one finds: the same rows, and never a row the slow one refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from if_factory.exporting.arrow import Unloadable
from if_factory.exporting.loading import _line_by_line, _quiet, parse_lines
from if_factory.exporting.remarks import NOTABLE

TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["2024-01-01", '":', "\\", '\\":', "<image>", "[INST]", "[/INST]", "{{idx}}", "<|im_end|>", "é", "\U0001f600"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2 ** 70, 2 ** 70) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=5)
ROWS = st.lists(st.dictionaries(TEXT, VALUE, max_size=4), min_size=1, max_size=4)
# what may be put into a line: most of it breaks the JSON, some of it does not
BITS = st.sampled_from([b"", b" ", b"\t", b"\n", b"\r\n", b"\r", b",", b":", b'"', b"}", b"{}", b"[", b"\\", b"\\ud800",
                        b"\\u00e9", b"\\u003c", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf",
                        b"\xef\xbb\xbf", b"0", b"01", b"1.", b".5", b"-", b"+1", b"1e400", b"9" * 40, b"NaN",
                        b"-Infinity", b"nul", b"'", b"/**/", b'"a": 1, "a": 2', b'{"k": 1, "k": 1}', b" :"])


@settings(max_examples=150, deadline=None)
@given(ROWS, st.booleans(), st.lists(st.tuples(st.integers(0, 10 ** 4), st.integers(0, 2), BITS), max_size=2))
@example([{"a": "x"}], True, [(9, 0, b"\\ud800")])
@example([{"a": "x"}], True, [(0, 0, b'{"k": 1, "k": 1}')])
@example([{"a": 1.5}], True, [(6, 3, b"1e400")])
def test_the_fast_reader_returns_the_rows_of_the_slow_one_or_nothing(
        rows: list[Any], ascii_only: bool, changes: list[tuple[int, int, bytes]]) -> None:
    raw = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()
    for at, cut, bit in changes:
        at %= len(raw) + 1
        raw = raw[:at] + bit + raw[at + cut:]
    fast = _line_by_line(raw)
    if fast is not None:
        try:
            slow = parse_lines(raw.decode())
        except Unloadable as e:
            pytest.fail(f"the slow reader refuses {raw!r}: {e}")
        assert repr(fast) == repr(slow)
        if _quiet(raw):
            assert not NOTABLE.search("\n".join(_texts(fast)))
    elif not changes:
        assert any(type(row) is not dict for row in rows) or b"\\ud" in raw


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else []
    return [text for item in items for text in _texts(item)]


@pytest.mark.parametrize("text", ["\\u003cimage>", "<image>", "[INST\\u005d", "\\u007b{idx}}", "a {{idx}} b"])
def test_a_word_to_remark_is_seen_through_escapes(text: str) -> None:
    assert not _quiet(f'{{"a": "{text}"}}\n'.encode())


def test_accents_written_as_escapes_hold_no_such_word() -> None:
    assert _quiet(json.dumps({"a": "Größe, \x85 naïve"}).encode())
