"""The response log: every answer paid for, on disk before anyone sees it.

An append-only JSONL file, one line per answer, addressed by the request's content. It survives kill -9 of
the process (the kernel has the line); it does not call fsync, so a power cut may cost the last seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from if_factory.chat.base import ChatRequest, Completion, json_of, quoted
from if_factory.chat.offsets import Offsets
from if_factory.errors import UserError
from if_factory.files import Hold, dump_json, write_atomic

_START = b'{"key":"'


class ResponseLog:
    """``key -> Completion`` on disk; memory holds one offset per key (see ``offsets.py``).

    Args:
        path: the JSONL file; made with its folder if missing. ``<path>.lock`` beside it marks the writer.

    Raises:
        UserError: another process writes to it, it is not a response log, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets = Offsets()
        self._counted: set[int] = set()  # of the answers that were there before
        lock: Hold | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock = Hold(f"{path}.lock")
            # unbuffered: a read must see what the last write put there
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115
        except BlockingIOError:
            raise UserError("another run is writing to this response log", where=str(path),
                            fix="wait for it to end, or give this run its own folder") from None
        except OSError as e:
            if lock is not None:
                lock.release()
            raise UserError(f"cannot open: {e.strerror or e}", where=str(path)) from None
        try:
            self._end = self._own = self._scan()  # from there on are answers that whoever put them has counted
        except BaseException:
            self.close()
            raise

    def _scan(self) -> int:
        """Index the complete lines, cut off a torn last one, return where the next line goes."""
        end = 0
        with open(self.path, "rb") as f:
            head = f.read(len(_START))
            if not _START.startswith(head):
                raise UserError("this file is not a response log", where=str(self.path),
                                fix="move it away; a run writes its own")
            f.seek(0)
            for line in f:
                if not line.endswith(b"\n"):
                    break
                # A line damaged by the disk is skipped: its request is asked again and logged further down,
                # so the last line of a key counts.
                if line.startswith(_START) and line.endswith(b"}\n"):
                    key = line[len(_START):line.index(b'"', len(_START))].decode("ascii", "replace")
                    with contextlib.suppress(ValueError):
                        self._offsets.put(key, end)
                end += len(line)
        if end < os.fstat(self._file.fileno()).st_size:
            os.ftruncate(self._file.fileno(), end)
        return end

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, key: str) -> bool:
        return self._offsets.get(key) is not None

    def get(self, key: str) -> Completion | None:
        """The logged answer, if there is a readable one."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        try:
            return Completion(**json.loads(self._line(offset))["completion"])
        except (ValueError, KeyError, TypeError):
            self._offsets.drop(key)
            return None

    def lines(self) -> Iterator[bytes]:
        """The line that counts for each key, in the order of the file."""
        for _, offset in self._offsets.items():
            yield self._line(offset)

    def _line(self, offset: int) -> bytes:
        fd, line, size = self._file.fileno(), b"", 8192
        while (chunk := os.pread(fd, size, offset + len(line))) and b"\n" not in chunk:
            line += chunk
            size *= 2
        return line + chunk.partition(b"\n")[0]

    def first_use(self, key: str) -> bool:
        """Whether this is the first call for ``key`` since the log was opened: the time to count its cost."""
        offset = self._offsets.get(key)
        if offset is None or offset >= self._own or offset in self._counted:
            return False
        self._counted.add(offset)
        return True

    def put(self, key: str, request: ChatRequest, completion: Completion, stage: str) -> None:
        """Append one answer. The first answer to a key stays; a later one is not written.

        Raises:
            UserError: the disk is full or gone; what was logged before is intact.
        """
        self.put_line(key, line_of(key, request, completion, stage))

    def put_line(self, key: str, line: bytes) -> None:
        """``put`` with the line that ``line_of`` made, here or in another process."""
        if key not in self:
            self._append(key, line)

    def _append(self, key: str, line: bytes) -> None:
        try:
            written = os.write(self._file.fileno(), line)
            if written != len(line):
                # A disk that fills up takes a part and says nothing; ask again to hear why.
                os.write(self._file.fileno(), line[written:])
        except OSError as e:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            raise UserError(f"cannot write: {e.strerror or e}", where=str(self.path),
                            fix="free space and run the same command again; answers logged so far are kept"
                            ) from None
        self._offsets.put(key, self._end)
        self._end += len(line)

    def take_over(self, path: Path) -> None:
        """Append the answers of another log that are not in this one, and what it knows of its models.

        Raises:
            UserError: it is not a response log, another process writes to it, or the disk is full.
        """
        with contextlib.closing(ResponseLog(path)) as other:
            for key, offset in other._offsets.items():
                if key not in self:
                    self._append(key, other._line(offset) + b"\n")
        self._own = self._end
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(path.with_suffix(".models.json").read_text(encoding="utf-8"))
            for model, about in known.items():
                self.claim_model(model, about)

    def claim_model(self, model: str, about: dict[str, Any]) -> None:
        """Note what a server says of ``model`` (see ``catalogue.about``), or compare it with what stands here.

        Raises:
            UserError: the log has answers of another model under this name.
        """
        if not about:
            return
        path = self.path.with_suffix(".models.json")
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        if not isinstance(known, dict):
            known = {}
        before = known.get(model)
        if isinstance(before, dict):
            differ = [key for key in before.keys() & about.keys() if before[key] != about[key]]
            if differ:
                said = ", ".join(f"{key} {before[key]} then, {about[key]} now" for key in sorted(differ))
                raise UserError(f"another model than before is served as '{model}' ({said})", where=str(self.path),
                                fix="give this run another folder, or serve the model under a name of its own")
        if before != {**(before or {}), **about}:
            known[model] = {**(before or {}), **about}
            write_atomic(path, dump_json(dict(sorted(known.items())), indent=2) + "\n")

    def close(self) -> None:
        self._file.close()
        self._lock.release()


def line_of(key: str, request: ChatRequest, completion: Completion, stage: str) -> bytes:
    """An answer as its line in the log."""
    return (f'{{"key":{quoted(key)},"stage":{quoted(stage)},"request":{request.json()},'
            f'"completion":{{"text":{quoted(completion.text)},"finish_reason":{quoted(completion.finish_reason)},'
            f'"prompt_tokens":{json_of(completion.prompt_tokens)},'
            f'"completion_tokens":{json_of(completion.completion_tokens)}}}}}\n').encode()
