"""The one protocol every model backend speaks: one request in, one completion out.

``n`` samples are ``n`` requests that differ in ``sample``; so each is logged, retried and resumed by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any, Protocol

from if_factory.chat.schemas import schema_text
from if_factory.errors import UserError
from if_factory.records import canonical, compact, id_of_json

quoted = encode_basestring_ascii  # a text as JSON

CUT_IN_THINKING = "cut_in_thinking"  # finish reasons of answers that are reasoning and nothing else:
ONLY_THINKING = "only_thinking"  # cut by the token limit, or ended by the model


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked of a model, and nothing that does not change the answer.

    Attributes:
        messages: ``{"role", "content"}`` dicts, system turn first if there is one.
        temperature, top_p: ``None`` is not sent, and the server's own default holds.
        max_tokens: completion tokens at most; ``None`` is not sent, and the server's own limit holds.
        seed: sent to servers that take one.
        sample: index among equal requests; part of the key, so ten samples are ten answers.
        schema: a JSON schema the answer should follow, for servers that can constrain it. Not to be changed after.
        stop: strings at which the server stops.
        extra_body: more fields of the request, for this server (``chat_template_kwargs``...).
    """

    model: str
    messages: tuple[dict[str, str], ...]
    temperature: float | None = 0.7
    top_p: float | None = 1.0
    max_tokens: int | None = 1024
    seed: int | None = None
    sample: int = 0
    schema: dict[str, Any] | None = None
    stop: tuple[str, ...] = ()
    extra_body: dict[str, Any] | None = None
    # What `_texts` makes: key, body and log line are put together from the same texts.
    _made: tuple[dict[str, str], str] | None = field(default=None, init=False, repr=False, compare=False)

    def fields(self) -> dict[str, Any]:
        """Name to value, not copied: ``dataclasses.asdict`` would deep-copy the messages of every request.

        ``extra_body`` is left out where there is none, so that logs from before it existed still hold.
        """
        return {name: getattr(self, name) for name in (_FIELDS if self.extra_body else _FIELDS[:-1])}

    def key(self) -> str:
        """The content address under which the answer is logged: everything above, nothing else."""
        t, messages = self._texts()
        extra = f'"extra_body":{canonical(self.extra_body)},' if self.extra_body else ""
        schema = "null" if self.schema is None else schema_text(self.schema).canonical
        stop = canonical(self.stop) if self.stop else "[]"
        return id_of_json(f'[{{{extra}"max_tokens":{t["max_tokens"]},"messages":{messages},"model":{t["model"]},'
                          f'"sample":{t["sample"]},"schema":{schema},"seed":{t["seed"]},"stop":{stop},'
                          f'"temperature":{t["temperature"]},"top_p":{t["top_p"]}}}]')

    def json(self) -> str:
        """``fields()`` as JSON without blanks."""
        return "{" + ",".join([f'"{name}":{text}' for name, text in self.texts().items()]) + "}"

    def texts(self) -> dict[str, str]:
        """``fields()`` with each value as JSON without blanks. Not to be changed."""
        return self._texts()[0]

    def _texts(self) -> tuple[dict[str, str], str]:
        """``texts()``, and the messages once more with their keys sorted; made once."""
        if (made := self._made) is None:
            messages, in_order = _messages_json(self.messages)
            texts = {"model": json_of(self.model), "messages": messages}
            for name in _FIELDS[2:] if self.extra_body else _FIELDS[2:-1]:
                value = getattr(self, name)
                texts[name] = schema_text(value).json if name == "schema" and value is not None else json_of(value)
            made = texts, in_order
            object.__setattr__(self, "_made", made)
        return made


_FIELDS = tuple(name for name in ChatRequest.__slots__ if name != "_made")


def json_of(value: Any) -> str:
    """``value`` as ``json.dumps`` writes it without blanks; what most values are is written at once."""
    kind = type(value)
    if kind is str:
        return quoted(value)
    if kind is int or (kind is float and -1e300 < value < 1e300):
        return repr(value)
    if value is None:
        return "null"
    if kind is tuple and not value:
        return "[]"
    return compact(value)


def _messages_json(messages: tuple[dict[str, str], ...]) -> tuple[str, str]:
    """``messages`` as JSON, and the same with sorted keys; each text is read once."""
    plain, in_order = [], []
    for message in messages:
        if list(message) != ["role", "content"]:
            return compact(messages), canonical(messages)
        role, content = message.values()
        if type(role) is not str or type(content) is not str:
            return compact(messages), canonical(messages)
        role, content = quoted(role), quoted(content)
        plain.append(f'{{"role":{role},"content":{content}}}')
        in_order.append(f'{{"content":{content},"role":{role}}}')
    return f"[{','.join(plain)}]", f"[{','.join(in_order)}]"


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer, without its reasoning.

    ``finish_reason`` is ``stop``, ``length``, ``content_filter``, ``refusal``, ``tool_calls``, ``cut_in_thinking``
    (the token limit came before the answer), ``only_thinking``, or a word of the server's that is not known. Token
    counts are the server's; 0 where it reports none.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def cut(self) -> bool:
        """The token limit ended it."""
        return self.finish_reason in ("length", CUT_IN_THINKING)


class RequestFailed(Exception):
    """A request that got no usable answer after all retries; the record is dropped with ``reason``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Transient(Exception):
    """Worth another try: 429, 5xx, a timeout, a dropped connection. ``retry_after`` is in seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)


class Deferred(BaseException):
    """The request waits for a batch: its record ends here for now, and a later run takes it further.

    Not an ``Exception``: no stage may take it for a failed request.
    """


class ServerGone(UserError):
    """Nothing listens at the server's address: never started, stopped, or starting again."""


class Backend(Protocol):
    """A way to reach a model. Raises ``Transient`` (retried by the client), ``RequestFailed`` (this request
    is lost, e.g. refused as too long) or ``UserError`` (no request can succeed: wrong key, no server)."""

    model: str

    async def chat(self, request: ChatRequest) -> Completion: ...

    async def close(self) -> None: ...
