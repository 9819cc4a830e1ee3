"""`if-factory run` as a process of its own that a test can watch and kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import psutil

from tests.support.fake_endpoint import FakeEndpoint

# Seeds of the large runs: enough to be killed in the middle of. IF_FACTORY_SEEDS=5000 is a longer look.
LARGE = int(os.environ.get("IF_FACTORY_SEEDS", "300"))


REPO = Path(__file__).parents[2]


async def start(recipe: Path, out: Path, code: Path = REPO, more: Sequence[str] = ()) -> asyncio.subprocess.Process:
    """``code`` is the checkout whose package runs, ``more`` further words of the command."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "if_factory", "run", str(recipe), "-o", str(out), *more, cwd=code,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENAI_API_KEY": "",
             "PYTHONPATH": os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])})


async def finish(process: asyncio.subprocess.Process) -> int:
    """Wait for it to end well; returns the largest resident set seen, in bytes."""
    peak, done = 0, asyncio.create_task(process.communicate())
    while not done.done():
        try:
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        except psutil.Error:
            break
        await asyncio.wait([done], timeout=0.1)
    _, err = await done
    assert process.returncode == 0, err.decode()
    return peak


OUTCOME = ("records.jsonl", "dropped.jsonl", "ledger.json", "usage.json")


async def survives_kill_9(recipe: Path, folder: Path, server: FakeEndpoint, concurrency: int, *, kills: int = 3,
                          megabytes: float) -> dict[str, Any]:
    """Run the recipe whole, then again killed ``kills`` times: the outcome is the same bytes, and only what was in
    flight was asked twice. Prints figures and returns the ledger."""
    began = time.monotonic()
    peak = await finish(await start(recipe, folder / "whole"))
    seconds, asked = time.monotonic() - began, server.requests
    assert set(server.asked.values()) == {1}, "an answer was paid for twice"
    ledger: dict[str, Any] = json.loads((folder / "whole" / "ledger.json").read_text())
    assert ledger["complete"] is True
    print(f"\n{asked} requests in {seconds:.1f} s ({asked / seconds:.0f}/s), ideal "
          f"{asked * server.delay / concurrency:.1f} s; peak {peak / 2**20:.0f} MiB; {ledger['emission']}")
    assert peak < megabytes * 2**20
    rng = Random(1)
    for _ in range(kills):
        process, at = await start(recipe, folder / "killed"), server.requests
        limit = at + rng.randrange(1, asked // (kills + 1))
        while server.requests < limit and process.returncode is None:  # noqa: ASYNC110 the condition is the server's
            await asyncio.sleep(0.002)
        assert process.returncode is None, "finished before it could be killed: no test"
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    await finish(await start(recipe, folder / "killed"))
    for name in OUTCOME:
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert server.requests <= 2 * asked + kills * concurrency, "more was asked again than was in flight"
    return ledger
