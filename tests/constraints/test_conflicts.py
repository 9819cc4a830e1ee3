from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from if_factory.constraints.conflicts import conflict
from if_factory.errors import UserError
from if_factory.records import Constraint


def c(type_: str, **kwargs: Any) -> Constraint:
    return Constraint(type=type_, kwargs=kwargs)


FORBID_RIVER = c("keywords:forbidden_words", forbidden_words=["river"])
NO_COMMA = c("punctuation:no_comma")
CAPITALS = c("change_case:english_capital")
SMALL = c("change_case:english_lowercase")


@pytest.mark.parametrize("pair", [
    (c("combination:repeat_prompt", prompt_to_repeat="First, tell me why."), NO_COMMA),
    (c("keywords:existence", keywords=["River"]), FORBID_RIVER),
    (c("keywords:frequency", keyword="river", relation="at least", frequency=2), FORBID_RIVER),
    (c("word:exact_count", word="river", count=2), FORBID_RIVER),
    (c("length_constraints:nth_paragraph_first_word", num_paragraphs=3, nth_paragraph=2, first_word="river"),
     FORBID_RIVER),
    (c("start:phrase", phrase="The river is wide"), FORBID_RIVER),
    (c("detectable_format:multiple_sections", section_spliter="Section", num_sections=3), CAPITALS),
    (c("detectable_format:multiple_sections", section_spliter="SECTION", num_sections=3), SMALL),
    (c("detectable_format:multiple_sections", section_spliter="SECTION", num_sections=3),
     c("change_case:capital_word_frequency", capital_relation="less than", capital_frequency=3)),
    (c("length_constraints:number_words", relation="at least", num_words=100),
     c("length:exact_words", num_words=60)),
    (c("length:word_range", min_words=100, max_words=120),
     c("length_constraints:number_words", relation="less than", num_words=90)),
    (c("startend:end_checker", end_phrase="Any other questions?"), c("punctuation:no_question_mark")),
    (c("startend:end_checker", end_phrase="That is all!"), c("punctuation:no_exclamation")),
    (c("end:question"), c("startend:end_checker", end_phrase="Hope this helps.")),
    (c("list:numbered_items", num_items=4), c("digits:none")),
    (c("date:iso"), c("digits:none")),
    (c("keywords:existence", keywords=["I'm"]), c("style:no_first_person")),
    (c("keywords:existence", keywords=["extraordinary"]), c("word:max_letters", max_letters=8)),
    (c("xml:enclosing_tag", tag="answer"), c("start:first_word", word="Certainly")),
    (c("xml:enclosing_tag", tag="answer"), c("startend:quotation")),
    (c("keywords:existence", keywords=["banana"]),
     c("keywords:letter_frequency", letter="a", let_relation="less than", let_frequency=3)),
], ids=lambda pair: f"{pair[0].type}+{pair[1].type}")
def test_a_pair_that_no_text_can_satisfy_is_found_even_in_strict_mode(pair: tuple[Constraint, Constraint]) -> None:
    assert conflict(pair, strict=True)
    assert conflict(pair)
    assert conflict(pair[:1]) is None
    assert conflict(pair[1:]) is None


def test_three_constraints_can_clash_where_each_pair_is_fine() -> None:
    cap = c("length_constraints:number_words", relation="less than", num_words=8)
    opening = c("start:phrase", phrase="Here is what you need")
    ending = c("startend:end_checker", end_phrase="Is there anything else?")
    assert conflict([opening, ending], strict=True) is None
    assert conflict([cap, opening], strict=True) is None
    assert conflict([cap, ending], strict=True) is None
    assert conflict([cap, opening, ending], strict=True) is not None


