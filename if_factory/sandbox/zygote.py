"""The jailed fork server: imports the standard library, locks itself in, and forks one child per function.

Runs as a script under ``python -P -s -S -B`` with an environment of five variables, never as a module of the
package. Standard library only, since nothing else can be read once the locks are on.

Protocol, over the socket whose descriptor is the first argument. Parent: number of inputs and length of the
body (two uint32), then a JSON body. Server: length (uint32), then a line about how the child ended, then the
child's answers as they came. Child to server, over a pipe of its own: nonce, position, length, JSON. The child is
never believed about anything but its own function: it has one pipe, made for it and closed after it, and knows no
other child's nonce.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import struct
import sys
from collections.abc import Callable
from time import clock_gettime, monotonic  # before the child's clock stops those of the module
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
_register, os.register_at_fork = os.register_at_fork, lambda **hooks: None  # else `random` seeds itself in every child
import child  # type: ignore[import-not-found]  # noqa: E402  siblings, by their bare names
import jail  # type: ignore[import-not-found]  # noqa: E402

os.register_at_fork = _register
sys.path.pop(0)

MAX_REPLIES = 64 << 20
QUIET_MS = 10  # so long no answer wakes this process, which would take turns with the child; its time is noted after
KILL = int(signal.SIGKILL)

# Imported before the fork, so that a function's own import costs nothing. Every page of memory makes every fork
# dearer, so only what verifiers use often is here.
PRELOAD = ("bisect calendar collections.abc copy datetime enum functools heapq itertools json math operator "
           "random re string textwrap types typing unicodedata _strptime")
# Modules whose shared libraries lie outside the standard library: those files become readable one by one.
LATE = "bz2 ctypes decimal hashlib lzma sqlite3 ssl uuid xml.parsers.expat zlib"


def main() -> None:
    control, options = int(sys.argv[1]), json.loads(sys.argv[2])
    try:
        state = lock_in(options)
    except OSError as e:
        say(control, json.dumps({"error": str(e)}).encode())
        return
    say(control, json.dumps(state).encode())
    while header := take(control, 8):
        count, length = struct.unpack("=II", header)
        body = take(control, length)
        if len(body) < length:
            return
        say(control, supervise(control, body, count, options))


def take(fd: int, size: int) -> bytes:
    """``size`` bytes, or fewer at the end of the stream."""
    got = bytearray()
    while len(got) < size and (part := os.read(fd, min(size - len(got), 1 << 20))):
        got += part
    return bytes(got)


def say(fd: int, message: bytes) -> None:
    rest = memoryview(struct.pack("=I", len(message)) + message)
    while rest:
        rest = rest[os.write(fd, rest):]


# ---------------------------------------------------------------- locking in


def lock_in(options: dict[str, Any]) -> dict[str, Any]:
    """Import, empty the environment, apply the locks of the level asked for, and try them.

    Raises:
        OSError: a lock is not to be had, or does not hold.
    """
    load(PRELOAD)
    sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "r+", encoding="utf-8")  # noqa: SIM115
    os.environ.clear()
    options["work"] = child.prepared(options)
    options["memory"] = address_space() + options["memory_mb"] * (1 << 20)
    state: dict[str, Any] = {"landlock": 0, "seccomp": False}
    options["filter"] = None
    strongest = options["level"] == "landlock+seccomp"
    if strongest:
        jail.no_new_privileges()
        state["landlock"] = jail.landlock(*standard_library())
    if sys.platform == "linux":
        jail.drop_capabilities()  # the filter refuses that
        jail.hide_from_debuggers()
    try:
        jail.no_new_privileges()
        jail.filter_calls(jail.compiled(jail.SERVER))
        options["filter"], state["seccomp"] = jail.compiled(jail.VERIFIER), True
    except (OSError, AttributeError):  # not Linux, or no seccomp
        if strongest:
            raise
    jail.limit_files()
    options["lock"], options["allow_cpu"] = jail.child_lock(options["memory"], options["filter"])
    gc_freeze()
    if strongest and (hole := first_hole(options)):
        raise OSError(f"the kernel accepted the locks, yet {hole} worked")
    return state


def load(modules: str) -> None:
    for name in modules.split():
        try:
            importlib.import_module(name)
        except ImportError:  # a Python built without it
            continue


def gc_freeze() -> None:
    """What is alive now is shared with every child; a collection there would copy it page by page."""
    import gc

    gc.collect()
    gc.freeze()


def address_space() -> int:
    """Bytes this process has mapped: ``memory_mb`` is counted from here."""
    try:
        with open("/proc/self/statm", "rb") as f:
            return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def standard_library() -> tuple[list[str], list[str]]:
    """Paths that may be read, and folders that may be listed: the standard library and what it links to."""
    readable, folders = [], [p for p in sys.path if os.path.isdir(p)]
    for folder in folders:
        readable += [os.path.join(folder, name) for name in sorted(os.listdir(folder))
                     if name not in ("site-packages", "dist-packages")]
    readable += [p for p in child.ZONES if os.path.isdir(p)] + [p for p in sys.path if os.path.isfile(p)]
    return readable + shared_libraries(), folders


def shared_libraries() -> list[str]:
    """Files that importing ``LATE`` maps into memory, found out in a child so that this process stays small."""
    def answer() -> bytes:
        load(LATE)
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as f:
            return "\0".join(sorted({line.split(None, 5)[-1].strip() for line in f if ".so" in line})).encode(
                "utf-8", "surrogateescape")
    return [p for p in os.fsdecode(in_child(answer)).split("\0") if os.path.isfile(p)]


def in_child(answer: Callable[[], bytes]) -> bytes:
    """What ``answer`` returns in a forked child; empty if it fails there."""
    r, w = os.pipe()
    if not (pid := os.fork()):
        try:
            os.write(w, answer())
        finally:
            os._exit(0)
    os.close(w)
    found = take(r, 1 << 16)
    os.close(r)
    os.waitpid(pid, 0)
    return found


def first_hole(options: dict[str, Any]) -> str:
    """What a jailed child can do that it must not; empty if the locks hold."""
    attempts: dict[str, Callable[[], Any]] = {
        "listing the root folder": lambda: os.listdir("/"), "a fork": os.fork,
        "a socket": lambda: importlib.import_module("_socket").socket(),
        "reading /proc/self/environ": lambda: os.open("/proc/self/environ", os.O_RDONLY)}

    options["allow_cpu"](2)

    def answer() -> bytes:
        options["lock"]()
        for name, attempt in attempts.items():
            try:
                attempt()
                return name.encode()
            except OSError:
                continue
        return b"nothing"

    found = in_child(answer).decode()
    return "" if found == "nothing" else found or "a self-test that crashed"


# ---------------------------------------------------------------- the server's side of one function


def supervise(control: int, body: bytes, count: int, options: dict[str, Any]) -> bytes:
    """Fork, collect ``count + 2`` answers (compiled, loaded, each input) within the limits, make sure it is dead."""
    r, w = os.pipe()
    nonce = os.urandom(16)
    options["allow_cpu"](int(min(options["cpu_seconds"] * (count + 2), options["total_seconds"])) + 2)
    pid = os.fork()
    if not pid:
        try:
            os.close(r)
            os.close(control)
            options["work"](w, nonce, body)
        finally:
            os._exit(0)
    os.close(w)
    answers, end = collect(r, control, pid, nonce, count, options)
    os.kill(pid, KILL)
    _, status = os.waitpid(pid, 0)
    os.close(r)
    if end == "died":
        code = os.waitstatus_to_exitcode(status)
        end = f"exit {code}" if code >= 0 else f"signal {-code}"
    return end.encode() + b"\n" + answers


def collect(r: int, control: int, pid: int, nonce: bytes, count: int, options: dict[str, Any]) -> tuple[bytes, str]:
    """The answers as they came, and why there are no more: done, cpu, wall, total, forged, died.

    The CPU and wall clocks restart with every answer, and are read from outside the child.
    """
    step = began = monotonic()
    step_cpu = 0.0
    wait: float = options["cpu_seconds"]
    known = at = 0
    buffer = bytearray()
    poller = select.poll()
    poller.register(control, 0)  # a parent that is gone reports itself as hung up
    poller.register(r, 0)  # and so does a child that is gone; most are, by then
    poller.poll(QUIET_MS)
    poller.register(r, select.POLLIN)
    while True:
        ready = dict(poller.poll(max(1, wait * 1000 + 1)))
        if control in ready:
            os.kill(pid, KILL)
            os._exit(1)
        before = known
        if ready:
            part = os.read(r, 1 << 16)
            if not part:
                return bytes(buffer[:at]), "died"
            buffer += part
            known, at = whole(buffer, nonce, known, at, options["reply_bytes"])
            if not 0 <= known <= count + 2 or len(buffer) > MAX_REPLIES:
                return b"", "forged"
            if known == count + 2:
                return bytes(buffer[:at]), "done"
        now, cpu = monotonic(), cpu_time(pid)
        if known > before:
            step, step_cpu = now, cpu
        for used, limit in ((cpu - step_cpu, "cpu"), (now - step, "wall"), (now - began, "total")):
            if used >= options[f"{limit}_seconds"]:
                return bytes(buffer[:at]), limit
        wait = min(options["cpu_seconds"] - cpu + step_cpu, options["wall_seconds"] - now + step,
                   options["total_seconds"] - now + began)


def whole(buffer: bytearray, nonce: bytes, known: int, at: int, cap: int) -> tuple[int, int]:
    """How many answers are there and where the last one ends, if ``known`` end at ``at``; -1 answers if one is not
    what the child's own runner would send."""
    size = child.FRAME.size
    while len(buffer) >= at + size:
        mark, position, length = child.FRAME.unpack_from(buffer, at)
        if mark != nonce or position != known or length > cap:
            return -1, at
        if len(buffer) < at + size + length:
            break
        known, at = known + 1, at + size + length
    return known, at


def cpu_time(pid: int) -> float:
    """CPU seconds of a process, from its own clock (the id is what ``clock_getcpuclockid`` computes)."""
    try:
        return clock_gettime((~pid << 3) | 2)
    except OSError:  # not Linux; RLIMIT_CPU and the wall clock remain
        return 0.0


if __name__ == "__main__":
    main()
