"""The requests that are open now, written as batch files while a run goes through its records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from if_factory.batches.backend import BatchBackend, Form
from if_factory.batches.folder import BatchFile, BatchFolder
from if_factory.chat.base import ChatRequest

MOST_LINES = 50_000  # per file, OpenAI's limits
MOST_BYTES = 200_000_000
_URL = "/v1/chat/completions"
_PART = ".part"
_encode = json.JSONEncoder(separators=(",", ":")).encode
_IN_BODY = ("model", "messages")  # what ``.asked`` need not say again


class _Writer:
    """The files of one model at one endpoint; the last one is open."""

    def __init__(self, backend: BatchBackend, endpoint: str, name: Callable[[], str], folder: Path,
                 most_lines: int, most_bytes: int) -> None:
        self._backend, self._endpoint, self._name, self._folder = backend, endpoint, name, folder
        self._most_lines, self._most_bytes = most_lines, most_bytes
        self.files: list[BatchFile] = []
        self._open: tuple[IO[bytes], IO[bytes]] | None = None
        self._digest = hashlib.sha256()

    def put(self, line: bytes, asked: bytes, wave: int) -> None:
        if self._open and (self.files[-1].requests >= self._most_lines
                           or self.files[-1].bytes + len(line) > self._most_bytes):
            self.close()
        if not self._open:
            file = BatchFile(self._name(), wave, self._endpoint, self._backend.model, self._backend.api_key_env,
                             requests=0, bytes=0, digest="")
            self.files.append(file)
            self._digest = hashlib.sha256()
            self._open = (open(self._folder / (file.name + _PART), "wb"),  # noqa: SIM115
                          open(self._folder / (file.beside(".asked") + _PART), "wb"))  # noqa: SIM115
        file = self.files[-1]
        self._open[0].write(line)
        self._open[1].write(asked)
        self._digest.update(line)
        file.requests += 1
        file.bytes += len(line)

    def close(self) -> None:
        if self._open:
            for f in self._open:
                f.close()
            self.files[-1].digest = self._digest.hexdigest()
            self._open = None


class Wave:
    """What ``run --batch`` adds to its folder: ``with Wave(folder) as wave``.

    Nothing counts before the end of the block, and nothing at all if that is an exception: a run that fails or is
    killed has written nothing.

    Args:
        folder: open.
        most_lines, most_bytes: of one file.

    Attributes:
        opened: requests written now.
        pending: keys of the requests in earlier files whose results have not been read.
        waiting: those of them that the run has asked for again.
    """

    def __init__(self, folder: BatchFolder, *, most_lines: int = MOST_LINES, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.number = folder.wave + 1
        self.waiting: set[str] = set()
        self.pending = folder.pending()
        self._new: set[str] = set()
        self._limits = most_lines, most_bytes
        self._writers: dict[tuple[str, str], _Writer] = {}
        self._names = 0
        for part in folder.path.glob(f"wave*{_PART}"):  # of a run that was killed
            part.unlink()

    def __enter__(self) -> Wave:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()
        if kind is None:
            self._keep()

    @property
    def opened(self) -> int:
        return len(self._new)

    @property
    def files(self) -> list[BatchFile]:
        """Those written now."""
        return [file for writer in self._writers.values() for file in writer.files]

    def __contains__(self, key: str) -> bool:
        """Whether the request is in a file already, of this wave or of an earlier one."""
        if key in self.pending:
            self.waiting.add(key)
        return key in self.pending or key in self._new

    def add(self, key: str, request: ChatRequest, stage: str, backend: BatchBackend, endpoint: str,
            form: Form | None = None) -> None:
        """Write a request that is in no file yet.

        Args:
            endpoint: what the recipe calls it.
            form: how to send it; default as the backend would.

        Raises:
            OSError: the disk is full.
        """
        form = form or backend.form(request)
        body = backend.body(request, form)
        line = b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (key.encode(), _URL.encode(), body)
        fields = {name: value for name, value in request.fields().items() if name not in _IN_BODY}
        asked = _encode({"key": key, "stage": stage, "request": fields, "without": sorted(form.refused),
                         "level": form.level}).encode() + b"\n"
        account = (backend.model, backend.api_key_env)
        writer = self._writers.get(account)
        if writer is None:
            writer = self._writers[account] = _Writer(
                backend, endpoint, lambda: self._next_name(backend.model), self.folder.path, *self._limits)
        writer.put(line, asked, self.number)
        self._new.add(key)

    def _keep(self) -> None:
        for file in self.files:
            for name in (file.beside(".asked"), file.name):
                (self.folder.path / (name + _PART)).replace(self.folder.path / name)
        if self.files:
            self.folder.wave = self.number
            self.folder.files += self.files
        self.folder.save()

    def _next_name(self, model: str) -> str:
        self._names += 1
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[:40] or "model"
        return f"wave{self.number:02}-{plain}-{self._names:02}.jsonl"


def request_of(asked: Mapping[str, Any], body: Mapping[str, Any]) -> ChatRequest:
    """The request that ``Wave.add`` wrote.

    Raises:
        ValueError: the two do not make the request of this key.
    """
    try:
        fields = dict(asked["request"])
        request = ChatRequest(**{**fields, "model": body["model"], "messages": tuple(body["messages"]),
                                 "stop": tuple(fields.get("stop") or ())})
    except (KeyError, TypeError) as e:
        raise ValueError(f"not a request: {e}") from None
    if request.key() != asked["key"]:
        raise ValueError("the request has been changed")
    return request
