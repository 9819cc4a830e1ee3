"""One fork server of the sandbox: its process, the socket to it, and the limits it sets for every function."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from if_factory.errors import UserError
from if_factory.sandbox import probe
from if_factory.sandbox.probe import HERE, Isolation

_START_SECONDS = 60.0
FRAME = struct.Struct("=16sII")  # as in child.py: nonce, position, length


@dataclass(frozen=True, slots=True)
class Limits:
    """What one function may use. Seconds of CPU and of wall clock are per step: loading it, or one input.

    ``total_seconds``: wall clock for a function over all its inputs. ``memory_mb``: address space beyond the
    interpreter's own. ``reply_bytes``: one answer, as JSON. Writing files, processes, threads and sockets are
    not limited but refused.
    """

    cpu_seconds: float = 2.0
    wall_seconds: float = 10.0
    total_seconds: float = 60.0
    memory_mb: int = 256
    reply_bytes: int = 1 << 16


class ServerDied(Exception):
    """The fork server is gone or does not answer."""


class Server:
    """A fork server process and the socket to it. Not for two threads at once."""

    def __init__(self, isolation: Isolation, limits: Limits, run: int) -> None:
        options = {"level": isolation.level, "run": run, **asdict(limits)}
        ours, theirs = socket.socketpair()
        prefix = probe.bwrap() if isolation.level == "bwrap" else []
        with theirs:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-P", "-s", "-S", "-B", str(HERE / "zygote.py"), str(theirs.fileno()),
                 json.dumps(options)],
                pass_fds=[theirs.fileno()], env=probe.environment(run), cwd="/", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self._socket = ours
        try:
            self.state = json.loads(self._receive(_START_SECONDS))
        except ServerDied:
            self.close()
            raise UserError("the sandbox's fork server did not start", where="sandbox",
                            fix=f"try `{sys.executable} -P -s -S -c 1`; see docs/sandbox.md") from None
        if "error" in self.state:
            self.close()
            raise UserError(f"the sandbox could not lock itself in: {self.state['error']}", where="sandbox",
                            fix=probe.remedy())

    def ask(self, body: bytes, count: int, seconds: float) -> tuple[str, list[bytes]]:
        """How the child ended, and its answers.

        Raises:
            ServerDied: no answer within ``seconds``.
        """
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(struct.pack("=II", count, len(body)) + body)
        except OSError as e:
            raise ServerDied(str(e)) from e
        end, _, stream = self._receive(seconds).partition(b"\n")
        answers, at = [], 0
        while at < len(stream):
            start = at + FRAME.size
            _, _, length = FRAME.unpack_from(stream, at)
            at = start + length
            answers.append(stream[start:at])
        return end.decode(), answers

    def _receive(self, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        (size,) = struct.unpack("=I", self._exactly(4, deadline))
        return self._exactly(size, deadline)

    def _exactly(self, size: int, deadline: float) -> bytes:
        got = bytearray()
        while len(got) < size:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(min(size - len(got), 1 << 20))
            except OSError as e:
                raise ServerDied(str(e)) from e
            if not part:
                raise ServerDied("closed")
            got += part
        return bytes(got)

    def close(self) -> None:
        """A child of the server dies with it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
        self._socket.close()
        self.process.kill()
        self.process.wait()
