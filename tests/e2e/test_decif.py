"""DecIF with the embedded model, from the command line: it is weak, so an honest account is what counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from if_factory.constraints.verify import verify
from if_factory.records import Constraint

ROOT = Path(__file__).parents[2]
RECIPE = {
    "method": "decif",
    "models": {"teacher": {"endpoint": "embedded", "concurrency": 4, "max_tokens": 160}},
    "options": {"instructions": 12, "requests_per_domain": 3, "scenarios_per_request": 2, "responses": 3,
                "max_criteria": 2, "constraint_weights": [1], "soft_share": 0.0, "tries": 2,
                "include": ["punctuation", "digits", "markdown", "style", "length_constraints:number_words"]}}
pytestmark = pytest.mark.e2e


def if_factory(folder, *arguments):
    done = subprocess.run([sys.executable, "-m", "if_factory", *map(str, arguments)], cwd=folder, text=True,
                          capture_output=True, timeout=900, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_record_is_accounted_for_and_what_is_emitted_holds(tmp_path):
    pytest.importorskip("xllamacpp", reason="needs the extra embedded")
    (tmp_path / "decif.yaml").write_text(yaml.safe_dump(RECIPE))
    print(if_factory(tmp_path, "run", "decif.yaml", "-o", "run"))
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    records, rejects = read(tmp_path / "run" / "records.jsonl"), read(tmp_path / "run" / "rejects.jsonl")
    assert ledger["complete"] is True
    assert len(records) + len(rejects) == 12
    assert all(r["reason"] for r in rejects)
    reached = {r["stage"] for r in rejects} | ({"judge"} if records else set())
    assert reached & {"instruction", "consistency", "criteria", "judge"}, "not one scenario could be read"
    for record in records:
        assert record["extra"]["task"] in record["prompt"]
    if sum(kind["rows"] for kind in ledger["emission"].values()):
        (tmp_path / "data").mkdir()
        if_factory(tmp_path, "export", "run", "--into", "data")
        if_factory(tmp_path, "check", "data")
        for path in (tmp_path / "data").glob("decif_sft.jsonl"):
            for row, note in zip(read(path), read(path.with_suffix(".provenance.jsonl")), strict=True):
                checkable = [c for c in map(Constraint.model_validate, note["constraints"]) if c.kind == "code"]
                assert all(v.passed for v in verify(row["output"], checkable))
