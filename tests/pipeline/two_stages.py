"""A small real run to be killed: HTTP, response log, run folder, two stages of requests, a split and dropped.

    python -m tests.pipeline.two_stages URL FOLDER SEEDS CONCURRENCY
"""

from __future__ import annotations

import asyncio
import sys

from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.http import OpenAIBackend
from if_factory.pipeline.rundir import RunDir
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Context, Dropped, Stage
from if_factory.records import Candidate, Record


async def draft(record: Record, ctx: Context) -> list[Record]:
    answers = await asyncio.gather(*(ctx.chat("student", record.messages(), sample=i) for i in range(2)))
    if answers[0].text.startswith("river"):
        raise Dropped("starts_with_river", answers[0].text)
    return [record.child(f"{record.prompt}: {a.text}", [], i) for i, a in enumerate(answers)]


async def answer(record: Record, ctx: Context) -> Record:
    got = await ctx.chat("student", record.messages())
    if got.text.endswith("salt"):
        raise Dropped("ends_in_salt")
    return record.with_candidates(Candidate(text=got.text, source="vanilla"))


async def main(url: str, folder: str, seeds: int, concurrency: int) -> None:
    backend, usage = OpenAIBackend(url, "fake", concurrency=concurrency), Usage()
    with RunDir(folder) as run_folder:
        run_folder.claim({"method": "two_stages", "seed": 3})
        model = ChatClient("student", backend, log=run_folder.log, budget=Budget(), usage=usage,
                      concurrency=concurrency)
        result = await run([Stage("draft", draft), Stage("answer", answer)],
                           [Record.from_seed(f"seed {i}") for i in range(seeds)], {"student": model}, seed=3)
        await model.close()
        run_folder.write(result, usage)
    print(result.stopped_by)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
