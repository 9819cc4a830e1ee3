"""A careful reader's verdicts, written before the checkers were asked, over every type and many scripts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from if_factory.constraints.base import all_types
from if_factory.constraints.verify import verify
from if_factory.inputs.rows import answers_of, constraints_of
from if_factory.records import Constraint

CASES = [json.loads(line) for line in
         (Path(__file__).parent / "reader_cases.jsonl").read_text(encoding="utf-8").splitlines()]


def said(case: dict[str, Any]) -> str:
    (verdict,) = verify(case["answer"], [Constraint(type=case["type"], kwargs=case["kwargs"])])
    return str(verdict.outcome.value)


def test_every_verdict_is_the_readers() -> None:
    wrong = [(case, got) for case in CASES if (got := said(case)) != case["reader"]]
    assert wrong == []


def test_there_are_at_least_400_cases_and_every_type_has_some() -> None:
    assert len(CASES) >= 400
    assert {kind.type for kind in all_types()} <= set(Counter(case["type"] for case in CASES))


def test_every_case_has_a_reason_when_it_fails() -> None:
    for case in CASES:
        (verdict,) = verify(case["answer"], [Constraint(type=case["type"], kwargs=case["kwargs"])])
        assert case["reader"] == "pass" or verdict.reason, case


@pytest.mark.parametrize("folder", ["typographic-marks", "unsegmented-scripts", "code-is-not-content",
                                    "documented-bullets", "json-nan", "held"])
def test_the_verdicts_of_publicly_reported_cases_are_right(folder: str, shared: Path) -> None:
    for line in (shared / "cases" / "reports" / folder / "rows.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found = verify(answers_of(row)[0].text, constraints_of(row, folder) or ())
        got = "pass" if all(v.passed for v in found) else "fail" if any(v.failed for v in found) else "no_verdict"
        assert got == row["expect"], (row, found)
