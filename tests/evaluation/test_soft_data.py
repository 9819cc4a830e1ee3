"""The released rows of Step-by-Step Mastery against their own constraints, read back out of the prompts.

The reference: the repository's own checkers find 3,957 of 5,252 constraints satisfied and 564 of 1,498 rows wholly
(the two remaining rows have soft constraints only), with an untrained sentence splitter.
"""

import json
from collections import Counter

import pytest

from if_factory.evaluation.audit import audit
from if_factory.evaluation.audit_report import AuditReport
from tests.evaluation.soft_reader import read_constraints


@pytest.fixture(scope="module")
def report(shared, tmp_path_factory) -> AuditReport:
    """`audit --ifeval-compat` on the rows; requests to be repeated are left out, as in the reference."""
    path = tmp_path_factory.mktemp("soft") / "ift.jsonl"
    with path.open("w") as f:
        for line in (shared / "data" / "soft" / "ift.jsonl").read_text().splitlines():
            row = json.loads(line)
            found = [c for c in read_constraints(row["prompt"]) if c.type != "combination:repeat_prompt"]
            f.write(json.dumps({**row, "constraints": [c.model_dump() for c in found]}) + "\n")
    return audit(path, ifeval_compat=True)


def test_the_reference_counts_are_reproduced_to_a_few_in_a_thousand(report):
    assert (report.rows, report.good, report.skipped) == (1500, 1498, Counter(no_constraints=2))
    assert report.no_verdict == 0
    assert abs(report.constraints - 5252) <= 5
    assert abs(report.constraints_passed - 3957) <= 5
    assert abs(report.good_passing - 564) <= 2


@pytest.mark.parametrize(("kind", "percent"), [
    ("length_constraints:nth_paragraph_first_word", 33), ("length_constraints:number_paragraphs", 56),
    ("detectable_format:constrained_response", 56), ("keywords:letter_frequency", 58),
    ("change_case:capital_word_frequency", 60), ("length_constraints:number_sentences", 61),
    ("punctuation:no_comma", 62), ("keywords:existence", 93), ("detectable_content:postscript", 93),
    ("detectable_format:title", 90)])
def test_the_share_of_every_type_the_reference_names_is_reproduced(report, kind, percent):
    assert 100 * report.by_type[kind].passed / report.by_type[kind].n == pytest.approx(percent, abs=1.5)


def test_every_prompt_that_requires_and_forbids_the_same_word_is_found(report, shared):
    both = []
    for n, line in enumerate((shared / "data" / "soft" / "ift.jsonl").read_text().splitlines(), 1):
        words = {c.type: c.kwargs for c in read_constraints(json.loads(line)["prompt"])}
        required = words.get("keywords:existence", {}).get("keywords")
        if required and required == words.get("keywords:forbidden_words", {}).get("forbidden_words"):
            both.append(n)
    assert both
    assert set(both) <= {row for row, _ in report.contradictions}
    print(f"{len(both)} prompts require and forbid the same word")
