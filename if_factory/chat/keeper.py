"""Runs a command until it ends, or until standard input closes: then the whole process group is ended.

A server that we start cannot outlive us: we hold the other end of the pipe, so it closes however we die, ``kill -9``
included. Started as a script of its own (``python -I keeper.py COMMAND...``) in a new session; the standard library
is all it needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

_GRACE = 10.0  # seconds between asking the group to end and killing it


def main(command: list[str]) -> int:
    """Exit status of the command; 128 + n if signal n ended it."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # for the group: we stay to say how the command ended
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    orphaned = threading.Event()
    threading.Thread(target=_end_with_parent, args=(orphaned,), daemon=True).start()
    status = child.wait()
    os.killpg(0, signal.SIGTERM)  # what the command started itself
    if orphaned.is_set():
        time.sleep(1)
        os.killpg(0, signal.SIGKILL)
    return 128 - status if status < 0 else status


def _end_with_parent(orphaned: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    orphaned.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(_GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
