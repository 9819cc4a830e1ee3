"""DecIF with the embedded model, from the command line to the training of both stages; all is accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from if_factory.constraints.verify import verify
from if_factory.records import Constraint
from tests.e2e.command import if_factory, read, train_easy_then_hard

RECIPE = {
    "method": "decif",
    "models": {"teacher": {"endpoint": "embedded", "concurrency": 16, "max_tokens": 200}},
    "options": {"instructions": 8, "requests_per_domain": 3, "scenarios_per_request": 2, "responses": 3,
                "max_criteria": 2, "constraint_weights": [1, 1], "soft_share": 0.0, "tries": 3,
                "prompt_variant": "small",
                "include": ["punctuation", "digits", "style", "detectable_content:postscript", "start:phrase",
                            "length_constraints:number_words"]}}
pytestmark = pytest.mark.e2e


def test_every_record_is_accounted_for_and_what_is_emitted_holds_and_trains(
        tmp_path: Path, hf_model: Path) -> None:
    for package in ("llamafactory", "xllamacpp"):
        pytest.importorskip(package, reason=f"needs the extras train and embedded ({package})")
    (tmp_path / "decif.yaml").write_text(yaml.safe_dump(RECIPE))
    print(if_factory(tmp_path, "run", "decif.yaml", "-o", "run"))
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    records, dropped = read(tmp_path / "run" / "records.jsonl"), read(tmp_path / "run" / "dropped.jsonl")
    assert ledger["complete"] is True
    assert len(records) + len(dropped) == RECIPE["options"]["instructions"]
    assert all(r["reason"] for r in dropped)
    stages = {row["stage"]: row for row in ledger["stages"]}
    assert stages["consistency"]["advanced"] > 0.5 * stages["consistency"]["taken"], "a yes-sayer lets them pass"
    for record in records:
        assert record["extra"]["task"] in record["prompt"]

    if_factory(tmp_path, "export", "run", "--into", "data")
    if_factory(tmp_path, "check", "data")
    for name, side in (("sft", "output"), ("dpo", "chosen")):
        if not ledger["emission"][name]["rows"]:
            continue
        path = tmp_path / "data" / f"decif_{name}.jsonl"
        for row, note in zip(read(path), read(path.with_suffix(".provenance.jsonl")), strict=True):
            checkable = [c for c in map(Constraint.model_validate, note["constraints"]) if c.kind == "code"]
            assert all(v.passed for v in verify(row[side], checkable))

    # Where there are not two SFT rows to make stages of, KTO rows are never lacking.
    stage = "sft" if ledger["emission"]["sft"]["rows"] >= 2 else "kto"
    train_easy_then_hard(tmp_path, "decif", stage, hf_model)
