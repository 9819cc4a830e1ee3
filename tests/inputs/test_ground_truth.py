"""Rows of public training sets are read where they keep their constraints."""

from __future__ import annotations

import json

import pytest

from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.inputs.ground_truth import _FUNCTIONS
from if_factory.inputs.rows import constraints_of

ALL = {"keyword_list": ["ice"], "word": "ice", "N": 2, "forbidden_words": ["ice"], "letter": "e", "language": "de",
       "quantifier": "around", "first_word": "Ice", "i": 1, "postscript_marker": "P.S.", "options": ["yes", "no"],
       "section_splitter": "Section", "original_prompt": "Hi there", "end_phrase": "Bye"}


@pytest.mark.parametrize("name", sorted(_FUNCTIONS))
def test_every_function_of_tulus_rows_becomes_constraints_that_can_be_checked(name: str) -> None:
    given = {"func_name": name, **ALL}
    for truth in (given, json.dumps(given), str(given)):
        found = constraints_of({"ground_truth": truth}, "row 1")
        assert found
        assert all("unknown" not in v.reason for v in verify("Ice is cold.", found))


@pytest.mark.parametrize(("quantifier", "passing"), [("at least", {10, 11, 12}), ("at most", {8, 9, 10}),
                                                     ("around", {9, 10, 11})])
def test_quantifiers_mean_what_they_say(quantifier: str, passing: set[int]) -> None:
    truth = {"func_name": "validate_word_constraint", "N": 10, "quantifier": quantifier, "word": None}
    found = constraints_of({"ground_truth": truth}, "row 1")
    assert found
    assert {n for n in range(8, 13) if all(v.passed for v in verify("w " * n, found))} == passing


@pytest.mark.parametrize("write", [str, json.dumps, lambda value: value])
def test_rows_of_several_constraints_are_read_as_json_or_as_a_literal(write) -> None:
    truth = [{"instruction_id": ["keywords:word_once", "made:up"], "kwargs": [{"keyword": "ice"}, None]}]
    found = constraints_of({"ground_truth": write(truth)}, "row 1")
    assert found
    assert [(c.type, c.kwargs) for c in found] == [("keywords:word_once", {"keyword": "ice"}), ("made:up", {})]


@pytest.mark.parametrize("truth", ["42", "{x: 1}", "__import__('os').getcwd()", "[1, 2]", None, "[" * 5000])
def test_other_ground_truths_hold_no_constraints_and_are_never_run(truth) -> None:
    assert constraints_of({"ground_truth": truth}, "row 1") is None


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(UserError, match="verify_keywords needs the argument 'keyword_list'"):
        constraints_of({"ground_truth": {"func_name": "verify_keywords"}}, "row 1")


def test_autoif_rows_are_left_to_the_sandbox() -> None:
    source = "def evaluate(response):\n    return 'ice' in response"
    for given in ([source], [[source, 1.0]]):
        (found,) = constraints_of({"eval_func": given, "instruction": "Name ice"}, "row 1") or ()
        assert (found.kind, found.kwargs["functions"]) == ("generated_code", [source])
