"""Runs in processes of their own that are killed, interrupted and resumed against a fake endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.fake_endpoint import FakeEndpoint

FILES = ("records.jsonl", "dropped.jsonl", "usage.json", "ledger.json", "recipe.yaml")


@contextlib.asynccontextmanager
async def endpoint(delay: float) -> AsyncIterator[tuple[FakeEndpoint, str]]:
    fake = FakeEndpoint(delay=delay)
    url = await fake.start()
    try:
        yield fake, url
    finally:
        await fake.stop()


async def start(repo: Path, url: str, folder: Path, seeds: int, concurrency: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.pipeline.two_stages", url, str(folder), str(seeds), str(concurrency),
        cwd=repo, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENAI_API_KEY": ""})


async def finish(process: asyncio.subprocess.Process) -> str:
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


async def until(condition: Callable[[], bool], process: asyncio.subprocess.Process) -> None:
    while not condition() and process.returncode is None:  # noqa: ASYNC110  the condition is in the server
        await asyncio.sleep(0.002)


def outcome(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def logged(folder: Path) -> int:
    log = folder / "responses.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
async def test_kill_9_loses_nothing_and_asks_again_only_what_was_in_flight(tmp_path, repo, kills):
    seeds, concurrency, rng = 25 * kills, 8, Random(kills)
    async with endpoint(0.01) as (fake, url):
        assert await finish(await start(repo, url, tmp_path / "whole", seeds, concurrency)) == "None"
        distinct = fake.requests
        assert fake.stats()["asked"] == dict.fromkeys(fake.asked, 1)

    folder, in_flight = tmp_path / "killed", 0
    async with endpoint(0.01) as (fake, url):
        for kill in range(kills):
            process = await start(repo, url, folder, seeds, concurrency)
            asked, kept = fake.requests, logged(folder)
            more = rng.randrange(1, 2 * distinct // (3 * kills))
            await until(lambda limit=asked + more: fake.requests >= limit, process)
            await asyncio.sleep(rng.random() * 0.02)
            assert process.returncode is None, "finished before it could be killed: no test"
            process.send_signal(signal.SIGKILL)
            await process.communicate()
            lost = fake.requests - asked - (logged(folder) - kept)
            assert 0 <= lost <= concurrency, f"kill {kill}: {lost} requests were asked and not kept"
            in_flight += lost
            assert not (folder / "ledger.json").exists()
        assert await finish(await start(repo, url, folder, seeds, concurrency)) == "None"
        assert outcome(folder) == outcome(tmp_path / "whole")
        assert len(fake.asked) == distinct
        assert fake.requests == distinct + in_flight
        assert in_flight, "no request was in flight at any kill: no test"

        again = fake.requests
        assert await finish(await start(repo, url, folder, seeds, concurrency)) == "None"
        assert fake.requests == again, "a finished run asked again"
        assert outcome(folder) == outcome(tmp_path / "whole")


async def test_a_torn_last_line_costs_one_request(tmp_path, repo):
    async with endpoint(0) as (fake, url):
        await finish(await start(repo, url, tmp_path / "run", 10, 4))
        before, requests = outcome(tmp_path / "run"), fake.requests
        log = tmp_path / "run" / "responses.jsonl"
        log.write_bytes(log.read_bytes()[:-20])
        await finish(await start(repo, url, tmp_path / "run", 10, 4))
        assert fake.requests == requests + 1
        assert outcome(tmp_path / "run") == before


async def test_ctrl_c_keeps_what_is_in_flight_and_sends_nothing_more(tmp_path, repo):
    async with endpoint(0) as (_, url):
        await finish(await start(repo, url, tmp_path / "whole", 30, 4))
    async with endpoint(0.3) as (fake, url):
        process = await start(repo, url, tmp_path / "run", 30, 4)
        await until(lambda: fake.requests >= 8, process)
        process.send_signal(signal.SIGINT)
        at_signal = fake.requests
        assert await finish(process) == "interrupt"
        # One more batch may have gone out between the count above and the signal's arrival.
        assert fake.requests <= at_signal + 4
        assert logged(tmp_path / "run") == fake.answered.total() == fake.requests < 60
        assert b'"complete": false' in (tmp_path / "run" / "ledger.json").read_bytes()
        fake.delay = 0
        assert await finish(await start(repo, url, tmp_path / "run", 30, 4)) == "None"
        assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
        assert max(fake.asked.values()) == 1


async def test_a_second_ctrl_c_does_not_wait(tmp_path, repo):
    async with endpoint(3600) as (fake, url):
        process = await start(repo, url, tmp_path / "run", 5, 4)
        await until(lambda: fake.requests >= 4, process)
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode != 0
        assert b"KeyboardInterrupt" in err
