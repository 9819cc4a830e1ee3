"""What servers say, in one vocabulary: why an answer ended, answers in all their shapes, errors by kind.

Every provider has words of its own for the same few things; ``docs/servers.md`` lists which was seen where.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from if_factory.chat.base import CUT_IN_THINKING, ONLY_THINKING, ChatRequest, Completion, Transient
from if_factory.chat.thinking import answer_text

_ENDS: dict[str, frozenset[str]] = {
    "stop": frozenset((
        "stop", "eos", "eos_token", "eos_found", "end_turn", "end_of_turn", "stop_sequence", "stop_token",
        "stop_str", "stop_words", "end_of_sequence", "end_of_text", "eot", "end", "complete", "completed",
        "finish", "finished", "done", "natural", "normal", "success", "none", "null", "")),
    "length": frozenset((
        "length", "max_tokens", "model_length", "max_length", "max_output_tokens", "max_new_tokens",
        "max_completion_tokens", "token_limit", "length_limit", "max_tokens_reached", "incomplete",
        "context_length", "max_context_length", "model_context_window_exceeded", "truncated")),
    "content_filter": frozenset((
        "content_filter", "content_filtered", "filtered", "safety", "moderation", "sensitive", "blocklist",
        "prohibited_content", "recitation", "spii", "image_safety", "guardrail_intervened", "guardrails",
        "error_toxic")),
    "refusal": frozenset(("refusal", "refused")),
    "tool_calls": frozenset(("tool_calls", "tool_call", "tool_use", "function_call")),
    "error": frozenset((
        "error", "abort", "aborted", "cancelled", "canceled", "network_error", "timeout",
        "insufficient_system_resource", "overloaded", "other", "malformed_function_call")),
}
_MEANING = {word: meaning for meaning, words in _ENDS.items() for word in words}
KNOWN_ENDS = frozenset(_ENDS) | {CUT_IN_THINKING, ONLY_THINKING}

_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
_TEXT_PARTS = ("text", "output_text")


def end_of(word: object) -> str:
    """A server's finish reason as ``stop``, ``length``, ``content_filter``, ``refusal``, ``tool_calls`` or
    ``error``; a word that is not known, in lower case. No reason at all is a natural end."""
    if word == "stop":
        return "stop"
    text = str(word if word is not None else "").strip().rpartition(".")[2].lower().removeprefix("finish_reason_")
    return _MEANING.get(text.replace("-", "_").replace(" ", "_"), text)


# ---------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as read; ``reasoning_only`` where the server sent reasoning in its own field and no content."""

    completion: Completion
    reasoning_only: bool = False


def read_reply(body: bytes, request: ChatRequest) -> Reply:
    """The first choice of a chat completion.

    Raises:
        Transient: it is none (proxies send such), it has no choice, or the choice itself reports a fault.
    """
    try:
        data = _loaded(body)
        choices = data["choices"]
        if not choices:
            raise Transient("no_choices")
        choice = choices[0]
        if fault := choice.get("error"):
            raise Transient(f"error_in_choice_{_code(fault)}" if _code(fault) else "error_in_choice")
        end = end_of(choice.get("finish_reason"))
        if end == "error":
            raise Transient("error_in_choice")
        message = choice["message"]
        text = _content(message.get("content"))
        if not text and message.get("refusal"):
            end = "refusal"
        usage = data.get("usage") or {}
        completion = Completion(text, end, int(usage.get("prompt_tokens") or 0),
                                int(usage.get("completion_tokens") or 0))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Transient("garbage_body") from None
    if choice.get("finish_reason") is None and request.max_tokens \
            and completion.completion_tokens >= request.max_tokens:
        completion = replace(completion, finish_reason="length")
    reasoning_only = not text.strip() and any(message.get(field) for field in _REASONING_FIELDS)
    if reasoning_only and completion.finish_reason in ("stop", "length"):
        completion = replace(completion, finish_reason=_thought(completion))
    return Reply(completion, reasoning_only)


def _loaded(body: bytes) -> Any:
    """``json.loads``, which takes half its time on such a body to look for an encoding and for blanks around it."""
    if body.startswith(b'{"'):
        text = body.decode("utf-8", "surrogatepass")
        value, end = _raw_decode(text)
        if end == len(text):
            return value
    return json.loads(body)


