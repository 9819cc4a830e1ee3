"""Prints by how many bytes the resident set grew while N records with 10 kB answers went through the runner.

    python -m tests.pipeline.memory N kept|rejected|together
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import psutil

from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Context, Dropped, Stage, Together
from if_factory.records import Record
from tests.pipeline.scripted import ScriptedEndpoint, ask, model


async def reject(record: Record, ctx: Context) -> Record:
    raise Dropped("enough")


async def together(records: Sequence[Record], ctx: Context) -> Together:
    return iter(records), ()


async def main(n: int, end: str) -> int:
    models = {"student": model(ScriptedEndpoint(answer=lambda r: r.messages[0]["content"] * 1000))}
    stages = [Stage("ask", ask), *([Stage("reject", reject)] if end == "rejected" else []),
              *([Stage("together", together, "all")] if end == "together" else [])]
    await run(stages, (Record.from_seed(f"warm-up {i}") for i in range(500)), models, seed=0)
    before = psutil.Process().memory_info().rss
    result = await run(stages, (Record.from_seed(f"seed {i:06}") for i in range(n)), models, seed=0)
    assert len(result.records) == (0 if end == "rejected" else n)
    return psutil.Process().memory_info().rss - before


if __name__ == "__main__":
    print(asyncio.run(main(int(sys.argv[1]), sys.argv[2])))
