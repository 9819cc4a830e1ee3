"""The parent's side of the sandbox: workers, limits as the caller sees them, and answers turned into verdicts.

Each worker owns a jailed fork server in real CPython (``zygote.py``); a function is run in one fork over all its
inputs, so that what it breaks ends with it.

What is covered (each has a test in tests/sandbox): reading and writing files, the environment, other processes
(signals, ptrace, /proc), sockets of every family, starting programs, processes or threads, endless loops at the
top level and in the function, memory, large answers, crashes of the interpreter, modules poisoned for the next
function, answers forged for another function, clock and random numbers.

What is not: a function can lie about its own inputs (it is the one asked), and code that reads its own
interpreter's frames can find the nonce of its own answers. It can ``stat`` any path, so it can learn that a file
exists and how large it is. A file that may be read (the standard library, time zones) may be read by it too. The
kernel is trusted: there is no virtual machine around it. Two functions in turn on one core share its caches.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from if_factory.records import Outcome, Verdict
from if_factory.sandbox import probe
from if_factory.sandbox.probe import Isolation
from if_factory.sandbox.server import Limits, Server, ServerDied
from if_factory.verdicts import VERDICT_OF

_REMEMBERED = 1000  # functions whose code is kept, a few kilobytes each
_GRACE = 10.0  # seconds beyond the limits before a fork server that says nothing is given up


@dataclass(frozen=True, slots=True)
class FunctionResult:
    """The answers of one function, by position of the input.

    Attributes:
        values: what it returned, as JSON has it (a tuple becomes a list); None where it returned None or nothing
            came back, which ``returned`` distinguishes.
        verdicts: ``truth_value(value)`` as pass or fail; else ``no_verdict`` with the reason.
        loaded: the source compiled, its top level ran and it defines the entry.
        flaky: two runs differed; each run has a hash seed, a random seed and a clock of its own.
        timed_out: it passed a time limit, now or earlier; this pool does not run it again.
        seconds: wall clock for all runs, waiting for a worker excluded.
    """

    values: tuple[Any, ...]
    returned: tuple[bool, ...]
    verdicts: tuple[Verdict, ...]
    loaded: bool
    flaky: bool = False
    timed_out: bool = False
    seconds: float = 0.0

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(v.reason for v in self.verdicts)


def truth_value(value: Any) -> bool | None:
    """The truth value that a verifier meant, or ``None``.

    Booleans are accepted, 0 and 1 (also 0.0 and 1.0), and "true" and "false" in any case; nothing else: an empty
    list or ``None`` is what an unfinished function returns.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return None


def _verdict(value: Any) -> Verdict:
    truth = truth_value(value)
    if truth is None:
        return _none(f"returned {json.dumps(value, ensure_ascii=False)[:100]}, which is neither true nor false")
    return VERDICT_OF[truth]


def _none(reason: str) -> Verdict:
    return Verdict(outcome=Outcome.NO_VERDICT, reason=reason)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One input in one run: a JSON value, or the reason why there is none."""

    value: Any = None
    error: str = ""

    def key(self) -> str:
        return json.dumps([self.value, self.error.split(":")[0]], sort_keys=True)


@dataclass(slots=True)
class _Run:
    answers: list[_Answer]
    loaded: bool = True
    timed_out: bool = False


class _Worker:
    """One caller's turn: a fork server per run, since a hash seed is fixed when Python starts."""

    def __init__(self, isolation: Isolation, limits: Limits) -> None:
        self._isolation, self._limits = isolation, limits
        self._servers: dict[int, Server] = {}
        self._closed = False
        self._lock = threading.Lock()

    def server(self, run: int) -> Server:
        """Raises ``ServerDied`` once closed."""
        with self._lock:
            if self._closed:
                raise ServerDied("closed")
            if run not in self._servers:
                self._servers[run] = Server(self._isolation, self._limits, run)
            return self._servers[run]

    def drop(self, run: int) -> None:
        """End this server; the next call starts another."""
        with self._lock:
            server = self._servers.pop(run, None)
        if server:
            server.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for run in list(self._servers):
            self.drop(run)