_raw_decode = json.JSONDecoder().raw_decode


def without_reasoning(completion: Completion) -> Completion:
    """The answer alone; where the token limit left nothing but reasoning, the finish reason says so."""
    text = answer_text(completion.text)
    if text == completion.text:
        return completion
    if not text and completion.text.strip():
        return replace(completion, text="", finish_reason=_thought(completion))
    return replace(completion, text=text)


def cut_at_stop(completion: Completion, stops: tuple[str, ...]) -> Completion:
    """For a server that does not take ``stop``: the text up to the first of ``stops``."""
    places = [at for stop in stops if stop and (at := completion.text.find(stop)) >= 0]
    return replace(completion, text=completion.text[:min(places)], finish_reason="stop") if places else completion


def _thought(completion: Completion) -> str:
    return CUT_IN_THINKING if completion.finish_reason == "length" else ONLY_THINKING


def _content(content: Any) -> str:
    """Text, or the text among content parts; parts that hold reasoning are left out."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TypeError
    return "".join(part if isinstance(part, str) else part["text"] for part in content
                   if isinstance(part, str) or part.get("type", "text") in _TEXT_PARTS)


# ---------------------------------------------------------------- errors


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error as a server words it. ``words`` is all it says about the kind, in lower case, without what it
    quotes from the request; ``text`` is for people."""

    status: int
    text: str
    words: str
    param: str = ""

    @property
    def no_credit(self) -> bool:
        return self.status == 402 or bool(_NO_CREDIT.search(self.words))

    @property
    def filtered(self) -> bool:
        return self.status == 451 or bool(_FILTERED.search(self.words))

    @property
    def loading(self) -> bool:
        return self.status == 503 and bool(_LOADING.search(self.words))

    def too_long(self, request: ChatRequest) -> bool:
        """The prompt, or the prompt together with ``max_tokens``, is beyond the context."""
        return self.status == 413 or (bool(_TOO_LONG.search(self.words)) and not self.limit_too_high(request))

    def limit_too_high(self, request: ChatRequest) -> bool:
        """``max_tokens`` alone is more than the server ever gives: a setting, whatever the prompt."""
        if request.max_tokens is None or not _LIMIT.search(self.words) or not _RANGE.search(self.words):
            return False
        if context := _CONTEXT.search(self.words):
            return request.max_tokens >= int(context[1])
        return not re.search(r"prompt|input tokens|messages", self.words)

    def minds(self, field: str) -> bool:
        """Whether it objects to ``field`` being there at all, not to its value."""
        if self.param == field:
            return not _RANGE.search(self.words)
        return bool(re.search(rf"(?<![\w.]){field}(?!\w)", self.words)) and not _RANGE.search(self.words)

    @property
    def minds_schemas(self) -> bool:
        """No schema at all is taken, whatever stands in it."""
        return bool(_NO_SCHEMAS.search(self.words)) and not _ABOUT_ONE_SCHEMA.search(self.words)

    @property
    def about_schema(self) -> bool:
        return bool(_ABOUT_A_SCHEMA.search(self.words))


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


# Not "exceeded your current quota": one provider says it where a minute's worth of requests is used up.
_NO_CREDIT = _any(r"insufficient[_ ](?:quota|balance|credits?|funds)", r"credit balance", r"out of credits?",
                  r"no credits? (?:left|remain)", r"not enough credits?", r"more credits",
                  r"payment required", r"billing (?:hard )?limit",
                  r"billing_not_active", r"arrearage", r"overdue[- ]payment", r"account balance")
_FILTERED = _any(r"moderation", r"flagged", r"content[_ ]?filter", r"content (?:management |usage )?polic",
                 r"content_policy", r"usage polic", r"responsible ?ai", r"data_?inspection",
                 r"inappropriate content", r"prohibited[_ ]content", r"sensitive (?:content|words?|information)",
                 r"safety (?:system|filter|polic|setting|check)", r"guardrail")
_LOADING = _any(r"load", r"starting", r"warming", r"not ready", r"initiali[sz]ing")
_LIMIT = re.compile(r"max_(?:completion_|new_|output_)?tokens")
_CONTEXT = re.compile(r"(?:maximum context length is|max_model_len ?=|context (?:length|window|size) (?:of|is))"
                      r"\D{0,3}(\d+)")
