"""Every provider's words for the same few things, read into one vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from if_factory.chat.base import CUT_IN_THINKING, ONLY_THINKING, Transient
from if_factory.chat.replies import _loaded, end_of, read_error, read_reply
from tests.chat.conftest import request


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *(
            (w, "stop")
            for w in (
                "stop",
                "eos_token",
                "end_turn",
                "eos",
                "stop_sequence",
                "STOP",
                "COMPLETE",
                "eos_found",
                "FinishReason.STOP",
                "FINISH_REASON_STOP",
                None,
                "",
                "end-of-turn",
            )
        ),
        *(
            (w, "length")
            for w in ("length", "max_tokens", "model_length", "MAX_TOKENS", "model_context_window_exceeded")
        ),
        *(
            (w, "content_filter")
            for w in ("content_filter", "SAFETY", "RECITATION", "sensitive", "guardrail_intervened")
        ),
        *((w, "tool_calls") for w in ("tool_calls", "tool_use", "function_call")),
        *((w, "error") for w in ("error", "abort", "insufficient_system_resource")),
        ("refusal", "refusal"),
        ("something_new", "something_new"),
    ],
)
def test_the_end_of_an_answer_has_one_word(word: str | None, meaning: str) -> None:
    assert end_of(word) == meaning


def body(message: dict[str, Any], finish: str | None = "stop", tokens: int = 5, **choice: Any) -> bytes:
    return json.dumps(
        {
            "choices": [{"message": message, "finish_reason": finish, **choice}],
            "usage": {"prompt_tokens": 3, "completion_tokens": tokens},
        }
    ).encode()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([{"type": "text", "text": "a"}, "b"], "ab"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}],
            "a",
        ),
        ([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "a"}], "a"),
    ],
)
def test_content_is_read_in_all_its_shapes(content: object, text: str) -> None:
    assert read_reply(body({"content": content}), request()).completion.text == text


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_an_answer_that_is_reasoning_alone_is_told_from_an_empty_one(field: str) -> None:
    reply = read_reply(body({"content": None, field: "A spade."}), request())
    assert (reply.completion.text, reply.completion.finish_reason, reply.reasoning_only) == (
        "",
        ONLY_THINKING,
        True,
    )
    reply = read_reply(body({"content": "", field: "Let me"}, "length"), request())
    assert reply.completion.finish_reason == CUT_IN_THINKING
    reply = read_reply(body({"content": "A spade.", field: "hm"}), request())
    assert (reply.completion.text, reply.completion.finish_reason, reply.reasoning_only) == (
        "A spade.",
        "stop",
        False,
    )
    assert not read_reply(body({"content": None}), request()).reasoning_only


def test_no_finish_reason_at_the_token_limit_is_a_cut_answer() -> None:
    assert (
        read_reply(body({"content": "A"}, None, tokens=7), request(max_tokens=7)).completion.finish_reason
        == "length"
    )
    assert (
        read_reply(body({"content": "A"}, None, tokens=6), request(max_tokens=7)).completion.finish_reason
        == "stop"
    )


def test_a_refusal_in_its_own_field_is_one() -> None:
    assert read_reply(body({"content": None, "refusal": "No."}), request()).completion.finish_reason == "refusal"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"choices": []}', "no_choices"),
        (body({"content": "half"}, "error"), "error_in_choice"),
        (body({"content": ""}, None, error={"code": 502, "message": "upstream"}), "error_in_choice_502"),
    ],
)
def test_a_choice_that_reports_a_fault_is_no_answer(raw: bytes, reason: str) -> None:
    with pytest.raises(Transient) as caught:
        read_reply(raw, request())
    assert caught.value.reason == reason


# ---------------------------------------------------------------- errors


def said(status: int, message: str, **more: Any) -> Any:
    return read_error(status, json.dumps({"error": {"message": message, **more}}).encode())


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (402, "Insufficient balance on this account"),
        (400, "The credit balance of this account is too low"),
        (429, "Too many: insufficient_quota"),
        (402, "anything"),
        (403, "Arrearage: the account is overdue"),
        (402, "This request requires more credits, or fewer max_tokens"),
    ],
)
def test_an_empty_account_is_told_in_many_words(status: int, message: str) -> None:
    assert said(status, message).no_credit


@pytest.mark.parametrize(("status", "message"),
                         [(429, "You exceeded your current quota; retry in 20 s"), (429, "slow down")])
def test_a_rate_limit_is_no_empty_account(status: int, message: str) -> None:
    assert not said(status, message).no_credit


def test_what_only_sounds_like_moderation_is_none() -> None:
    assert not said(400, "model names are case-sensitive").filtered


def test_a_prompt_about_credit_is_no_empty_account() -> None:
    error = said(403, "flagged", metadata={"flagged_input": "my credit balance is too low", "reasons": []})
    assert error.filtered
    assert not error.no_credit


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        ("max_tokens=2049 cannot be greater than max_model_len=2048. Please request fewer output tokens.", True),
        ("max_tokens is too large: 9000. This model supports at most 4096 completion tokens", True),
        (
            "This model's maximum context length is 2048 tokens. However, you requested 4000 tokens (1000 in the "
            "messages, 3000 in the completion). max_tokens must be reduced, it exceeds",
            True,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (6000 in the "
            "messages, 3000 in the completion). max_tokens exceeds it",
            False,
        ),
        (
            "This model's maximum context length is 2048 tokens. Your prompt has at least 2049 input tokens",
            False,
        ),
    ],
)
def test_a_max_tokens_beyond_the_server_is_a_setting_and_a_long_prompt_is_not(
    message: str, setting: bool
) -> None:
    asked, error = request(max_tokens=3000), said(400, message)
    assert error.limit_too_high(asked) == setting
    assert error.too_long(asked) != setting


@pytest.mark.parametrize(
    ("field", "message", "minds"),
    [
        ("top_p", "give this model `temperature` or `top_p`, not the two together", True),
        ("temperature", "Unsupported value: 'temperature' does not support 0.0 with this model", True),
        ("temperature", "temperature must be between 0 and 1", False),
        ("seed", "extra_forbidden: seed", True),
        ("stop", "the request was stopped", False),
        ("stop", "Unsupported parameter: 'stop'", True),
    ],
)
def test_a_field_that_is_refused_is_told_from_a_value_that_is(field: str, message: str, minds: bool) -> None:
    assert said(400, message).minds(field) == minds


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"plain TEXT", "plain text"),
        (b'{"detail": [{"loc": ["body", "seed"], "msg": "no", "input": "top_p"}]}', "seed"),
        (b'{"object": "error", "message": "Too long"}', "too long"),
        (b'{"error": "model overloaded"}', "overloaded"),
        (b"[" * 100_000, "["),
        (b"\xff", ""),
    ],
)
def test_errors_are_read_in_all_their_shapes(body: bytes, words: str) -> None:
    error = read_error(400, body)
    assert words in error.words
    assert "top_p" not in error.words  # what a server quotes of the request says nothing about the kind


@pytest.mark.parametrize("body", [
    b'{"a": "\xc3\xbc \xed\xa0\x80 \\ud800"}', b' {"a": 1}', b'{"a": 1} \r\n', b'{"a": 1} x', b'{"a": 1', b"[1]", b"",
    b'{"a": "\xff"}', b'\xef\xbb\xbf{"a": 1}', '{"a": "ü"}'.encode("utf-16"), '{"a": "ü"}'.encode("utf-32-le"),
    b'{"a": NaN}',
    b'{"a": ' + b"[" * 100_000])
def test_a_body_is_loaded_as_the_library_loads_it(body: bytes) -> None:
    def result(load: Callable[[bytes], object]) -> str:
        try:
            return repr(load(body))
        except (ValueError, RecursionError) as e:
            return type(e).__name__

    assert result(_loaded) == result(json.loads)
