"""An endpoint as batch files see it: the body of a request, and what a line of results means. It sends nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from if_factory.chat.base import ChatRequest, Completion, Transient
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.replies import read_error, status_of, without_reasoning
from if_factory.chat.schemas import schema_id

# Codes of lines that the service did not get to: nothing was paid for them.
_UNTRIED = ("batch_expired", "batch_cancelled")


class Form(NamedTuple):
    """How a request is sent: without the optional fields ``refused``, and with its schema at ``level`` (see
    ``OpenAIBackend``): 0 whole, 1 without its bounds, 2 not at all."""

    refused: frozenset[str] = frozenset()
    level: int = 0


class SendInstead(Exception):
    """The server does not take the request in this form; ``form`` is the next to try."""

    def __init__(self, form: Form) -> None:
        self.form = form
        super().__init__("sent again in another form")


class NotTried(Exception):
    """The batch expired or was cancelled before this request's turn."""


class BatchBackend(OpenAIBackend):
    """``OpenAIBackend``'s knowledge of requests, answers and errors without its connection.

    What it has learnt about its server (fields and schemas that it refuses) is ``learnt``, to be kept between runs.
    """

    def form(self, request: ChatRequest) -> Form:
        """How a request would be sent now, by what the server has refused before."""
        return Form(self._refused, self._levels.get(schema_id(request.schema), 0))

    def body(self, request: ChatRequest, form: Form) -> bytes:
        """What the live client would post, as JSON."""
        return self._body(request, form.refused, schema_id(request.schema), form.level)

    async def read(self, row: Mapping[str, Any], request: ChatRequest, form: Form) -> Completion:
        """The answer in a line of results.

        Args:
            row: a line of OpenAI's output or error file, or of vLLM's output.
            form: in which the request was sent.

        Raises:
            NotTried: the batch ended before it.
            SendInstead: the server refused a field or the schema.
            Transient: worth another try.
            RequestFailed: this request is lost, by its own content.
            UserError: no request can succeed (wrong key, no credit, unknown model, a limit too high).
        """
        status, body = _response(row)
        status = status_of(status, body)
        schema = schema_id(request.schema)
        if status != 200:
            error = read_error(status, body)
            without = self._leave_out(error, request, schema, form.refused, form.level)
            if without is not None:
                raise SendInstead(Form(*without))
            raise await self._error(error, {}, request)
        completion = self._accept(body, request, form.refused, schema, form.level)
        return without_reasoning(completion)

    def learnt(self) -> dict[str, Any]:
        """What the server refuses, as JSON."""
        return {"refused": sorted(self._refused), "levels": dict(sorted(self._levels.items()))}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        """Take up what ``learnt`` gave before."""
        self._refused = frozenset(map(str, learnt.get("refused", ())))
        self._levels = {str(schema): int(level) for schema, level in dict(learnt.get("levels", {})).items()}

    def clean(self, text: str) -> str:
        """``text`` without the key, should a server repeat it."""
        return self._clean(text)

    @property
    def key(self) -> str:
        """The key from the environment; empty if there is none."""
        return self._key()

    @property
    def through_proxy(self) -> bool:
        """Whether a proxy from the environment stands before the server."""
        return bool(self._proxy())

    async def served_models(self) -> list[str]:
        """None are known here: results are read without asking anyone."""
        return []


def _response(row: Mapping[str, Any]) -> tuple[int, bytes]:
    """Status and body of a line: OpenAI puts an error into the body, or into ``error`` where nothing was sent; vLLM
    puts it into ``error``."""
    response, error = row.get("response"), row.get("error")
    code = str(error.get("code", "")) if isinstance(error, dict) else ""
    if code in _UNTRIED:
        raise NotTried
    if not isinstance(response, dict):
        if not error:
            raise Transient("garbage_line")
        if not code.isdigit() or not 400 <= int(code) < 600:
            raise Transient(f"batch_{code[:40] or 'error'}")
        return int(code), _json(error)
    status, body = response.get("status_code"), response.get("body")
    if not isinstance(status, int):
        raise Transient("garbage_line")
    if body is None and error:
        return status if status != 200 else 500, _json(error)
    return status, _json(body)


def _json(value: Any) -> bytes:
    return json.dumps(value if isinstance(value, dict) else {"message": str(value)}).encode()
