"""The emission rule: nothing unchecked leaves, and every refusal has a reason."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from if_factory.emission import emit_kto, emit_preference, emit_sft, emit_triple
from if_factory.methods.base import Emission
from if_factory.records import (
    Candidate,
    Constraint,
    KTOExample,
    Outcome,
    PreferenceExample,
    Record,
    Refusal,
    SFTExample,
    TripleExample,
    Verdict,
)

TWO = (Constraint(type="punctuation:no_comma"), Constraint(type="startend:quotation"))
RECORD = Record.from_seed("Say hello.").child("Say hello. No commas.", TWO, 2)


def candidate(*outcomes: str, text: str = "hello", finish: str = "stop") -> Candidate:
    return Candidate(text=text, source="vanilla", finish_reason=finish,
                     verdicts=tuple(Verdict(outcome=Outcome(o)) for o in outcomes))


@pytest.mark.parametrize(("answer", "reason"), [
    (candidate("pass", "fail"), "fails_a_constraint"),
    (candidate("pass", "no_verdict"), "no_verdict"),
    (candidate("pass"), "not_checked"),
    (candidate(), "not_checked"),
    (candidate("pass", "pass", text="  \n"), "empty_response"),
    (candidate("pass", "pass", finish="length"), "truncated"),
])
def test_an_answer_that_is_not_wholly_verified_is_refused_with_its_reason(answer, reason):
    assert emit_sft(RECORD, answer) == Refusal(reason=reason)
    assert emit_preference(RECORD, answer, candidate("fail", "fail", text="other")) == Refusal(reason=reason)


@pytest.mark.parametrize(("worse", "reason"), [
    (candidate("pass", "pass", text="other"), "rejected_fails_nothing"),
    (candidate("pass", "no_verdict", text="other"), "rejected_fails_nothing"),
    (candidate("fail", "fail", text=""), "empty_response"),
    (candidate("fail", "pass", text=" hello "), "chosen_equals_rejected"),
])
def test_a_rejected_side_needs_a_recorded_failure(worse, reason):
    assert emit_preference(RECORD, candidate("pass", "pass"), worse) == Refusal(reason=reason)


LOST = Verdict(outcome=Outcome.FAIL, reason="judged worse in both orders")


@pytest.mark.parametrize("worse", [candidate("pass", "pass", text="other"),
                                   candidate("pass", "no_verdict", text="other")])
def test_a_recorded_lost_comparison_stands_in_for_a_named_failure(worse):
    pair = emit_preference(RECORD, candidate("pass", "pass"), worse, lost=LOST)
    assert isinstance(pair, PreferenceExample)
    assert pair.violated == ()
    assert pair.provenance["lost"] == "judged worse in both orders"


@pytest.mark.parametrize(("chosen", "worse", "lost", "reason"), [
    (candidate("pass", "pass"), candidate("pass", "pass", text="other"), None, "rejected_fails_nothing"),
    (candidate("pass", "pass"), candidate("pass", "pass", text="other"), Verdict(outcome=Outcome.PASS),
     "rejected_fails_nothing"),
    (candidate("pass", "pass"), candidate("pass", "pass", text="other"), Verdict(outcome=Outcome.NO_VERDICT),
     "rejected_fails_nothing"),
    (candidate("pass", "pass"), candidate("pass", text="other"), LOST, "not_checked"),
    (candidate("pass", "pass"), candidate("pass", "pass", text=" "), LOST, "empty_response"),
    (candidate("pass", "pass"), candidate("pass", "pass"), LOST, "chosen_equals_rejected"),
    (candidate("pass", "fail"), candidate("pass", "pass", text="other"), LOST, "fails_a_constraint"),
    (candidate("pass", "no_verdict"), candidate("pass", "pass", text="other"), LOST, "no_verdict"),
])
def test_a_lost_comparison_makes_nothing_else_right(chosen, worse, lost, reason):
    assert emit_preference(RECORD, chosen, worse, lost=lost) == Refusal(reason=reason)


outcomes = st.lists(st.sampled_from(list(Outcome)), min_size=0, max_size=3)


@given(outcomes, outcomes, st.text(max_size=5), st.text(max_size=5), st.sampled_from(["stop", "length"]))
def test_whatever_is_emitted_obeys_the_rule(good, bad, text, other, finish):
    chosen = candidate(*good, text=text, finish=finish)
    rejected = candidate(*bad, text=other)
    if isinstance(emit_sft(RECORD, chosen), SFTExample):
        assert good == [Outcome.PASS] * 2
        assert text.strip()
        assert finish == "stop"
    pair = emit_preference(RECORD, chosen, rejected)
    if isinstance(pair, PreferenceExample):
        assert good == [Outcome.PASS] * 2
        assert pair.violated
        assert all(bad[i] is Outcome.FAIL for i in pair.violated)
        assert pair.chosen.strip() != pair.rejected.strip()
    row = emit_kto(RECORD, chosen)
    if isinstance(row, KTOExample):
        assert row.label is (good == [Outcome.PASS] * 2 and finish == "stop")
        assert row.label or Outcome.FAIL in good


def test_every_row_carries_the_verdicts_it_was_let_out_for():
    def said(*outcomes):
        return [{"outcome": outcome, "reason": ""} for outcome in outcomes]

    good, bad = candidate("pass", "pass"), candidate("pass", "fail", text="other")
    assert emit_sft(RECORD, good).provenance["verdicts"] == said("pass", "pass")
    assert emit_kto(RECORD, bad).provenance["verdicts"] == said("pass", "fail")
    pair = emit_preference(RECORD, good, bad).provenance
    assert (pair["chosen_verdicts"], pair["rejected_verdicts"]) == (said("pass", "pass"), said("pass", "fail"))
    triple = emit_triple(RECORD, good, "Say hello. Use commas.", {0: FAIL}).provenance
    assert (triple["verdicts"], triple["corrupted_verdicts"]) == (said("pass", "pass"), said("fail"))


FAIL, PASS, UNSURE = (Verdict(outcome=o) for o in (Outcome.FAIL, Outcome.PASS, Outcome.NO_VERDICT))


def test_a_triple_says_which_constraints_its_second_instruction_corrupts():
    made = emit_triple(RECORD, candidate("pass", "pass"), "Say hello. Use commas.", {0: FAIL})
    assert isinstance(made, TripleExample)
    assert (made.prompt, made.prompt_rejected, made.corrupted) == (RECORD.prompt, "Say hello. Use commas.", (0,))
    assert made.provenance["corrupted"] == ["punctuation:no_comma"]


@pytest.mark.parametrize(("answer", "rejected", "verdicts", "reason"), [
    (candidate("pass", "fail"), "other", {0: FAIL}, "fails_a_constraint"),
    (candidate("pass", "no_verdict"), "other", {0: FAIL}, "no_verdict"),
    (candidate("pass", "pass"), "other", {}, "nothing_corrupted"),
    (candidate("pass", "pass"), RECORD.prompt + " ", {0: FAIL}, "nothing_corrupted"),
    (candidate("pass", "pass"), "other", {0: FAIL, 1: PASS}, "follows_the_corrupted_constraint"),
    (candidate("pass", "pass"), "other", {0: UNSURE}, "no_verdict"),
])
def test_a_triple_needs_a_response_that_follows_one_instruction_and_not_the_other(
        answer, rejected, verdicts, reason):
    assert emit_triple(RECORD, answer, rejected, verdicts) == Refusal(reason=reason)


@given(outcomes, st.dictionaries(st.integers(0, 1), st.sampled_from(list(Outcome))), st.text(max_size=3))
def test_every_triple_obeys_the_rule(good, bad, other):
    made = emit_triple(RECORD, candidate(*good), other, {i: Verdict(outcome=o) for i, o in bad.items()})
    if isinstance(made, TripleExample):
        assert good == [Outcome.PASS] * 2
        assert made.corrupted == tuple(sorted(bad))
        assert set(bad.values()) == {Outcome.FAIL}


def test_an_emission_keeps_datasets_by_name_and_counts_what_it_refuses():
    out = Emission()
    good = emit_sft(RECORD, candidate("pass", "pass"))
    assert out.add(good, "sft_external")
    assert not out.add(Refusal(reason="truncated"), "iorpo")
    assert out["sft_external"] == [good]
    assert out["iorpo"] == []
    assert out.counts() == {"iorpo": {"rows": 0, "refused": {"truncated": 1}},
                            "sft_external": {"rows": 1, "refused": {}}}


def test_equal_content_has_equal_ids_and_any_difference_changes_them():
    assert Record.from_seed("a").id == Record.from_seed("a").id
    assert Record.from_seed("a").id != Record.from_seed("a", system="b").id
    assert Record.from_seed("a").child("b", TWO, 2).id != Record.from_seed("a").child("b", TWO[:1], 1).id


def test_a_record_survives_a_round_trip_through_json():
    record = RECORD.with_candidates(candidate("pass", "fail"))
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_a_constraint_read_from_a_file_is_checked_and_written_as_it_was():
    written = {"type": "length:exact_words", "kwargs": {"num_words": 3}, "text": "Three words.", "kind": "judge"}
    assert Constraint.model_validate(written).model_dump(mode="json") == written
    assert Verdict.model_validate({"outcome": "fail"}).model_dump(mode="json") == {"outcome": "fail", "reason": ""}
    for wrong in ({"type": 3}, {"type": "a", "extra": 1}, {"type": "a", "kind": "guess"}, {"kwargs": {}}, "a"):
        with pytest.raises(ValidationError):
            Constraint.model_validate(wrong)
    with pytest.raises(ValidationError):
        Record.model_validate({**RECORD.model_dump(mode="json"), "constraints": [{"type": "a", "unknown": 1}]})


def test_checking_imports_no_model_library():
    said = subprocess.run([sys.executable, "-c", """
import sys
from if_factory.constraints.verify import verify
from if_factory.inputs.ifeval import read_constraints
row = {"instruction_id_list": ["punctuation:no_comma", "keywords:existence"], "kwargs": [{}, {"keywords": ["tea"]}]}
print([v.outcome.value for v in verify("Some tea, please.", read_constraints(row, "row 1"))])
print(sorted({"pydantic", "markdown_it", "langdetect", "regex"} & set(sys.modules)))
"""], capture_output=True, text=True, check=True)
    assert said.stdout == "['fail', 'pass']\n[]\n"
