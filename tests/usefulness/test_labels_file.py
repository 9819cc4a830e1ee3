"""The labelled answers that the usefulness gate is calibrated on are what docs/usefulness.md says they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from if_factory.constraints.base import get

ROOT = Path(__file__).resolve().parents[2]
LABELS = ROOT / "if_factory" / "data" / "usefulness_labels.jsonl"
SHIPPED = Path(__file__).with_name("shipped_0_1.jsonl")
FIELDS = {"id", "prompt", "request", "constraints", "response", "finish_reason", "model", "answers", "reason",
          "split"}
MODELS = {"SmolLM2-135M-Instruct", "Qwen2.5-Coder-1.5B-Instruct", "swapped", "written"}
REASONS = {"refusal", "echoes_request", "echoes_constraint", "only_required_text", "offers_help_instead",
           "off_topic", "asks_back", "placeholder_text", "repeats_itself", "control_tokens", "reasoning_left_in",
           "wrong_language", "cut"}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.fixture(scope="module")
def labels() -> list[dict[str, Any]]:
    return read(LABELS)


@pytest.fixture(scope="module")
def shipped() -> list[dict[str, Any]]:
    return read(SHIPPED)


def test_every_row_has_the_fields_and_known_values(labels: list[dict[str, Any]]) -> None:
    for row in labels:
        assert set(row) == FIELDS, row["id"]
        assert all(isinstance(row[k], str) and row[k].strip() for k in ("id", "prompt", "request", "response"))
        assert row["model"] in MODELS
        assert row["finish_reason"] in ("stop", "length")
        assert row["split"] in ("calibration", "held_out")
        assert isinstance(row["answers"], bool)
        # A reason belongs to a refused row and to no other.
        assert (row["reason"] is None) if row["answers"] else (row["reason"] in REASONS), row["id"]


def test_ids_and_answers_are_unique(labels: list[dict[str, Any]]) -> None:
    assert len({row["id"] for row in labels}) == len(labels)
    assert len({(row["request"], row["response"]) for row in labels}) == len(labels)


def test_there_are_enough_rows_of_either_label(labels: list[dict[str, Any]]) -> None:
    """460 in all and 150 held out, of which 35 to 60 % attempt the request, in both parts."""
    held_out = [row for row in labels if row["split"] == "held_out"]
    assert len(labels) >= 460
    assert len(held_out) >= 150
    for part in (held_out, [row for row in labels if row["split"] == "calibration"]):
        assert 0.35 <= sum(row["answers"] for row in part) / len(part) <= 0.60


def test_both_parts_are_made_up_alike(labels: list[dict[str, Any]]) -> None:
    """Every source has between a quarter and a half of its rows in the held-out part."""
    rows = Counter(row["model"] for row in labels)
    held_out = Counter(row["model"] for row in labels if row["split"] == "held_out")
    assert set(rows) == MODELS
    assert all(0.25 <= held_out[model] / rows[model] <= 0.50 for model in MODELS)


def test_every_reason_occurs(labels: list[dict[str, Any]]) -> None:
    assert {row["reason"] for row in labels} == {*REASONS, None}


def test_no_request_is_in_both_parts(labels: list[dict[str, Any]]) -> None:
    parts: dict[str, set[str]] = {}
    for row in labels:
        parts.setdefault(row["request"], set()).add(row["split"])
    assert all(len(found) == 1 for found in parts.values())


def test_the_held_out_part_was_drawn_not_chosen(labels: list[dict[str, Any]]) -> None:
    """It is 36 % of the seeds, drawn by number before any answer existed; other requests are drawn one by one."""
    seeds = read(ROOT / "if_factory" / "data" / "seeds.jsonl")
    prompts = {seed["id"]: seed["prompt"] for seed in seeds}
    order = list(prompts)
    Random(20261129).shuffle(order)
    drawn = {prompts[i] for i in order[: round(0.36 * len(order))]}
    for row in labels:
        if row["request"] in prompts.values():
            expected = row["request"] in drawn
        else:
            expected = Random(f"20261129 {row['request']}").random() < 0.36
        assert (row["split"] == "held_out") == expected, row["id"]


def test_constraints_are_known_and_stand_in_the_prompt(labels: list[dict[str, Any]],
                                                       shipped: list[dict[str, Any]]) -> None:
    for row in (*labels, *shipped):
        assert row["request"] in row["prompt"]
        for constraint in row["constraints"]:
            assert set(constraint) == {"type", "kwargs", "text"}
            get(constraint["type"])  # an unknown type raises
            assert " ".join(constraint["text"].split())[1:] in " ".join(row["prompt"].split()), row["id"]


def test_no_shipped_row_is_among_the_labels(labels: list[dict[str, Any]], shipped: list[dict[str, Any]]) -> None:
    """The rows shipped in 0.1 are a test of the gate, so it must not have seen them."""
    known = {(row["request"], row["response"].strip()) for row in shipped}
    assert not [row["id"] for row in labels if (row["request"], row["response"].strip()) in known]


def test_the_shipped_rows_are_the_79_and_the_46(shipped: list[dict[str, Any]]) -> None:
    assert Counter(row["id"][:3] for row in shipped) == {"sft": 79, "dpo": 46}
    for row in shipped:
        assert set(row) == {"id", "request", "prompt", "constraints", "response", "answers", "note"}
        assert isinstance(row["answers"], bool)
    # The same answer to the same prompt has one label.
    found: dict[tuple[str, str], set[bool]] = {}
    for row in shipped:
        found.setdefault((row["prompt"], row["response"]), set()).add(row["answers"])
    assert all(len(answers) == 1 for answers in found.values())
