"""Runs a command until it ends, or until standard input closes: then the whole process group is ended.

A server that we start cannot outlive us: we hold the other end of the pipe, so it closes however we die, ``kill -9``
included. Started as a script of its own (``python -I keeper.py COMMAND...``) in a new session; the standard library
is all it needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

_GRACE = 10.0  # seconds between asking the group to end and killing it


def main(command: list[str]) -> int:
    """Exit status of the command; 128 + n if signal n ended it. The rest of its process group is gone then too."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # for the group: we stay to say how the command ended
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    status = child.wait()
    _end_group()
    return 128 - status if status < 0 else status


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    _end_group()


def _end_group() -> None:
    """Ask all of the group but ourselves to end, and kill what does not: a worker in the middle of a step may not."""
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while _others() and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in _others():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _others() -> list[int]:
    """Processes of our group that run, ourselves left out."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{int(entry)}/stat") as f:
                state, _, group = f.read().rpartition(")")[2].split()[:3]
            if int(group) == os.getpgrp() and int(entry) != os.getpid() and state != "Z":
                found.append(int(entry))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
