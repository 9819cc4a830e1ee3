"""Worker processes for checkers: answers side by side, and a limit for a checker that hangs or takes its process down.

A worker imports neither torch nor the caller's main module. An answer on which a worker hangs or dies twice, all
by itself, has no verdict; the others are not touched by it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.rewards.checks import Job

Found = tuple[str, str]
_START_SECONDS = 120.0  # an import on a machine that is busy


class _Gone(Exception):
    """The worker hung or died."""


class _Worker:
    def __init__(self, plugins: Sequence[Path]) -> None:
        root = str(Path(__file__).parents[2])  # where the package is, installed or not
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "if_factory.rewards.worker", *map(str, plugins)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, start_new_session=True)
        self._buffer = bytearray()
        try:
            state = self.line(_START_SECONDS)
        except _Gone:
            self.close()
            raise UserError("a worker process for rewards did not start", where="rewards",
                            fix=f"try `{sys.executable} -m if_factory.rewards.worker`, or workers=0") from None
        if "error" in state:
            self.close()
            raise UserError(str(state["error"]))

    def send(self, job: Job) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise _Gone from None

    def line(self, seconds: float) -> Any:
        """The next line, as JSON."""
        assert self._process.stdout is not None
        fd, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        while (end := self._buffer.find(b"\n")) < 0:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _Gone
            part = os.read(fd, 1 << 16)
            if not part:
                raise _Gone
            self._buffer += part
        found = json.loads(self._buffer[:end])
        del self._buffer[:end + 1]
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Workers:
    """``number`` processes, started when first needed; a fork of the caller starts its own.

    Args:
        number: how many.
        seconds: wall clock for the answers to one prompt, and again for each of them alone if that passes.
        plugins: the user's files of constraint types.
    """

    def __init__(self, number: int, seconds: float, plugins: Sequence[Path] = ()) -> None:
        self._number, self._seconds, self._plugins = number, seconds, tuple(plugins)
        self._lock = threading.Lock()
        self._workers: list[_Worker | None] = []
        self._owner = 0
        atexit.register(self.close)

    def run(self, jobs: Sequence[Job]) -> list[list[Found | None]]:
        """What ``checked`` says of every text of every job; ``None`` where a worker hung or died on it.

        Raises:
            UserError: a worker does not start, or a plugin does not load.
        """
        with self._lock:
            if self._owner != os.getpid():  # pipes of a parent are not ours to use
                self._workers, self._owner = [None] * self._number, os.getpid()
            waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
            for i in range(len(jobs)):
                waiting.put(i)
            found: list[list[Found | None]] = [[] for _ in jobs]
            errors: list[BaseException] = []
            threads = [threading.Thread(target=self._serve, args=(place, jobs, waiting, found, errors))
                       for place in range(min(self._number, len(jobs)))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]
            return found

    def _serve(self, place: int, jobs: Sequence[Job], waiting: queue.SimpleQueue[int],
               found: list[list[Found | None]], errors: list[BaseException]) -> None:
        while not errors:
            try:
                i = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                found[i] = self._one(place, jobs[i])
            except BaseException as e:
                errors.append(e)

    def _one(self, place: int, job: Job) -> list[Found | None]:
        """A job; where its worker hangs or dies, its answers one at a time."""
        found = self._tried(place, job)
        if found is None and len(job.texts) > 1:
            return [one for text in job.texts for one in self._one(place, replace(job, texts=(text,)))]
        if found is None:
            found = self._tried(place, job)  # what took the worker down may have had nothing to do with this answer
        return list(found) if found is not None else [None]

    def _tried(self, place: int, job: Job) -> list[Found] | None:
        worker = self._workers[place] or _Worker(self._plugins)
        self._workers[place] = worker
        try:
            worker.send(job)
            return [(outcomes, useless) for outcomes, useless in worker.line(self._seconds)]
        except _Gone:
            worker.close()
            self._workers[place] = None
            return None

    def close(self) -> None:
        """End the processes; a later call starts others."""
        workers, self._workers = self._workers, [None] * self._number
        for worker in workers:
            if worker is not None and self._owner == os.getpid():
                worker.close()