class Pool:
    """Runs functions that a model wrote, ``workers`` at a time. Safe for threads and for asyncio.

    Args:
        workers: functions in progress at once; a fork server each, started when first needed.
        limits: for every function.
        allow_weak: accept a machine that offers resource limits only, for code you trust.

    Raises:
        UserError: no isolation worth the name on this machine; the message says what to do.
    """

    def __init__(self, workers: int = 2, limits: Limits | None = None, *, allow_weak: bool = False) -> None:
        self.isolation = probe.require(allow_weak)
        self.limits = limits or Limits()
        self._workers = [_Worker(self.isolation, self.limits) for _ in range(workers)]
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # None: closed, for callers that wait
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
        self._timed_out: set[bytes] = set()
        self._compiled: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = False
        worker.server(0)  # locks that do not hold are found now, not at the first function

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker; a function in progress gives no verdict."""
        self._closed = True
        self._idle.put(None)
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def arun(self, source: str, inputs: Sequence[Any], entry: str = "evaluate",
                   runs: int = 1) -> FunctionResult:
        """``run`` without blocking the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.run, source, inputs, entry, runs)

    def run(self, source: str, inputs: Sequence[Any], entry: str = "evaluate", runs: int = 1) -> FunctionResult:
        """Call ``entry`` of ``source`` once per input.

        Args:
            source: Python source text; it has a module of its own, so helpers and imports at its top work.
            inputs: JSON values, one positional argument each.
            runs: 2 finds flaky functions: another hash seed, random seed and clock, and the answers compared.

        Returns:
            One value and verdict per input. Whatever the function does, this returns.
        """
        if not isinstance(source, str):
            return _result([_silent(len(inputs), "does not load: the source is not text")], 0.0)
        key = hashlib.blake2b(f"{entry}\0{source}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._timed_out:
            return _result([_silent(len(inputs), "timed out before; not run again", timed_out=True)], 0.0)
        worker = self._take()
        began = time.perf_counter()
        done: list[_Run] = []
        try:
            for run in range(runs):
                done.append(self._once(worker, source, list(inputs), entry, run))
                if done[-1].timed_out:
                    self._timed_out.add(key)
                if done[-1].timed_out or not done[-1].loaded:
                    break
        finally:
            self._idle.put(worker)
        return _result(done, time.perf_counter() - began)

    def forget_time_outs(self) -> bool:
        """Functions that timed out may run again: what follows does not depend on what came before.

        Returns whether there were any.
        """
        any_there = bool(self._timed_out)
        self._timed_out.clear()
        return any_there

    def _take(self) -> _Worker:
        worker = self._idle.get()
        if worker is None or self._closed:
            self._idle.put(worker)
            raise RuntimeError("this sandbox pool is closed")
        return worker

    def _once(self, worker: _Worker, source: str, inputs: list[Any], entry: str, run: int) -> _Run:
        """One run over all inputs; after a crash a fresh fork takes the inputs that are left."""
        found = _Run([])
        while True:
            left = inputs[len(found.answers):]
            code = self._compiled.get(source, "")
            body = json.dumps({"source": "" if code else source, "code": code, "inputs": left, "entry": entry}).encode()
            try:
                end, raw = worker.server(run).ask(body, len(left), self.limits.total_seconds + _GRACE)
            except ServerDied:
                worker.drop(run)
                return _silent(len(inputs), "the sandbox worker died and was replaced")
            except BaseException:  # Ctrl-C: the answer still to come is not the next function's
                worker.drop(run)
                raise
            answers = _read(raw)
            if answers is None or end == "forged":
                return _silent(len(inputs), "wrote to the sandbox's own reply channel")
            if end in _TIMES:
                found.timed_out = True
            error = next((a.error for a in answers[:2] if a.error), "" if len(answers) > 1 else self._why(end))
            if error:
                return _silent(len(inputs), f"does not load: {error}", timed_out=found.timed_out)
            if answers[0].value:
                self._remember(source, answers[0].value)
            found.answers += answers[2:]
            if end == "done" or len(found.answers) == len(inputs):
                return found
            found.answers.append(_Answer(error=self._why(end)))
            if found.timed_out:
                found.answers += [_Answer(error="timed out on an earlier input")] * (len(inputs) - len(found.answers))
            if len(found.answers) == len(inputs):
                return found

    def _remember(self, source: str, code: str) -> None:
        """The code as a child compiled it, before any of it ran there: the next child need not compile it again."""
        with self._lock:
            while len(self._compiled) >= _REMEMBERED:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[source] = code

    def _why(self, end: str) -> str:
        """How the child ended, as a reason."""
        if end in _TIMES:
            what, limit = _TIMES[end]
            return f"timed out: {getattr(self.limits, limit):g} s of {what}"
        kind, _, number = end.partition(" ")
        if kind == "signal":
            return _SIGNALS.get(int(number), f"died of signal {number}")
        return f"ended the process with status {number}"


_TIMES = {"cpu": ("CPU time", "cpu_seconds"), "wall": ("wall clock", "wall_seconds"),
          "total": ("wall clock over all its inputs", "total_seconds")}
_SIGNALS = {4: "crashed the interpreter (illegal instruction)", 6: "crashed the interpreter (abort)",
            9: "was killed, or closed its reply channel", 11: "crashed the interpreter (segmentation fault)",
            24: "used up its CPU time", 31: "made a system call of another architecture"}


_USUAL = {b'{"value": true}': _Answer(True), b'{"value": false}': _Answer(False)}


def _read(raw: Sequence[bytes]) -> list[_Answer] | None:
    """The child's answers; None if one is not as the child's own runner writes it."""
    answers = []
    for one in raw:
        if (usual := _USUAL.get(one)) is not None:
            answers.append(usual)
            continue
        try:
            found = json.loads(one)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not found.keys() <= {"value", "error"}:
            return None
        error = found.get("error", "")
        if not isinstance(error, str):
            return None
        answers.append(_Answer(found.get("value"), error[:400]))
    return answers


def _silent(count: int, reason: str, *, timed_out: bool = False) -> _Run:
    return _Run([_Answer(error=reason) for _ in range(count)], loaded=False, timed_out=timed_out)


def _result(runs: Sequence[_Run], seconds: float) -> FunctionResult:
    """The first run's answers, with those that another run contradicts taken out."""
    first = runs[0]
    verdicts, flaky = [], any(run.loaded is not first.loaded for run in runs)
    for answer, *others in zip(*(run.answers for run in runs), strict=True):
        if any(other is not answer and other.key() != answer.key() for other in others):
            flaky = True
            verdicts.append(_none("flaky: two runs with another hash seed, random seed and clock differ"))
        else:
            verdicts.append(_none(answer.error) if answer.error else _verdict(answer.value))
    return FunctionResult(tuple(a.value for a in first.answers), tuple(not a.error for a in first.answers),
                          tuple(verdicts), first.loaded, flaky, any(run.timed_out for run in runs), seconds)