def test_what_only_sense_forbids_is_left_to_the_full_mode() -> None:
    thai = c("language:response_language", language="th")
    keyword = c("keywords:existence", keywords=["river"])
    assert conflict([thai, keyword], strict=True) is None
    assert "river" in (conflict([thai, keyword]) or "")
    title_in_json = [c("detectable_format:json_format"), c("detectable_format:title")]
    assert conflict(title_in_json, strict=True) is None
    assert conflict(title_in_json) is not None


def test_constraints_that_fit_together_do_not_conflict() -> None:
    ending = c("startend:end_checker", end_phrase="Hope you agree with me.")
    assert conflict([c("startend:quotation"), ending]) is None
    assert conflict([c("start:first_word", word="Let"), c("start:phrase", phrase="Let us begin")]) is None
    assert conflict([c("end:question"), c("startend:end_checker", end_phrase="Any other questions?")]) is None
    assert conflict([c("detectable_format:json_format"), c("json:keys", keys=["answer"])]) is None
    assert conflict([c("keywords:existence", keywords=["rivers"]), FORBID_RIVER]) is None
    assert conflict([]) is None


def test_constraints_that_a_judge_decides_demand_nothing() -> None:
    polite = Constraint(type="judge:tone", kwargs={}, kind="judge")
    assert conflict([polite, NO_COMMA]) is None


def test_arguments_that_cannot_be_read_are_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="keywords:existence"):
        conflict([c("keywords:existence", nonsense=1)])


# ------------------------------------------------------------ the reference's own 1,500 prompts


def _rows(shared: Path) -> list[list[Constraint]]:
    lines = (shared / "data/complex/data.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return [[Constraint(type=t, kwargs=k) for t, k in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
            for row in rows]


def _expected(shared: Path, name: str) -> set[int]:
    return set(json.loads((shared / f"data/complex/expected/{name}.json").read_text(encoding="utf-8")))


def test_every_row_known_to_be_unsatisfiable_is_found(shared: Path) -> None:
    rows = _rows(shared)
    strict, sensible = _expected(shared, "strict_contradiction_rows"), _expected(shared, "contradiction_rows")
    assert len(strict) == 156
    assert strict <= {i for i, row in enumerate(rows) if conflict(row, strict=True)}
    assert sensible <= {i for i, row in enumerate(rows) if conflict(row)}


def test_every_further_row_found_in_strict_mode_has_one_of_five_reasons(shared: Path) -> None:
    rows, known = _rows(shared), _expected(shared, "strict_contradiction_rows")
    reasons: Counter[str] = Counter()
    for i, row in enumerate(rows):
        why = conflict(row, strict=True)
        if why is None or i in known:
            continue
        if "'Section 1' is required" in why and "lower case" in why:
            reasons["'Section' has a capital letter too, under lower case only"] += 1
        elif why.startswith("','"):
            reasons["the closing phrase itself has a comma"] += 1
        elif "of letter:" in why:
            reasons["the required words hold the letter too often"] += 1
        elif "capital_words" in why:  # the reference takes "p.s." for "P.S."; our checker does not
            reasons["P.S. is a word in capitals"] += 1
        elif "of sentences" in why:
            reasons["every bullet point is a sentence"] += 1
        else:
            reasons[why] += 1
    assert reasons == {"'Section' has a capital letter too, under lower case only": 18,
                       "the closing phrase itself has a comma": 8,
                       "the required words hold the letter too often": 7, "P.S. is a word in capitals": 37,
                       "every bullet point is a sentence": 9}


def test_a_repeated_request_and_a_list_leave_no_sentence_for_an_answer() -> None:
    repeated = Constraint(type="combination:repeat_prompt", kwargs={"prompt_to_repeat": "I like chess. Who am I?"})
    items = Constraint(type="list:item_start", kwargs={"word": "The"})
    few, more = (Constraint(type="length_constraints:number_sentences",
                            kwargs={"relation": "less than", "num_sentences": n}) for n in (5, 6))
    assert "leave no room" in (conflict([few, repeated, items]) or "")
    assert conflict([more, repeated, items]) is None
