"""if_factory as a run uses it: run folder, response log, ledger, final files."""

import json
import sys
import time

from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.http import OpenAIBackend
from if_factory.pipeline.loop import run_on_loop
from if_factory.pipeline.rundir import RunDir
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Context, Stage
from if_factory.records import Candidate, Record


async def respond(record: Record, ctx: Context) -> Record:
    answer = await ctx.chat("student", record.messages())
    return record.with_candidates(Candidate(text=answer.text, source="vanilla"))


async def main(url: str, prompts: list[str], folder: str, concurrency: int) -> int:
    usage = Usage()
    backend = OpenAIBackend(url, "fake", concurrency=concurrency)
    with RunDir(folder) as run_folder:
        model = ChatClient("student", backend, log=run_folder.log, budget=Budget(), usage=usage,
                      concurrency=concurrency)
        result = await run([Stage("respond", respond)], [Record.from_seed(p) for p in prompts],
                           {"student": model}, seed=0)
        run_folder.write(result, usage)
    await model.close()
    return sum(bool(r.candidates[0].text) for r in result.records)


if __name__ == "__main__":
    url, n, folder, concurrency = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    prompts = [f"Write one sentence about item {i}." for i in range(n)]
    started = time.perf_counter()
    answered = run_on_loop(main(url, prompts, folder, concurrency))
    print(json.dumps({"answered": answered, "seconds": time.perf_counter() - started}))
