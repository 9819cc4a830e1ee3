"""Scripted stages and models for runner tests: no server, no clock, every choice a function of the content."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from if_factory.chat.base import ChatRequest, Completion, RequestFailed
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Context, Dropped, Stage, Together
from if_factory.records import Candidate, Record, content_id


def number(*parts: object) -> int:
    """A number that depends on the parts alone."""
    return int(content_id(parts), 16)


class ScriptedEndpoint:
    """Answers after a few turns of the event loop, in an order that ``latency`` shuffles."""

    model = "scripted"

    def __init__(self, latency: int = 0, answer: Callable[[ChatRequest], str] | None = None) -> None:
        self.turns = Random(latency)
        self.answer = answer or (lambda request: f"answer {number(request.key()) % 1000}")
        self.started = 0
        self.answered = 0

    async def chat(self, request: ChatRequest) -> Completion:
        self.started += 1
        for _ in range(self.turns.randrange(8)):
            await asyncio.sleep(0)
        text = self.answer(request)
        self.answered += 1
        return Completion(text, prompt_tokens=5, completion_tokens=2)

    async def close(self) -> None:
        pass


def model(endpoint: Any, *, log: ResponseLog | None = None, budget: Budget | None = None,
          usage: Usage | None = None, concurrency: int = 8) -> ChatClient:
    return ChatClient("student", endpoint, log=log, budget=budget or Budget(), usage=usage or Usage(),
                 concurrency=concurrency)


# ------------------------------------------------------------------ stages


async def ask(record: Record, ctx: Context) -> Record:
    answer = await ctx.chat("student", record.messages())
    return record.with_candidates(Candidate(text=answer.text, source="vanilla"))


def split(n: int) -> Stage:
    async def run_split(record: Record, ctx: Context) -> list[Record]:
        rng = ctx.rng(record.id, "split")
        return [record.child(f"{record.prompt} / {i} {rng.random():.6f}", [], i) for i in range(n)]

    return Stage(f"split{n}", run_split)


def some(modulus: int, error: Callable[[], Exception] | None) -> Stage:
    """About one record in ``modulus`` ends here: with ``error``, or by coming to nothing."""
    async def run_some(record: Record, ctx: Context) -> Record | list[Record]:
        if number(record.id, modulus) % modulus:
            return record
        if error is None:
            return []
        raise error()

    return Stage(f"some{modulus}", run_some)


async def ask_three(record: Record, ctx: Context) -> list[Record]:
    answers = await asyncio.gather(*(ctx.chat("student", record.messages(), sample=i) for i in range(3)))
    children = [record.child(f"{record.prompt} [{a.text}]", [], 1) for a in answers if number(a.text) % 4]
    return list({c.id: c for c in children}.values())


async def every_other(records: Sequence[Record], ctx: Context) -> Together:
    records = list(records)
    ctx.rng("order").shuffle(records)
    return records[::2], [(r, Dropped("odd", r.prompt)) for r in records[1::2]]


KINDS: dict[str, Callable[[], Stage]] = {
    "split2": lambda: split(2),
    "split3": lambda: split(3),
    "ask": lambda: Stage("ask", ask),
    "ask_three": lambda: Stage("ask_three", ask_three),
    "dropped": lambda: some(3, lambda: Dropped("too_short", "detail")),
    "loses_requests": lambda: some(4, lambda: RequestFailed("context_too_long")),
    "drops": lambda: some(5, None),
    "every_other": lambda: Stage("every_other", every_other, "all"),
    "every_other_of_a_family": lambda: Stage("every_other_of_a_family", every_other, "per_seed"),
}


def stages(kinds: Sequence[str]) -> list[Stage]:
    """Stages of these kinds, renamed so that a kind may come twice."""
    made = [KINDS[kind]() for kind in kinds]
    return [Stage(f"{i}_{stage.name}", stage.run, stage.scope) for i, stage in enumerate(made)]


def seeds(n: int) -> list[Record]:
    return [Record.from_seed(f"seed {i}") for i in range(n)]


def run_scripted(kinds: Sequence[str], n: int, *, latency: int = 0, window: int = 5, log: Path | None = None,
                 budget: Budget | None = None) -> tuple[RunResult, ScriptedEndpoint, Usage]:
    endpoint, usage = ScriptedEndpoint(latency), Usage()

    async def main() -> RunResult:
        opened = ResponseLog(log) if log else None
        try:
            models = {"student": model(endpoint, log=opened, budget=budget, usage=usage, concurrency=3)}
            return await run(stages(kinds), seeds(n), models, seed=7, window=window)
        finally:
            if opened is not None:
                opened.close()

    return asyncio.run(main()), endpoint, usage
