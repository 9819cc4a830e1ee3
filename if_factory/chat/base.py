"""The one protocol every model backend speaks: one request in, one completion out.

``n`` samples are ``n`` requests that differ in ``sample``; so each is logged, retried and resumed by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from if_factory.errors import UserError
from if_factory.records import content_id

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
        schema: a JSON schema the answer should follow, for servers that can constrain it.
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

    def fields(self) -> dict[str, Any]:
        """Name to value, not copied: ``dataclasses.asdict`` would deep-copy the messages of every request.

        ``extra_body`` is left out where there is none, so that logs from before it existed still hold.
        """
        found = {name: getattr(self, name) for name in self.__slots__}
        if not self.extra_body:
            del found["extra_body"]
        return found

    def key(self) -> str:
        """The content address under which the answer is logged: everything above, nothing else."""
        return content_id(self.fields())


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
