"""The folder of a run's batch files, and what has become of each.

::

    batch.json                the run it belongs to, every file with its state, what its servers refuse
    wave01-MODEL-01.jsonl     requests, as OpenAI's Batch API and ``vllm run-batch`` take them
    wave01-MODEL-01.asked     the same requests as the log knows them, line by line, without their messages
    wave01-MODEL-01.output.jsonl, .errors.jsonl   results, as they came
    unanswered.jsonl          requests that got no answer to keep, and what is to be done about each

A file is ``written``, then ``sending``, ``sent`` and ``done``; ``done`` also where a local file of results was read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from if_factory.batches.backend import Form
from if_factory.chat.base import Completion
from if_factory.errors import UserError
from if_factory.files import dump_json, read_text, write_atomic

_VERSION = 1
MOST_TRIES = 3  # waves in which a request may fail in passing (5xx, timeout, garbage) before it is lost


@dataclass
class BatchFile:
    """One file of requests to one model at one endpoint.

    Attributes:
        name: of the requests' file in the folder.
        endpoint: the recipe's; the service's base URL, or ``vllm:MODEL``.
        state: ``written``, ``sending`` (it may have reached the service), ``sent``, ``done``.
        status: the service's word for the batch.
        counts: what its results held, by kind, once it is done.
    """

    name: str
    wave: int
    endpoint: str
    model: str
    api_key_env: str
    requests: int
    bytes: int
    digest: str
    state: str = "written"
    input_file_id: str = ""
    batch_id: str = ""
    status: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """What has learnt which fields are refused: the model at its endpoint."""
        return f"{self.endpoint} {self.model}"

    def beside(self, ending: str) -> str:
        """The name of another file that goes with this one."""
        return self.name.removesuffix(".jsonl") + ending


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What is known of a request without an answer in the log.

    Attributes:
        faults: the files in which it failed in passing.
        reason: of the last failure.
        lost: it is not asked again; the record is dropped with ``reason``, as in a live run.
        empty: the answer was empty: given to the method, and not asked again in this folder.
        form: how to send it next, where the server refused a field or the schema.
    """

    faults: frozenset[str] = frozenset()
    reason: str = ""
    lost: bool = False
    empty: Completion | None = None
    form: Form | None = None

    @property
    def final(self) -> bool:
        """It is not asked again."""
        return self.lost or self.empty is not None


class BatchFolder:
    """``with BatchFolder(path) as folder``: one command at a time works in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: list[BatchFile] = []
        self.servers: dict[str, dict[str, Any]] = {}
        self.run = ""  # the run folder, from here
        self.wave = 0
        self.unanswered: dict[str, Unanswered] = {}
        self._lock = FileLock(str(path / "batch.lock"), timeout=0)

    # ------------------------------------------------------------ open and close

    def __enter__(self) -> BatchFolder:
        """Raises ``UserError``: another command works here, or the files are broken."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise UserError("another command is working in this batch folder", where=str(self.path),
                            fix="wait for it to end") from None
        except OSError as e:
            raise UserError(f"cannot open: {e.strerror or e}", where=str(self.path)) from None
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._lock.release()

    def _read(self) -> None:
        path = self.path / "batch.json"
        if path.exists():
            try:
                found = json.loads(read_text(path))
                self.run, self.wave, self.servers = str(found["run"]), int(found["wave"]), dict(found["servers"])
                self.files = [BatchFile(**each) for each in found["files"]]
            except (ValueError, KeyError, TypeError) as e:
                raise UserError(f"cannot be read: {e}", where=str(path),
                                fix="restore it, or batches that are under way are paid again") from None
        with contextlib.suppress(FileNotFoundError), open(self.path / "unanswered.jsonl", "rb") as f:
            for line in f:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a kill in the middle of a line
                    self._note(json.loads(line))

    def save(self) -> None:
        """Write ``batch.json``."""
        write_atomic(self.path / "batch.json", dump_json(
            {"version": _VERSION, "run": self.run, "wave": self.wave, "servers": dict(sorted(self.servers.items())),
             "files": [asdict(each) for each in self.files]}, indent=2) + "\n")

    def belongs_to(self, run: Path) -> None:
        """Note the run folder on first use.

        Raises:
            UserError: the batches here are another run's.
        """
        if not self.run:
            self.run = os.path.relpath(run, self.path)
            self.save()
        elif self.run_folder.resolve() != run.resolve():
            raise UserError(f"the batches here are those of the run {self.run_folder}", where=str(self.path),
                            fix="give every run a batch folder of its own")

    @property
    def run_folder(self) -> Path:
        """Raises ``UserError`` where no run has written batches here."""
        if not self.run:
            raise UserError("there are no batches here", where=str(self.path),
                            fix="write them with `if-factory run RECIPE --batch DIR`")
        return Path(os.path.normpath(self.path / self.run))

    # ------------------------------------------------------------ requests

    def pending(self) -> set[str]:
        """Keys of the requests in files whose results have not been read. A file that is gone asks nothing."""
        keys: set[str] = set()
        for file in self.files:
            if file.state == "written" and not (self.path / file.name).exists():
                file.state, file.status = "done", "deleted before it was sent"
            if file.state != "done":
                keys.update(row["key"] for row in self.asked(file))
        return keys

    def asked(self, file: BatchFile) -> Iterator[dict[str, Any]]:
        """The rows of a file's ``.asked``.

        Raises:
            UserError: it is gone or broken.
        """
        path = self.path / file.beside(".asked")
        try:
            with open(path, "rb") as f:
                for line in f:
                    yield json.loads(line)
        except (OSError, ValueError) as e:
            raise UserError(f"cannot be read: {e}", where=str(path),
                            fix="restore it; it says which requests are in a batch") from None

    # ------------------------------------------------------------ requests without an answer

    def note(self, key: str, file: str, *, fault: str = "", lost: str = "", empty: Completion | None = None,
             form: Form | None = None) -> Unanswered:
        """Remember, on disk, that ``file`` brought no answer to keep for ``key``; one of the four says what it brought.

        Args:
            fault: reason of a failure in passing.
            lost: reason for which the request is lost.
            empty: an answer without text.
            form: how to send it next.
        """
        row: dict[str, Any] = {"key": key, "file": file}
        if empty is not None:
            row["empty"] = asdict(empty)
        elif form is not None:
            row["without"], row["level"] = sorted(form.refused), form.level
        else:
            row["lost" if lost else "fault"] = lost or fault
        with open(self.path / "unanswered.jsonl", "ab") as f:
            f.write(dump_json(row).encode() + b"\n")
        return self._note(row)

    def _note(self, row: dict[str, Any]) -> Unanswered:
        key = str(row["key"])
        before = self.unanswered.get(key, Unanswered())
        faults, reason, form = before.faults, before.reason, before.form
        lost, empty = before.lost, before.empty
        if "empty" in row:
            empty = Completion(**row["empty"])
        elif "without" in row:
            form = Form(frozenset(row["without"]), int(row["level"]))
        elif "lost" in row:
            lost, reason = True, str(row["lost"])
        else:
            faults, reason = faults | {str(row["file"])}, str(row["fault"])
            lost = lost or len(faults) >= MOST_TRIES
        found = self.unanswered[key] = Unanswered(faults, reason, lost, empty, form)
        return found
