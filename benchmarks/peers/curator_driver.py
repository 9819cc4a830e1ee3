"""bespokelabs-curator, with the settings that served it best: its openai backend, limits out of the way."""

import json
import os
import sys
import time

import tiktoken
from bespokelabs import curator


def offline_encoding(name: str) -> tiktoken.Encoding:
    """One token per byte. The real one is downloaded when the backend is made, which fails without internet."""
    return tiktoken.Encoding(name, pat_str=r"\S+|\s+", mergeable_ranks={bytes([i]): i for i in range(256)},
                             special_tokens={})


class Respond(curator.LLM):
    def prompt(self, row):
        return row["instruction"]

    def parse(self, row, response):
        return {**row, "generation": response}


if __name__ == "__main__":
    url, n, folder, concurrency = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    try:
        tiktoken.get_encoding("cl100k_base")
    except Exception:
        tiktoken.get_encoding = offline_encoding
    os.environ["CURATOR_CACHE_DIR"] = folder
    rows = [{"instruction": f"Write one sentence about item {i}."} for i in range(n)]
    started = time.perf_counter()
    llm = Respond(model_name="fake", backend="openai", backend_params={
        "base_url": url, "api_key": "none", "max_concurrent_requests": 4 * concurrency,
        "max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000,
        "require_all_responses": False})
    made = llm(rows).dataset
    answered = sum(bool(row["generation"]) for row in made)
    print(json.dumps({"answered": answered, "seconds": time.perf_counter() - started}))
