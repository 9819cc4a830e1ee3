"""OpenAI's Files and Batches API, with the ``openai`` package: a file is sent once, whatever fails in between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

from if_factory.batches.answers import backend_of
from if_factory.batches.folder import BatchFile, BatchFolder
from if_factory.errors import UserError

_ENDPOINT = "/v1/chat/completions"
_WINDOW = "24h"
_MARK = "if_factory"  # key of the batch's metadata that says which file it is
_LISTED = 1000  # batches looked through for one that may have been made
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Progress:
    """What the service says of a batch.

    Attributes:
        status: its word; one of ``ENDED`` once there is nothing to wait for.
        done, failed, total: requests; 0 where it does not say.
        output, errors: ids of the files of results; empty where there is none.
        why: why it failed as a whole.
    """

    status: str
    done: int = 0
    failed: int = 0
    total: int = 0
    output: str = ""
    errors: str = ""
    why: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class BatchService:
    """The service behind the endpoint of a file. The key comes from the environment.

    Raises:
        UserError: ``openai`` is not installed, or the file is for a model that the run serves itself.
    """

    def __init__(self, folder: BatchFolder, file: BatchFile) -> None:
        if not file.endpoint.startswith(("http://", "https://")):
            raise UserError(f"{file.endpoint} has no Batch API", where=str(folder.path / file.name),
                            fix="answer the file with `vllm run-batch`, then run `if-factory batch fetch`")
        try:
            import openai
        except ImportError:
            raise UserError("the Batch API needs the package `openai`",
                            fix='pip install "if-factory[batch]"; `vllm run-batch` needs no service') from None
        self._folder, self._openai = folder, openai
        self._backend = backend_of(file)
        url = URL(file.endpoint)
        base = str(url.with_query(None)).rstrip("/").removesuffix("/chat/completions")
        self._client = openai.OpenAI(
            api_key=self._backend.key or "none", base_url=base, default_query=dict(url.query),
            http_client=openai.DefaultHttpxClient(trust_env=self._backend.through_proxy))

    def close(self) -> None:
        self._client.close()

    def send(self, file: BatchFile) -> None:
        """Make a batch of the file. Where an earlier try may have made one, that one is taken if it is there.

        Raises:
            UserError: the service refuses, cannot be reached, or the file is not the one that was written.
        """
        path = self._folder.path / file.name
        if _digest(path) != file.digest:
            raise UserError("this file is not the one that the run wrote", where=str(path),
                            fix="restore it, or delete it and run again to have its requests written anew")
        with self._said_by(file):
            found = self._made_before(file) if file.state == "sending" else None
            if found is None:
                file.state = "sending"
                self._folder.save()
                with open(path, "rb") as f:
                    file.input_file_id = self._client.files.create(file=f, purpose="batch").id
                self._folder.save()
                found = self._client.batches.create(
                    input_file_id=file.input_file_id, endpoint=_ENDPOINT, completion_window=_WINDOW,
                    metadata={_MARK: _mark(file)})
            file.batch_id, file.state, file.status = found.id, "sent", str(found.status).lower()
            file.input_file_id = found.input_file_id
        self._folder.save()

    def progress(self, file: BatchFile) -> Progress:
        """Raises ``UserError``: the service cannot be asked."""
        with self._said_by(file):
            found = self._client.batches.retrieve(file.batch_id)
        counts, errors = found.request_counts, found.errors.data if found.errors and found.errors.data else []
        why = "; ".join(f"line {e.line}: {e.message}" if e.line else str(e.message) for e in errors[:5])
        done, failed, total = (counts.completed, counts.failed, counts.total) if counts else (0, 0, 0)
        return Progress(str(found.status).lower(), done, failed, total, found.output_file_id or "",
                        found.error_file_id or "", self._backend.clean(why))

    def download(self, file: BatchFile, file_id: str, to: Path) -> None:
        """Raises ``UserError``: the service cannot be asked, or the disk is full."""
        part = to.with_name(to.name + ".part")
        with self._said_by(file), self._client.files.with_streaming_response.content(file_id) as response:
            response.stream_to_file(part)
        part.replace(to)

    def _made_before(self, file: BatchFile) -> Any:
        for n, batch in enumerate(self._client.batches.list(limit=100)):
            if n >= _LISTED:
                break
            if (batch.metadata or {}).get(_MARK) == _mark(file):
                return batch
        return None

    @contextlib.contextmanager
    def _said_by(self, file: BatchFile) -> Iterator[None]:
        """What goes wrong at the service, as a ``UserError``."""
        where = f"{self._backend.base_url}, {file.name}"
        try:
            yield
        except self._openai.NotFoundError as e:
            raise UserError(f"the service does not know this: {self._backend.clean(str(e))}", where=where,
                            fix="check the endpoint; a server without the Batch API is asked by `vllm run-batch`, or "
                            "by `if-factory run` without --batch") from None
        except self._openai.AuthenticationError as e:
            raise UserError(f"the service refuses the key: {self._backend.clean(str(e))}", where=where,
                            fix=f"set ${file.api_key_env} to a valid key") from None
        except self._openai.OpenAIError as e:
            raise UserError(f"the service does not take it: {self._backend.clean(str(e))}", where=where,
                            fix="run the same command again later; nothing is sent twice") from None
        except OSError as e:
            raise UserError(f"cannot read or write: {e.strerror or e}", where=where) from None
        except Exception as e:
            if not type(e).__module__.startswith("httpx"):  # a download that breaks off is not wrapped
                raise
            raise UserError(f"the connection broke: {self._backend.clean(str(e))}", where=where,
                            fix="run the same command again; nothing is sent twice") from None


def _mark(file: BatchFile) -> str:
    """Says which file a batch was made of; another run's file of the same name has other bytes."""
    return f"{file.name} {file.digest[:32]}"


def _digest(path: Path) -> str:
    import hashlib

    try:
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise UserError(f"cannot read: {e.strerror or e}", where=str(path)) from None
