"""Any OpenAI-compatible server over HTTP: vLLM, SGLang, llama.cpp, the cloud.

It turns what can go wrong into the kinds of ``base.Backend`` and leaves waiting and retrying to the client; only a
server that still loads its model at the start is waited for here. Bytes are sent by ``plain.py`` or ``web.py``.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from if_factory.chat.address import read_address
from if_factory.chat.base import ChatRequest, Completion, RequestFailed, ServerGone, Transient, json_of, quoted
from if_factory.chat.catalogue import about, chat_models, listed
from if_factory.chat.plain import Answer, PlainTransport
from if_factory.chat.replies import (
    KNOWN_ENDS,
    ServerError,
    cut_at_stop,
    read_error,
    read_reply,
    status_of,
)
from if_factory.chat.schemas import has_bounds, schema_id, sendable
from if_factory.errors import UserError

if TYPE_CHECKING:
    from if_factory.chat.web import WebTransport

_logger = logging.getLogger(__name__)
_CONNECT_WAITS = (0.2, 0.5, 1.0)  # seconds; a server that is restarting a worker is back by then
_LOADING_WAIT = 3.0  # seconds between two looks at a server that loads its model
# Optional fields in the order in which they are given up: a field that says nothing (top_p 1) first.
_OPTIONAL = ("seed", "top_p", "temperature", "stop", "max_completion_tokens")
_BAD_SCHEMAS = 3  # refused schemas, and none ever taken, after which a server takes none at all
Revive = Callable[[], Awaitable[bool]]


class OpenAIBackend:
    """``POST {base_url}/chat/completions``.

    Args:
        base_url: ends in ``/v1`` for nearly every server; a query (``?api-version=...``) is kept.
        model: the name to ask for; ``None`` takes the first chat model that the server lists.
        api_key_env: the environment variable that holds the key; unset means no key is sent.
        concurrency: connections at most.
        timeout: seconds for one answer, from sending to the last byte.
        wait: seconds to wait at the start for a server that is loading its model.
        revive: called where the server does not answer; true if it has been started again.
        api_key: the key itself, of a server that we started; no variable is read then.
        known: what we know of the model beyond what the server says, for ``identity``.

    Raises:
        UserError: ``base_url`` is not a URL.
    """

    def __init__(self, base_url: str, model: str | None = None, api_key_env: str = "OPENAI_API_KEY",
                 concurrency: int = 64, timeout: float = 600, wait: float = 300,
                 revive: Revive | None = None, api_key: str | None = None,
                 known: Mapping[str, Any] | None = None) -> None:
        try:
            self._address = read_address(base_url)
        except ValueError:
            raise UserError(f"'{base_url}' is not a URL", where="endpoint",
                            fix="write it with its scheme, e.g. http://localhost:8000/v1") from None
        self.base_url = self._address.origin + self._address.path  # for people: no query, no password
        self._target = self._address.target("/chat/completions")
        self.model = model or ""
        self.api_key_env = api_key_env
        self._api_key = api_key
        self._known = dict(known or {})
        self.concurrency = concurrency
        self.timeout = timeout
        self.wait = wait
        self.revive = revive
        self._transport: PlainTransport | WebTransport | None = None
        self._closed = False
        self._discovery: asyncio.Lock | None = None
        self._answered = False
        self._refused: frozenset[str] = frozenset()  # optional fields this server does not take
        self._levels: dict[str, int] = {}  # schema -> 0 sent whole, 1 without its bounds, 2 not sent
        self._sendable: dict[tuple[str, int], str] = {}  # schema, level -> what is sent of it
        self._schema_faults: Counter[str] = Counter()  # schema -> HTTP 500 in a row
        self._warned: set[str] = set()

    async def chat(self, request: ChatRequest) -> Completion:
        refused = self._refused
        schema = schema_id(request.schema)
        level = self._levels.get(schema, 0)
        status, headers, body = await self._post(request, refused, schema, level)
        while status != 200:
            error = read_error(status, body)
            without = self._leave_out(error, request, schema, refused, level)
            if without is None:
                raise await self._error(error, headers, request)
            refused, level = without
            status, headers, body = await self._post(request, refused, schema, level)
        return self._accept(body, request, refused, schema, level)

    def _accept(self, body: bytes, request: ChatRequest, refused: frozenset[str], schema: str,
                level: int) -> Completion:
        """The completion in a body of status 200; the request was sent without ``refused``, its schema at ``level``."""
        reply = read_reply(body, request)
        self._answered = True
        self._remember(refused, schema, level)
        completion = reply.completion
        if reply.reasoning_only:
            self._warn(f"{self.base_url}: answers are empty and the text is in the field for reasoning; if it is "
                       "the answer, start the server without its reasoning parser or send `extra_body: "
                       "{chat_template_kwargs: {enable_thinking: ...}}`; if it is reasoning, raise `max_tokens`")
        if completion.finish_reason not in KNOWN_ENDS:
            self._warn(f"{self.base_url} ended an answer with '{completion.finish_reason[:40]}', which is not "
                       "known as a natural end; such answers count as incomplete")
        return cut_at_stop(completion, request.stop) if "stop" in refused else completion

    async def discover(self) -> None:
        """Set ``model`` to the first chat model served, if it is not known yet.

        Raises:
            UserError: the server lists none, or cannot be asked.
        """
        if self._discovery is None:
            self._discovery = asyncio.Lock()
        async with self._discovery:
            if self.model:
                return
            served = await self._listed()
            names = [str(entry["id"]) for entry in served]
            if not names:
                raise UserError("the server does not say which models it serves", where=self.base_url,
                                fix="name the model, and check that the URL ends in /v1")
            able = chat_models(served)
            if not able:
                raise UserError(f"no chat model is listed, only: {', '.join(names[:20])}", where=self.base_url,
                                fix="name the model with `model:` if one of them can chat")
            if len(names) > 1:
                self._warn(f"{self.base_url} serves {', '.join(names[:20])}; asked is '{able[0]}' (`model:` names "
                           "another)")
            self.model = able[0]

    async def served_models(self) -> list[str]:
        """The ids of ``GET {base_url}/models``; none if the server has no such list."""
        return [str(entry["id"]) for entry in await self._listed()]

    async def identity(self) -> dict[str, Any]:
        """What the server says its model is (see ``catalogue.about``); empty where it says nothing."""
        try:
            status, _, body = await self._sender().request("GET", self._address.target("/models"), None, seconds=5)
        except (UserError, Transient, RequestFailed):
            return {}
        return {**about(listed(body), self.model), **self._known} if status == 200 else {}

    async def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            await self._transport.close()
            self._transport = None

    # ------------------------------------------------------------ sending

    async def _listed(self) -> list[dict[str, Any]]:
        """The entries of the list of models, when the server has loaded its own."""
        deadline = time.monotonic() + self.wait
        while True:
            status, headers, body = await self._send("GET", self._address.target("/models"), None)
            if status in (401, 403):
                raise await self._error(read_error(status, body), headers, None)
            if status != 503:
                return listed(body) if status == 200 else []
            if time.monotonic() >= deadline:
                raise UserError(f"the server is not ready after {self.wait:g} s (HTTP 503): "
                                f"{self._clean(read_error(status, body).text)}", where=self.base_url,
                                fix="wait until it has loaded its model, then run the same command again; "
                                "`wait_for_server` is how long a run waits")
            self._warn(f"{self.base_url} is not ready yet (HTTP 503); waiting up to {self.wait:g} s for it")
            await asyncio.sleep(min(_LOADING_WAIT, max(0.0, deadline - time.monotonic())))

    def _body(self, request: ChatRequest, refused: frozenset[str], schema: str, level: int) -> bytes:
        texts = request.texts()
        body = {"model": texts["model"], "messages": texts["messages"]}
        limit = next((f for f in ("max_tokens", "max_completion_tokens") if f not in refused), None)
        for field, name, value in (("temperature", "temperature", request.temperature),
                                   ("top_p", "top_p", request.top_p), (limit, "max_tokens", request.max_tokens),
                                   ("seed", "seed", request.seed), ("stop", "stop", request.stop or None)):
            if field and value is not None and field not in refused:
                body[field] = texts[name]
        if request.schema is not None and level < 2 and "response_format" not in refused:
            if (sent := self._sendable.get((schema, level))) is None:
                sent = self._sendable[schema, level] = json_of({"type": "json_schema", "json_schema": {
                    "name": "answer", "schema": sendable(request.schema, bounds=level == 0)}})
            body["response_format"] = sent
        for field, value in (request.extra_body or {}).items():
            if value is None:
                body.pop(field, None)
            else:
                body[field] = json_of(value)
        return ("{" + ",".join([f"{quoted(field)}:{text}" for field, text in body.items()]) + "}").encode()

    async def _post(self, request: ChatRequest, refused: frozenset[str], schema: str, level: int) -> Answer:
        status, headers, answer = await self._send("POST", self._target, self._body(request, refused, schema, level))
        return status_of(status, answer), headers, answer

    async def _send(self, method: str, target: str, body: bytes | None) -> Answer:
        """Status, headers and body; a server that is not there is asked a few times more."""
        for wait in (*_CONNECT_WAITS, None):
            try:
                return await self._sender().request(method, target, body)
            except ServerGone:
                if self.revive is not None and await self.revive():
                    raise Transient("server_restarted") from None
                if wait is None:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("the last wait is None")

    def _key(self) -> str:
        return self._api_key or os.environ.get(self.api_key_env, "").strip()

    def _sender(self) -> PlainTransport | WebTransport:
        if self._transport is not None:
            return self._transport
        if self._closed:
            raise RequestFailed("the model is closed")
        key = self._key()
        headers = {"Content-Type": "application/json"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise UserError("the key has characters that no key has", where=f"${self.api_key_env}",
                                fix="set it again")
            if "/deployments/" in self._address.path:  # Azure's own form of the API
                headers["api-key"] = key
            else:
                headers["Authorization"] = f"Bearer {key}"
        proxy, address = self._proxy(), self._address
        if address.scheme == "http" and not address.user and not proxy:
            self._transport = PlainTransport(address, headers, limit=self.concurrency, seconds=self.timeout,
                                             where=self.base_url)
        else:
            from if_factory.chat.web import WebTransport

            self._transport = WebTransport(address, headers, limit=self.concurrency, seconds=self.timeout,
                                           where=self.base_url, proxy=proxy, clean=self._clean)
        return self._transport

    def _proxy(self) -> str:
        """The proxy from the environment that stands before this server, without its password; empty if none.

        A proxy is for the outside world: it cannot reach a server on this machine's loopback.
        """
        host = self._address.host
        if host == "localhost" or host.startswith("127.") or host == "::1":
            return ""
        from urllib.request import getproxies, proxy_bypass  # much to import for a server on this machine

        if proxy_bypass(host):
            return ""
        found = getproxies()
        return found.get(self._address.scheme, found.get("all", "")).rpartition("@")[2]

    # ------------------------------------------------------------ what went wrong

    def _leave_out(self, error: ServerError, request: ChatRequest, schema: str, refused: frozenset[str],
                   level: int) -> tuple[frozenset[str], int] | None:
        """Fields not to send and the schema's level for another try; ``None`` if leaving out would not help."""
        sent_schema = bool(schema) and level < 2 and "response_format" not in refused
        if error.status == 500 and sent_schema:
            self._schema_faults[schema] += 1
            if error.about_schema or self._schema_faults[schema] > 1:
                return refused, self._next_level(request, level)
        if error.status not in (400, 422) or error.no_credit or error.filtered or error.too_long(request) \
                or error.limit_too_high(request):
            return None
        if request.max_tokens is not None and "max_tokens" not in refused \
                and ("max_completion_tokens" in error.words or error.minds("max_tokens")):
            return refused | {"max_tokens"}, level
        for field in _OPTIONAL:
            value = request.max_tokens if field == "max_completion_tokens" else getattr(request, field)
            if field not in refused and value not in (None, ()) and error.minds(field):
                return refused | {field}, level
        if sent_schema:
            if error.minds_schemas:
                return refused | {"response_format"}, level
            return refused, self._next_level(request, level)
        return None

    @staticmethod
    def _next_level(request: ChatRequest, level: int) -> int:
        return 1 if level == 0 and request.schema is not None and has_bounds(request.schema) else 2

    def _remember(self, refused: frozenset[str], schema: str, level: int) -> None:
        """An answer came: what was left out for it is what the server minds."""
        if not refused <= self._refused:
            fields = refused - self._refused
            self._refused |= refused
            self._warn(f"{self.base_url} does not take {', '.join(sorted(fields))}; going on without")
        if not schema or "response_format" in refused:
            return
        self._schema_faults.pop(schema, None)
        if level == self._levels.get(schema):
            return
        self._levels[schema] = level
        if level == 1:
            self._warn(f"{self.base_url} does not take the lengths in a JSON schema; going on without them for it")
        elif level == 2:
            self._warn(f"{self.base_url} does not take a JSON schema; going on without response_format for it")
            if len(self._levels) >= _BAD_SCHEMAS and set(self._levels.values()) == {2}:
                self._refused |= {"response_format"}
                self._warn(f"{self.base_url} took none of {len(self._levels)} JSON schemas; going on without "
                           "response_format")

    async def _error(self, error: ServerError, headers: Any, request: ChatRequest | None) -> Exception:
        status, text = error.status, self._clean(error.text)
        if error.no_credit:
            return UserError(f"the account has no credit left (HTTP {status}): {text}", where=self.base_url,
                             fix="add credit, then run the same command again; answers so far are kept")
        if error.filtered and status in (400, 401, 403, 422, 451):
            return self._refusal("content_filter", text)
        if status == 401 or (status == 403 and not self._answered):
            is_set = bool(self._key())
            return UserError(f"the server refused the key (HTTP {status}): {text}" if is_set else
                             f"the server wants a key (HTTP {status}): {text}", where=self.base_url,
                             fix=f"set ${self.api_key_env} to a valid key")
        if status == 407 or (status in (502, 503, 504) and self._proxy()):
            self._warn(f"{self.base_url}: HTTP {status}; the requests go through the proxy {self._proxy()}")
        if error.loading:
            self._warn(f"{self.base_url} is still loading its model (HTTP 503); waiting for it")
            return Transient("server_loading", _retry_after(headers) or _LOADING_WAIT)
        if status in (408, 425, 429) or status >= 500:
            return Transient(f"http_{status}", _retry_after(headers))
        if status == 404:
            served = await self.served_models()
            if served and self.model not in served:
                return UserError(f"the server does not serve '{self.model}'", where=self.base_url,
                                 fix=f"name one of: {', '.join(served[:20])}")
            return UserError("no chat API at this address (HTTP 404)", where=f"{self.base_url}/chat/completions",
                             fix="check base_url; it ends in /v1 for nearly every server")
        if status < 400 or status == 405:
            return UserError(f"no chat API at this address (HTTP {status})", where=f"{self.base_url}/chat/completions",
                             fix=f"check base_url{_redirect(headers)}")
        if request is not None and error.limit_too_high(request):
            return UserError(f"the server does not give {request.max_tokens} tokens: {text}", where=self.base_url,
                             fix="set the model's `max_tokens` lower, or to null for the server's own limit")
        return self._refusal("context_too_long" if request is not None and error.too_long(request)
                             else f"http_{status}", text)

    def _refusal(self, reason: str, text: str) -> RequestFailed:
        self._warn(f"{self.base_url} refused a request ({reason}): {text}")
        return RequestFailed(reason)

    def _clean(self, text: str) -> str:
        """Without the key, should a server or proxy repeat it."""
        key = self._key()
        return text.replace(key, "***") if key else text

    def _warn(self, message: str) -> None:
        kind = message[:120]
        if kind not in self._warned and len(self._warned) < 20:
            self._warned.add(kind)
            _logger.warning(message)


def _redirect(headers: Any) -> str:
    return f"; it points to {headers['location']}" if "location" in headers else ""


def _retry_after(headers: Any) -> float | None:
    """Seconds, from ``Retry-After`` in either of its forms (seconds, or a date)."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
