"""Any OpenAI-compatible server over HTTP: vLLM, SGLang, llama.cpp, the cloud.

One aiohttp session per backend. It turns what can go wrong into three kinds (see ``base.Backend``) and
leaves waiting and retrying to the client, except while there is no server to talk to.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import os
import time
from typing import Any
from urllib.request import getproxies

import aiohttp
from yarl import URL

from if_factory.chat.base import ChatRequest, Completion, RequestFailed, Transient
from if_factory.errors import UserError

_logger = logging.getLogger(__name__)
_encode = json.JSONEncoder(separators=(",", ":")).encode
_CONNECT_WAITS = (0.2, 0.5, 1.0)  # seconds; a server that is restarting a worker is back by then


class OpenAIBackend:
    """``POST {base_url}/chat/completions``.

    Args:
        base_url: ends in ``/v1`` for nearly every server.
        model: the name to ask for; ``None`` takes the first that the server lists.
        api_key_env: the environment variable that holds the key; unset means no key is sent.
        concurrency: connections at most.
        timeout: seconds for one answer, from sending to the last byte.

    Raises:
        UserError: ``base_url`` is not a URL.
    """

    def __init__(self, base_url: str, model: str | None = None, api_key_env: str = "OPENAI_API_KEY",
                 concurrency: int = 64, timeout: float = 600) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/chat/completions")
        try:
            self._url = URL(self.base_url + "/chat/completions")
        except ValueError:
            self._url = URL()
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise UserError(f"'{base_url}' is not a URL", where="base_url",
                            fix="write it with its scheme, e.g. http://localhost:8000/v1")
        self.model = model or ""
        self.api_key_env = api_key_env
        self.concurrency = concurrency
        self.timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._discovery: asyncio.Lock | None = None
        self._refused: frozenset[str] = frozenset()  # optional fields this server does not take
        self._warned: set[str] = set()

    async def chat(self, request: ChatRequest) -> Completion:
        refused = self._refused
        status, headers, body = await self._post(request, refused)
        while status in (400, 422) and (field := _optional_field(request, body, refused)):
            refused |= {field}
            status, headers, body = await self._post(request, refused)
        if status == 200 and not refused <= self._refused:  # else no field was what the server minded
            self._refused |= refused
            self._warn(f"{self.base_url} does not take {', '.join(sorted(refused))}; going on without")
        if status == 200:
            return _completion(body)
        raise await self._error(status, headers, body)

    async def discover(self) -> None:
        """Set ``model`` to the first one served, if it is not known yet.

        Raises:
            UserError: the server lists none, or cannot be asked.
        """
        if self._discovery is None:
            self._discovery = asyncio.Lock()
        async with self._discovery:
            if not self.model:
                served = await self.served_models()
                if not served:
                    raise UserError("the server does not say which models it serves", where=self.base_url,
                                    fix="name the model, and check that the URL ends in /v1")
                self.model = served[0]

    async def served_models(self) -> list[str]:
        """The ids of ``GET {base_url}/models``; none if the server has no such list."""
        status, headers, body = await self._send("GET", URL(self.base_url + "/models"), None)
        if status in (401, 403):
            raise await self._error(status, headers, body)
        try:
            return [str(m["id"]) for m in json.loads(body)["data"]] if status == 200 else []
        except (ValueError, KeyError, TypeError, RecursionError):
            return []

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ------------------------------------------------------------ sending

    async def _post(self, request: ChatRequest, refused: frozenset[str]) -> tuple[int, Any, bytes]:
        body: dict[str, Any] = {"model": request.model, "messages": request.messages,
                                "temperature": request.temperature, "top_p": request.top_p}
        body["max_completion_tokens" if "max_tokens" in refused else "max_tokens"] = request.max_tokens
        if request.seed is not None and "seed" not in refused:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = request.stop
        if request.schema is not None and "response_format" not in refused:
            schema = _sendable(request.schema)
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return await self._send("POST", self._url, _encode(body).encode())

    async def _send(self, method: str, url: URL, body: bytes | None) -> tuple[int, Any, bytes]:
        """Status, headers and body; a server that is not there is asked a few times more."""
        for wait in (*_CONNECT_WAITS, None):
            session = self._session or self._connect()
            try:
                # A redirected POST would become a GET.
                async with session.request(method, url, data=body, allow_redirects=False) as response:
                    return response.status, response.headers, await response.read()
            except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as e:
                raise UserError(f"no secure connection: {self._clean(str(e))}", where=self.base_url,
                                fix="check the certificate, or use http:// if the server has none") from None
            except aiohttp.ClientConnectorError as e:
                if wait is None:
                    raise UserError(f"no server answers: {e.os_error.strerror or e.os_error}",
                                    where=self.base_url, fix="start the server or correct base_url, then run "
                                    "the same command again; answers so far are kept") from None
                await asyncio.sleep(wait)
            except TimeoutError:
                raise Transient("timeout") from None
            except (aiohttp.ClientError, OSError, ValueError):
                raise Transient("connection_lost") from None
        raise AssertionError("the last wait is None")

    def _connect(self) -> aiohttp.ClientSession:
        key = os.environ.get(self.api_key_env, "").strip()
        headers = {"Content-Type": "application/json"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise UserError("the key has characters that no key has", where=f"${self.api_key_env}",
                                fix="set it again")
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.concurrency), headers=headers,
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=10),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=bool(getproxies()))  # looking for a proxy costs time on every request
        return self._session

    # ------------------------------------------------------------ what went wrong

    async def _error(self, status: int, headers: Any, body: bytes) -> Exception:
        text = self._clean(" ".join(body[:2000].decode("utf-8", "replace").split()))[:300]
        if status in (401, 403):
            is_set = bool(os.environ.get(self.api_key_env, "").strip())
            return UserError(f"the server refused the key (HTTP {status})" if is_set else
                             f"the server wants a key (HTTP {status})", where=self.base_url,
                             fix=f"set ${self.api_key_env} to a valid key")
        if status == 429 and "insufficient_quota" in text:
            return UserError("the account has no credit left", where=self.base_url,
                             fix="add credit, then run the same command again; answers so far are kept")
        if status in (408, 425, 429) or status >= 500:
            return Transient(f"http_{status}", _retry_after(headers))
        if status == 404:
            served = await self.served_models()
            if served and self.model not in served:
                return UserError(f"the server does not serve '{self.model}'", where=self.base_url,
                                 fix=f"name one of: {', '.join(served[:20])}")
            return UserError("no chat API at this address (HTTP 404)", where=str(self._url),
                             fix="check base_url; it ends in /v1 for nearly every server")
        if status < 400 or status == 405:
            return UserError(f"no chat API at this address (HTTP {status})", where=str(self._url),
                             fix=f"check base_url{_redirect(headers)}")
        lower = text.lower()
        reason = f"http_{status}"
        if "context" in lower and any(w in lower for w in ("length", "window", "exceed", "size")):
            reason = "context_too_long"
        elif "content_filter" in lower or "content management policy" in lower:
            reason = "content_filter"
        self._warn(f"{self.base_url} refused a request ({reason}): {text}")
        return RequestFailed(reason)

    def _clean(self, text: str) -> str:
        """Without the key, should a server or proxy repeat it."""
        key = os.environ.get(self.api_key_env, "").strip()
        return text.replace(key, "***") if key else text

    def _warn(self, message: str) -> None:
        kind = message[:120]
        if kind not in self._warned and len(self._warned) < 20:
            self._warned.add(kind)
            _logger.warning(message)


_NOT_SENT = ("maxLength", "multipleOf")


def _sendable(schema: Any) -> Any:
    """Without what slows llama.cpp's grammar down a lot, or makes a strict server refuse the whole schema."""
    if isinstance(schema, dict):
        return {k: _sendable(v) for k, v in schema.items() if k not in _NOT_SENT or isinstance(v, dict)}
    return [_sendable(v) for v in schema] if isinstance(schema, list) else schema


