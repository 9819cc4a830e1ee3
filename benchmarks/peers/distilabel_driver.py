"""distilabel, with the settings that served it best: one batch, so that it does not wait between batches."""

import json
import sys
import time

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

if __name__ == "__main__":
    url, n, folder, _ = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    rows = [{"instruction": f"Write one sentence about item {i}."} for i in range(n)]
    started = time.perf_counter()
    with Pipeline("orchestrator", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=n)
        respond = TextGeneration(llm=OpenAILLM(model="fake", base_url=url, api_key="none"), input_batch_size=n)
        load >> respond
    made = pipeline.run(use_cache=False)["default"]["train"]
    answered = sum(bool(row["generation"]) for row in made)
    print(json.dumps({"answered": answered, "seconds": time.perf_counter() - started}))
