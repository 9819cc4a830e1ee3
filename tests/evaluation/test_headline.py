"""The headline: satisfied and useful, split by trained types, paired; a warning where checkers are gamed."""

from __future__ import annotations

from if_factory.evaluation.headline import headline, markdown
from if_factory.evaluation.passrate import Item, measure
from if_factory.records import Constraint, Outcome, Usefulness, Verdict

NO_COMMA = Constraint(type="punctuation:no_comma", text="No commas.")
BOLD = Constraint(type="markdown:bold", kwargs={"num_bold": 1}, text="Bold.")
PASS, FAIL = Verdict(outcome=Outcome.PASS), Verdict(outcome=Outcome.FAIL)
YES, NO = Usefulness(answers=True), Usefulness(answers=False, reason="only_required_text")
UNDECIDED = Usefulness(answers=None, reason="judge: no_json", decided_by="judge")


def summary(before, after, *, constraints=None, trained=("punctuation:no_comma",), more=None):
    """Rows are (verdicts, usefulness, text); the labels are before, after and those of ``more``."""
    models = {"before": before, "after": after, **(more or {})}
    constraints = constraints or [[NO_COMMA]] * len(before)
    return headline(constraints, {k: [r[0] for r in v] for k, v in models.items()},
                    {k: [r[2] for r in v] for k, v in models.items()},
                    {k: [r[1] for r in v] for k, v in models.items()}, trained)


def by_key(found):
    return {m.key: m for m in found.measures}


def test_the_first_measure_counts_answers_that_are_satisfied_and_useful_both():
    rows = [((PASS,), YES, "a b"), ((PASS,), NO, "a"), ((FAIL,), YES, "a b c"), ((PASS,), UNDECIDED, "a"),
            ((FAIL,), None, None)]
    found = summary(rows, rows)
    assert found.measures[0].key == "satisfied_and_useful"
    assert (found.measures[0].values["before"].passed, found.measures[0].values["before"].n) == (1, 5)
    assert by_key(found)["useful"].values["before"].passed == 2
    assert found.undecided == {"before": 1, "after": 1}
    assert found.refused["before"] == {"only_required_text": 1}


def test_constraints_are_split_by_whether_their_type_was_trained():
    constraints = [[NO_COMMA], [NO_COMMA, BOLD], [BOLD]]
    before = [((FAIL,), YES, "a"), ((FAIL, PASS), YES, "a"), ((FAIL,), YES, "a")]
    after = [((PASS,), YES, "a"), ((PASS, PASS), YES, "a"), ((FAIL,), YES, "a")]
    found = by_key(summary(before, after, constraints=constraints))
    assert found["trained_types"].values["after"].passed == found["trained_types"].values["after"].n == 2
    assert (found["unseen_types"].values["after"].passed, found["unseen_types"].values["after"].n) == (1, 2)
    assert found["trained_types"].changes["after"].value == 1.0
    assert found["unseen_types"].changes["after"].value == 0.0
    assert found["satisfied_and_useful_trained"].values["after"].n == 1  # the mixed prompt is in neither part
    assert found["satisfied_and_useful_unseen"].values["after"].n == 1


def test_without_knowing_what_was_trained_nothing_is_split():
    rows = [((PASS,), YES, "a")] * 3
    assert list(by_key(summary(rows, rows, trained=None))) == ["satisfied_and_useful", "useful", "words"]


def test_length_is_the_median_in_words_and_its_paired_change():
    before = [((PASS,), YES, "w " * n) for n in (10, 20, 30)]
    after = [((PASS,), YES, "w " * n) for n in (1, 2, 3)]
    words = by_key(summary(before, after))["words"]
    assert words.values["before"].value == 20
    assert words.changes["after"].value == -18


def test_a_model_that_pleases_the_checkers_and_says_nothing_is_warned_of():
    """What the old report called 19 -> 34 of 100 was a fall in answers; nothing in it said so."""
    before = [((FAIL,), YES, "a b")] * 15 + [((PASS,), YES, "a b")] * 5
    after = [((PASS,), NO, "a")] * 20
    found = summary(before, after)
    assert len(found.warnings) == 1
    assert "+75.0 points" in found.warnings[0]
    assert "-100.0 points" in found.warnings[0]
    assert markdown(found, ["before", "after"]).startswith("**Warning.** after:")
    assert found.measures[0].changes["after"].value == -0.25
    assert summary(before, [((PASS,), YES, "a")] * 20).warnings == ()
    assert summary(before, [((FAIL,), NO, "a")] * 20).warnings == ()


def test_each_stage_is_compared_with_the_one_before_it():
    base = [((FAIL,), YES, "a")] * 4
    sft, dpo = [((PASS,), YES, "a")] * 4, [((PASS,), NO, "a")] * 4
    found = summary(base, sft, more={"dpo": dpo})
    first = found.measures[0]
    assert first.changes["dpo"].value == 0.0
    assert (first.steps["after"].value, first.steps["dpo"].value) == (1.0, -1.0)
    text = markdown(found, ["before", "after", "dpo"])
    assert "Stage by stage" in text
    assert "| dpo | -100.0 " in text


def test_measure_takes_a_judges_verdicts_for_what_no_code_decides():
    item = Item("1", "p", (NO_COMMA, Constraint(type="soft:tone", kind="judge", text="Be warm.")))
    texts = {"before": {"1": "warm"}}
    useful = {"before": {"1": YES}}
    assert measure([item], texts, useful=useful).headline.measures[0].values["before"].passed == 0
    judged = {"before": {"1": {1: PASS}}}
    results = measure([item], texts, useful=useful, judged=judged)
    assert results.headline.measures[0].values["before"].passed == 1
    assert results.rates["before"]["loose"].no_verdict == 0
