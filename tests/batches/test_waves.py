"""What a wave holds: everything whose answers are there to be asked with, and nothing held back by something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from if_factory.batches.backend import BatchBackend
from if_factory.batches.client import BatchClient, Spending
from if_factory.batches.folder import BatchFolder
from if_factory.batches.wave import Wave
from if_factory.chat.base import ChatRequest, Completion
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.log import ResponseLog
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Context, Dropped, Stage
from if_factory.records import Record

URL = "http://127.0.0.1:9/v1"


async def waves(tmp_path: Path, stages: list[Stage], seeds: list[Record],
                answer: Callable[[str], str]) -> tuple[list[list[str]], RunResult]:
    """The prompts of each wave, sorted, and the finished run. ``answer`` makes a prompt's answer."""
    found: list[list[str]] = []
    while True:
        log, asked = ResponseLog(tmp_path / "responses.jsonl"), dict[str, tuple[str, ChatRequest, str]]()

        class Noted(Wave):
            def add(self, key: str, request: ChatRequest, stage: str, *given: Any) -> None:
                super().add(key, request, stage, *given)
                asked[key] = (request.messages[0]["content"], request, stage)  # noqa: B023

        with BatchFolder(tmp_path / str(len(found))) as folder, Noted(folder) as wave:
            client = BatchClient("model", BatchBackend(URL, "m"), URL, wave, Spending(Budget(), log, 0, {}), log=log,
                                 budget=Budget(), usage=Usage())
            result = await run(stages, seeds, {"model": client}, seed=0)
        for key, (prompt, request, stage) in asked.items():
            log.put(key, request, Completion(answer(prompt)), stage)
        log.close()
        if not asked:
            return found, result
        assert not result.complete
        found.append(sorted(prompt for prompt, _, _ in asked.values()))


async def ask(ctx: Context, text: str) -> str:
    return (await ctx.chat("model", [{"role": "user", "content": text}])).text


def seed(name: str) -> Record:
    return Record.from_seed(name)


async def test_what_a_stage_asks_side_by_side_is_in_one_wave_however_deep(tmp_path: Path) -> None:
    async def chain(record: Record, ctx: Context) -> Record:
        async def two(name: str) -> str:
            return await ask(ctx, name + await ask(ctx, name))

        async def slow(name: str) -> str:
            await asyncio.to_thread(lambda: None)
            await asyncio.sleep(0.01)
            return await two(name)

        said = await asyncio.gather(two("a"), asyncio.gather(two("b"), slow("c")), slow("d"))
        return record.with_extra(said=str(said))

    found, result = await waves(tmp_path, [Stage("chain", chain)], [seed("x")], str.upper)
    assert found == [["a", "b", "c", "d"], ["aA", "bB", "cC", "dD"]]
    assert result.complete
    assert result.records[0].extra["said"] == "['AA', ['BB', 'CC'], 'DD']"


async def test_a_record_does_not_wait_for_others(tmp_path: Path) -> None:
    async def steps(record: Record, ctx: Context) -> Record:
        for i in range(int(record.seed_prompt)):
            await ask(ctx, f"{record.seed_prompt}.{i}")
        return record

    async def last(record: Record, ctx: Context) -> Record:
        await ask(ctx, f"{record.seed_prompt} last")
        return record

    found, result = await waves(tmp_path, [Stage("steps", steps), Stage("last", last)], [seed("1"), seed("2")], str)
    assert found == [["1.0", "2.0"], ["1 last", "2.1"], ["2 last"]]
    assert len(result.records) == 2


@pytest.mark.parametrize(("scope", "expected"), [
    ("all", [["1.0", "2.0"], ["2.1"], ["1 last", "2 last"]]),
    ("per_seed", [["1.0", "2.0"], ["1 last", "2.1"], ["2 last"]])])
async def test_a_stage_for_several_records_waits_for_those_and_for_no_others(
        tmp_path: Path, scope: Any, expected: list[list[str]]) -> None:
    seen: list[list[str]] = []

    async def steps(record: Record, ctx: Context) -> Record:
        for i in range(int(record.seed_prompt)):
            await ask(ctx, f"{record.seed_prompt}.{i}")
        return record

    async def together(records: list[Record], ctx: Context) -> tuple[list[Record], list[tuple[Record, Dropped]]]:
        seen.append([record.seed_prompt for record in records])
        return records, []

    async def last(record: Record, ctx: Context) -> Record:
        await ask(ctx, f"{record.seed_prompt} last")
        return record

    stages = [Stage("steps", steps), Stage("together", together, scope), Stage("last", last)]
    found, result = await waves(tmp_path, stages, [seed("1"), seed("2")], str)
    assert found == expected
    assert result.complete
    assert all(group == ["1", "2"] for group in seen) if scope == "all" else seen[-2:] == [["1"], ["2"]]


async def test_a_stage_for_several_records_may_ask_too(tmp_path: Path) -> None:
    async def together(records: list[Record], ctx: Context) -> tuple[list[Record], list[tuple[Record, Dropped]]]:
        said = await asyncio.gather(*(ask(ctx, record.seed_prompt) for record in records))
        return [record.with_extra(said=text) for record, text in zip(records, said, strict=True)], []

    found, result = await waves(tmp_path, [Stage("together", together, "all")], [seed("1"), seed("2")], lambda p: p * 2)
    assert found == [["1", "2"]]
    assert [record.extra["said"] for record in result.records] == ["11", "22"]
    assert result.ledger["together"].advanced == 2
