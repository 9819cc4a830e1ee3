"""Results of batches into the response log: every line is counted as what it is, and no answer is logged twice."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from if_factory.batches.backend import BatchBackend, Form, NotTried, SendInstead
from if_factory.batches.folder import BatchFile, BatchFolder
from if_factory.batches.wave import request_of
from if_factory.chat.base import ChatRequest, RequestFailed, Transient
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError

_logger = logging.getLogger(__name__)

# What becomes of a line or of a request, in the order in which it is shown.
MEANINGS = {
    "answered": "answers put into the log",
    "repeated": "answers that the log had already",
    "empty": "empty answers, given to the method as they are",
    "lost": "requests refused or failed for good; their records are dropped with the reason",
    "again": "requests that failed in passing; the next wave asks them again",
    "other_form": "requests with a field or schema that the server refused; the next wave asks them without it",
    "not_tried": "requests that the batch did not get to; the next wave asks them",
    "no_line": "requests without a line in the results; the next wave asks them",
    "foreign": "lines of another run, not taken",
    "unreadable": "lines that are no results, not taken",
}


class Results:
    """Reads files of results for the requests of ``files``, all of one model at one endpoint.

    Args:
        files: whose requests the lines may belong to.
        counts: added to, by the keys of ``MEANINGS``, in lines; ``no_line`` in requests.
    """

    def __init__(self, folder: BatchFolder, log: ResponseLog, files: Sequence[BatchFile]) -> None:
        self.folder, self.log, self.files = folder, log, files
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self._said: set[str] = set()
        self._backends: dict[str, BatchBackend] = {}
        self._places: dict[str, tuple[BatchFile, int, int]] = {}
        for file in files:
            self._places.update(_index(folder, file))

    async def take(self, path: Path) -> None:
        """Read one file of results.

        Raises:
            UserError: it cannot be read, or the requests that it answers are gone; what was read is kept.
        """
        for row in _rows(path):
            kind = "unreadable" if row is None else await self._one(row)
            self.counts[kind] += 1

    def close(self, file: BatchFile, status: str) -> None:
        """``file`` gets no more results; what it did not bring is asked for again. Saves the folder."""
        final = {key for key, known in self.folder.unanswered.items() if known.final}
        self.counts["no_line"] += sum(of is file and not (key in self.seen or key in self.log or key in final)
                                      for key, (of, _, _) in self._places.items())
        file.state, file.status, file.counts = "done", status, _in_order(self.counts)
        self.keep()

    def keep(self) -> None:
        """Save what is known of the servers and the files."""
        for server, backend in self._backends.items():
            self.folder.servers[server] = backend.learnt()
        self.folder.save()

    async def _one(self, row: Mapping[str, Any]) -> str:
        key = str(row.get("custom_id"))
        place = self._places.get(key)
        if place is None:
            return "foreign"
        self.seen.add(key)
        if key in self.log:
            return "repeated"
        file, *at = place
        request, stage, form = self._request(file, *at)
        backend = self._backend(file)
        try:
            completion = await backend.read(row, request, form)
        except NotTried:
            kind = "not_tried"
        except SendInstead as e:
            self.folder.note(key, file.name, form=e.form)
            kind = "other_form"
        except Transient as e:
            kind = "lost" if self.folder.note(key, file.name, fault=e.reason).lost else "again"
        except RequestFailed as e:
            self.folder.note(key, file.name, lost=e.reason)
            kind = "lost"
        except UserError as e:  # about the account or the model, not about this request
            if e.problem not in self._said:
                self._said.add(e.problem)
                _logger.warning("%s: %s", file.name, e)
            kind = "again"
        else:
            if completion.text.strip():
                self.log.put(key, request, completion, stage)
                kind = "answered"
            else:
                self.folder.note(key, file.name, empty=completion)
                kind = "empty"
        return kind

    def _request(self, file: BatchFile, at: int, asked_at: int) -> tuple[ChatRequest, str, Form]:
        try:
            line = json.loads(_line(self.folder.path / file.name, at))
            asked = json.loads(_line(self.folder.path / file.beside(".asked"), asked_at))
            form = Form(frozenset(asked["without"]), asked["level"])
            return request_of(asked, line["body"]), str(asked["stage"]), form
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(f"the requests of this batch cannot be read: {e}", where=str(self.folder.path / file.name),
                            fix="restore the file as it was written") from None

    def _backend(self, file: BatchFile) -> BatchBackend:
        if file.server not in self._backends:
            made = self._backends[file.server] = backend_of(file)
            made.recall(self.folder.servers.get(file.server, {}))
        return self._backends[file.server]


def backend_of(file: BatchFile) -> BatchBackend:
    """What knows how to read this file's results."""
    return BatchBackend(base_url_of(file.endpoint), file.model, api_key_env=file.api_key_env)


def base_url_of(endpoint: str) -> str:
    """The endpoint as a URL; for ``vllm:MODEL``, which runs no server here, one that is never asked."""
    return endpoint if endpoint.startswith(("http://", "https://")) else "http://localhost/vllm/run-batch"


def _in_order(counts: Counter[str]) -> dict[str, int]:
    return {kind: counts[kind] for kind in MEANINGS if counts[kind]}


def _index(folder: BatchFolder, file: BatchFile) -> Iterator[tuple[str, tuple[BatchFile, int, int]]]:
    """Each request's key, with where its lines begin in the file and in its ``.asked``."""
    at = asked_at = 0
    try:
        with open(folder.path / file.name, "rb") as requests, open(folder.path / file.beside(".asked"), "rb") as asked:
            for line, row in zip(requests, asked, strict=True):
                yield json.loads(row)["key"], (file, at, asked_at)
                at, asked_at = at + len(line), asked_at + len(row)
    except (OSError, ValueError, KeyError) as e:
        raise UserError(f"the requests of this batch cannot be read: {e}", where=str(folder.path / file.name),
                        fix="restore the file and the `.asked` beside it as they were written") from None


def _line(path: Path, at: int) -> bytes:
    with open(path, "rb") as f:
        f.seek(at)
        return f.readline()


def _rows(path: Path) -> Iterator[dict[str, Any] | None]:
    """The objects of a file of results; ``None`` for a line that is none."""
    try:
        with open(path, "rb") as f:
            for line in f:
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield row if isinstance(row, dict) and isinstance(row.get("custom_id"), str) else None
    except OSError as e:
        raise UserError(f"cannot read: {e.strerror or e}", where=str(path)) from None
