"""What is written of a request must never change: a key that differs is an answer paid for again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.chat.base import ChatRequest, Completion, json_of
from if_factory.chat.log import line_of
from if_factory.records import content_id

TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(['"', "\\", "\ud800", "\u2028", "é", "\x00", "😀"])
VALUE = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)
MESSAGE = st.fixed_dictionaries({"role": TEXT, "content": TEXT}) | st.dictionaries(TEXT, VALUE, max_size=3)
REQUEST = st.builds(
    ChatRequest, model=TEXT, messages=st.lists(MESSAGE, max_size=3).map(tuple),
    temperature=st.none() | st.floats() | st.integers(), top_p=st.none() | st.floats(0, 1),
    max_tokens=st.none() | st.integers(), seed=st.none() | st.integers(), sample=st.integers(0),
    schema=st.none() | st.dictionaries(TEXT, VALUE, max_size=3), stop=st.lists(TEXT, max_size=3).map(tuple),
    extra_body=st.none() | st.dictionaries(TEXT, VALUE, max_size=3))


def plain(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@given(REQUEST)
def test_key_and_log_line_are_those_of_the_fields(request: ChatRequest) -> None:
    assert request.key() == content_id(request.fields())
    assert request.json() == plain(request.fields())
    completion = Completion('a "b"\n\ud800', "stop", 3, 2)
    assert line_of("k", request, completion, "s\u00fc") == (plain({
        "key": "k", "stage": "s\u00fc", "request": request.fields(),
        "completion": {"text": completion.text, "finish_reason": "stop", "prompt_tokens": 3,
                       "completion_tokens": 2}}) + "\n").encode()


@given(VALUE)
def test_a_value_is_written_as_the_library_writes_it(value: Any) -> None:
    assert json_of(value) == plain(value)


@pytest.mark.parametrize("value", [True, False, 1.0, 1e16, 1e300, -1e308, 5e-324, math.inf, -math.inf, (), (1,), 2**70])
def test_odd_values_are_written_as_the_library_writes_them(value: Any) -> None:
    assert json_of(value) == plain(value)


def test_what_was_made_of_a_request_is_no_part_of_it() -> None:
    first, second = (ChatRequest("m", ({"role": "user", "content": "q"},)) for _ in range(2))
    first.key()
    assert first == second
    assert repr(first) == repr(second)
    assert first.fields() == second.fields()
    assert list(first.fields()) == ["model", "messages", "temperature", "top_p", "max_tokens", "seed", "sample",
                                    "schema", "stop"]
    assert list(ChatRequest("m", (), extra_body={"a": 1}).fields())[-1] == "extra_body"