def _optional_field(request: ChatRequest, body: bytes, refused: frozenset[str]) -> str | None:
    """The field to leave out after a server refused a request that has it, best guess first."""
    text = body.decode("utf-8", "replace").lower()
    if "max_completion_tokens" in text and "max_tokens" not in refused:
        return "max_tokens"
    if request.seed is not None and "seed" in text and "seed" not in refused:
        return "seed"
    if request.schema is not None and "response_format" not in refused:
        return "response_format"
    return None


def _redirect(headers: Any) -> str:
    return f"; it points to {headers['Location']}" if "Location" in headers else ""


def _retry_after(headers: Any) -> float | None:
    """Seconds, from ``Retry-After`` in either of its forms (seconds, or a date)."""
    value = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None


def _completion(body: bytes) -> Completion:
    """The first choice. A body that is not a chat completion is worth another try: proxies send such."""
    try:
        data = json.loads(body)
        if "error" in data and not data.get("choices"):
            raise Transient("error_in_body")
        choice = data["choices"][0]
        text = choice["message"].get("content")
        if isinstance(text, list):
            text = "".join(part.get("text", "") for part in text)
        usage = data.get("usage") or {}
        if not isinstance(text, str | None):
            raise Transient("garbage_body")
        return Completion(text or "", str(choice.get("finish_reason") or "stop"),
                          int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Transient("garbage_body") from None
