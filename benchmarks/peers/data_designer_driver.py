"""NeMo Data Designer, with the settings that served it best: all rows in one group, as many requests as are allowed."""

import json
import os
import sys
import time

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner

if __name__ == "__main__":
    url, n, folder, concurrency = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    os.environ["FAKE_KEY"] = "none"
    rows = pd.DataFrame({"instruction": [f"Write one sentence about item {i}." for i in range(n)]})
    started = time.perf_counter()
    designer = DataDesigner(artifact_path=folder, model_providers=[
        dd.ModelProvider(name="fake", endpoint=url, api_key="FAKE_KEY")])
    designer.set_run_config(dd.RunConfig(buffer_size=n, disable_early_shutdown=True))
    config = dd.DataDesignerConfigBuilder(model_configs=[dd.ModelConfig(
        alias="fake", model="fake", provider="fake", skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(max_parallel_requests=concurrency, timeout=60))])
    config.with_seed_dataset(dd.DataFrameSeedSource(df=rows))
    config.add_column(dd.LLMTextColumnConfig(name="answer", model_alias="fake", prompt="{{ instruction }}"))
    made = designer.create(config, num_records=n).load_dataset()
    answered = sum(bool(answer) for answer in made["answer"])
    print(json.dumps({"answered": answered, "seconds": time.perf_counter() - started}))
