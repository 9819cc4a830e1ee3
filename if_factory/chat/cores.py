"""How many CPU threads a server of ours should take: the cores that other work leaves free.

llama.cpp's threads wait for each other in every layer; with one more thread than free cores all of them wait for
the one that the scheduler has put aside (``docs/servers.md`` has the figures).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_SAMPLE_SECONDS = 0.5


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group."""
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups, or "max"
        pass
    return cores


def busy_cores(seconds: float = _SAMPLE_SECONDS) -> float:
    """How many of the cores in our affinity other work keeps busy now, measured over ``seconds``; where the kernel
    does not say, the load average of the last minute."""
    before = _ticks()
    if not before:
        return os.getloadavg()[0]
    time.sleep(seconds)
    after = _ticks()
    busy = 0.0
    for core, (work, total) in after.items():
        work_before, total_before = before.get(core, (0, 0))
        if total > total_before:
            busy += (work - work_before) / (total - total_before)
    return busy


def free_threads(busy: float | None = None) -> tuple[int, int, float]:
    """``(threads, usable cores, busy cores)``: usable cores less busy ones, and at least one."""
    usable = usable_cores()
    busy = busy_cores() if busy is None else busy
    try:
        seen = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        seen = os.cpu_count() or 1
    return max(1, min(usable, seen - int(busy + 0.5))), usable, busy


def _ticks() -> dict[str, tuple[int, int]]:
    """Core -> (clock ticks at work, all ticks) since the machine started."""
    try:
        ours = {f"cpu{n}" for n in os.sched_getaffinity(0)}
        lines = Path("/proc/stat").read_text().splitlines()
    except (AttributeError, OSError):
        return {}
    found = {}
    for name, *values in (line.split() for line in lines if line.startswith("cpu")):
        if name in ours:
            ticks = [int(v) for v in values[:8]]
            found[name] = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))  # idle and waiting for a disk
    return found
