#!/usr/bin/env bash
# datasets: whether a .jsonl file loads depends on its size and on the order of its rows.
#
# A good guess: a column that is [] or null in most rows and filled in one has the type of the filled one, wherever it stands.
# What happens: .jsonl is read in pieces of 10 MB and the first piece fixes the types. A column that is [] (or null) in all of
#   it can hold nothing later: an error at the first filled row. The same rows load with the filled one on top, without the
#   first third (one piece), with one JSON list in place of lines, or with features= given. A chat set sorted by difficulty
#   (single turns with `history: []` first) is just such a file, and passes every test on a sample of it.
# Versions: datasets 5.2.0 (4.0.0, the latest that LLaMA-Factory 0.9.5 takes, does the same). Seen 2026-11-29.
# Source: packaged_modules/json/json.py, JsonConfig.chunksize and the read_json loop.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q datasets==5.2.0
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 TMP_DATA="$tmp"

"$tmp/venv/bin/python" - <<'EOF'
import json
import os
from pathlib import Path

from datasets import Features, List, Value, load_dataset

folder = Path(os.environ["TMP_DATA"])
plain = [{"instruction": f"Question {i}", "output": "x" * 4000, "history": []} for i in range(3000)]
rows = [*plain, {**plain[0], "history": [["How are you?", "Well."]]}]  # 12 MB, only the last row has a history


def load(name, text, **options):
    path = folder / name
    path.write_text(text)
    try:
        return f"{len(load_dataset('json', data_files=str(path), split='train', **options))} rows"
    except Exception as error:
        return f"{type(error).__name__}: {error.__cause__}"


def lines(some):
    return "".join(json.dumps(row) + "\n" for row in some)


types = Features({"instruction": Value("string"), "output": Value("string"), "history": List(List(Value("string")))})
cast = "DatasetGenerationError: Couldn't cast array of type "
nulls = [{**row, "history": None} for row in plain]
seen = {
    "filled row last": (load("last.jsonl", lines(rows)), cast + "list<item: string> to null"),
    "filled row first": (load("first.jsonl", lines([rows[-1], *plain])), "3001 rows"),
    "last, under 10 MB": (load("short.jsonl", lines(rows[1000:])), "2001 rows"),
    "last, as a JSON list": (load("list.json", json.dumps(rows)), "3001 rows"),
    "last, with features=": (load("typed.jsonl", lines(rows), features=types), "3001 rows"),
    "null, then a text": (load("null.jsonl", lines([*nulls, {**rows[0], "history": "x"}])), cast + "string to null"),
}
for name, (got, expected) in seen.items():
    print(f"{name:22} {got}")
    if got != expected:
        raise SystemExit(f"CHANGED: {name} gave {expected!r} when this was written")
EOF