_RANGE = _any(r"greater than", r"less than", r"at (?:most|least)", r"too (?:large|high|big|small|low)", r"exceed",
              r"between", r"\brange\b", r"maximum (?:value|of|context)", r"minimum", r"must be", r"should be",
              r"[<>]=", r"supports? (?:up to|at most)", r"fewer")
_TOO_LONG = _any(r"context[_ ]?(?:length|window|size)", r"exceed_context", r"max_model_len",
                 r"(?:prompt|input|message|request)\w* (?:\w+ ){0,3}too (?:long|large|many)",
                 r"too many (?:input )?tokens", r"reduce (?:the|your) (?:length|prompt|input)",
                 r"input (?:tokens?|length) (?:\w+ ){0,4}exceed", r"exceed\w* (?:\w+ ){0,5}(?:context|token)",
                 r"string_above_max_length", r"longer than the (?:maximum|model)")
_UNSUPPORTED = (r"(?:unsupported|not (?:\w+ )?(?:supported|implemented|allowed|permitted|available)|unknown|"
                r"unrecogni[sz]ed|unexpected|extra[_ ](?:forbidden|inputs?|fields?)|"
                r"does(?: not|n't) (?:support|accept|take)|invalid type)")
_SCHEMA_FIELD = r"(?:response_format|json_schema|structured outputs?|json mode)"
_BETWEEN = r"\W+(?:\w+\W+){0,6}?"
_NO_SCHEMAS = _any(_SCHEMA_FIELD + _BETWEEN + _UNSUPPORTED, _UNSUPPORTED + _BETWEEN + _SCHEMA_FIELD)
_ABOUT_ONE_SCHEMA = _any("keyword", "grammar", "in context", "schema for", "propert", "maxlength", "required")
_ABOUT_A_SCHEMA = _any("schema", "grammar", "response_format", "regex", "guided", "structured", "xgrammar",
                       "outlines", "compile")


def read_error(status: int, body: bytes) -> ServerError:
    """The error in a body of any shape: ``{"error": {...}}``, ``{"message"}``, ``{"detail": [...]}``, or text."""
    raw = " ".join(body[:4000].decode("utf-8", "replace").split())
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return ServerError(status, raw[:300], raw.lower())
    inner = data.get("error") or data
    if not isinstance(inner, dict):
        return ServerError(status, raw[:300], f"{inner} {data.get('message', '')}".lower())
    said = [inner.get(key) for key in ("message", "detail", "msg", "code", "type", "status", "error_description")]
    words = " ".join(_said(each) for each in said if each is not None)
    if "flagged_input" in (metadata := inner.get("metadata") or {}):
        words += " flagged"
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        words += " " + metadata["raw"]  # a router quotes the provider behind it
    return ServerError(status, raw[:300], words.lower(), str(inner.get("param") or ""))


def error_in_body(body: bytes) -> int | None:
    """The status of an error that came with HTTP 200; 0 where it names none; ``None`` where there is no error."""
    if b'"error"' not in body:  # neither as a key nor as the value of "object"
        return None
    try:
        data = json.loads(body)
        if data.get("choices") or not (data.get("error") or data.get("object") == "error"):
            return None
        code = _code(data.get("error") or data)
        return code if 400 <= code < 600 else 0
    except (ValueError, AttributeError, RecursionError):
        return None


def status_of(status: int, body: bytes) -> int:
    """The status that counts: an error may come in the body of a 200. Raises ``Transient`` if it does not say which."""
    if status != 200 or (code := error_in_body(body)) is None:
        return status
    error = read_error(code or 400, body)
    if not code and not (error.no_credit or error.filtered):
        raise Transient("error_in_body")
    return code or 400


def _code(error: Any) -> int:
    for key in ("code", "status", "status_code", "http_code"):
        value = error.get(key) if isinstance(error, dict) else None
        if isinstance(value, int | str) and str(value).isdigit():
            return int(value)
    return 0


def _said(value: Any) -> str:
    """A message; of a list of validation errors, the places and messages without the input they quote."""
    if isinstance(value, list):
        return " ".join(f"{'.'.join(map(str, each.get('loc', ())))} {each.get('msg', '')} {each.get('type', '')}"
                        if isinstance(each, dict) else str(each) for each in value)
    return str(value)
