"""Throughput of the embedded server: the registry's Q4_1 file beside our Q8_0 copy, in one run.

    python benchmarks/serving.py --parallel 1 8 32

Needs the embedded extra and a quiet machine. The two are measured in turn, ``--repeat`` times; the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path

from if_factory.chat.base import ChatRequest
from if_factory.chat.embedded import EmbeddedServer
from if_factory.chat.http import OpenAIBackend
from if_factory.embedded_model.fetch import fetch_embedded
from if_factory.embedded_model.requantize import embedded_for_serving


async def tokens_per_second(gguf: Path, parallel: int, tokens: int) -> float:
    async with EmbeddedServer(gguf, parallel=parallel) as server:
        backend = OpenAIBackend(server.base_url, server.model_name, concurrency=parallel)

        async def one(i: int) -> int:
            text = f"Write a long story about the rain and the river number {i}. Tell it slowly."
            message = {"role": "user", "content": text}
            request = ChatRequest(server.model_name, (message,), max_tokens=tokens, seed=i)
            return (await backend.chat(request)).completion_tokens

        await one(-1)  # loads what is loaded late
        start = time.perf_counter()
        made = sum(await asyncio.gather(*map(one, range(2 * parallel))))
        seconds = time.perf_counter() - start
        await backend.close()
    return made / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    print("parallel  Q4_1 tok/s  Q8_0 tok/s  ratio")
    for parallel in given.parallel:
        runs = [[asyncio.run(tokens_per_second(gguf, parallel, given.tokens))
                 for gguf in (fetch_embedded(), embedded_for_serving())] for _ in range(given.repeat)]
        q4, q8 = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{parallel:8}  {q4:10.1f}  {q8:10.1f}  {q8 / q4:5.2f}", flush=True)


if __name__ == "__main__":
    main()
