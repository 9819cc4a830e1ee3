"""Edits by rule: what they may change, and that whatever they return satisfies every constraint."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.constraints.base import get
from if_factory.constraints.edits import RULES, edited
from if_factory.constraints.verify import verify
from if_factory.records import Constraint

SOAP = "Soap has two ends, one loves water, and the other loves grease. Rinsing takes both away!"
KWARGS = {
    "combination:repeat_prompt": {"prompt_to_repeat": "How does soap work?"},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "start:phrase": {"phrase": "Good question"},
    "startend:end_checker": {"end_phrase": "I hope this helps."},
    "xml:enclosing_tag": {"tag": "answer"},
}
SHAPED = {
    "detectable_format:number_bullet_lists": "1. Soap takes grease, and holds it.\n2. Water takes soap away.",
    "length_constraints:number_paragraphs": "Soap takes grease.\n\nWater takes soap away.",
}


def constraint(type_id: str, **kwargs: object) -> Constraint:
    return Constraint(type=type_id, kwargs=kwargs or KWARGS.get(type_id, {}), text=type_id)


@pytest.mark.parametrize("type_id", sorted(RULES))
def test_every_rule_mends_a_violation_of_its_type(type_id):
    c = constraint(type_id)
    draft = SHAPED.get(type_id, SOAP)
    assert not verify(draft, [c])[0].passed
    assert verify(edited(draft, [c]), [c])[0].passed
    assert get(type_id).type == type_id


@pytest.mark.parametrize(("draft", "wanted"), [
    ("I like apples, pears, and figs, but not 1,000 of them.",
     "I like apples and pears and figs but not 1000 of them."),
    ("Use red, green or very dark blue paint.", "Use red or green or very dark blue paint."),
    ("Lock your devices, including your computer, mobile device, and even a watch.",
     "Lock your devices including your computer and mobile device and even a watch."),
    ("Tea, on the other hand, is a dried leaf, and so on.", "Tea on the other hand is a dried leaf and so on."),
    ("In spring, plant seeds.", "In spring plant seeds."),
])
def test_commas_of_a_series_become_its_conjunction_and_others_go(draft, wanted):
    assert edited(draft, [constraint("punctuation:no_comma")]) == wanted


@pytest.mark.parametrize("draft", ["Call `f(a, b)` twice.", '{"a": 1, "b": 2}', "苹果、梨，都好。"])
def test_code_data_and_commas_of_other_scripts_are_left_to_a_writer(draft):
    assert edited(draft, [constraint("punctuation:no_comma")]) is None


def test_an_announcement_gives_way_to_the_opening_phrase():
    for lead in ("Here you go: ", "Sure! Here's a complete explanation:\n\n", ""):
        assert edited(lead + "soap takes grease.", [constraint("start:phrase")]) == "Good question. Soap takes grease."


def test_a_closing_phrase_stands_alone_below_a_list():
    listed = "- Soap takes grease.\n- Water takes soap away"
    assert edited(listed, [constraint("startend:end_checker")]) == listed + ".\n\nI hope this helps."


def test_edges_commas_and_case_are_mended_together():
    constraints = [constraint("startend:end_checker"), constraint("punctuation:no_comma"), constraint("start:phrase")]
    assert edited(SOAP, constraints) == (
        "Good question. Soap has two ends and one loves water and the other loves grease. Rinsing takes both away! "
        "I hope this helps.")


def test_what_holds_is_not_touched_and_what_takes_a_writer_is_refused():
    assert edited(SOAP, [constraint("punctuation:no_question_mark")]) == SOAP
    assert edited(SOAP, [constraint("detectable_format:title")]) is None
    assert edited(SOAP, [constraint("punctuation:no_comma"), constraint("detectable_format:title")]) is None
    # Quotation marks around everything would break the tags that hold: no edit may cost another constraint.
    held = f"<answer>{SOAP}</answer>"
    assert edited(held, [constraint("xml:enclosing_tag"), constraint("startend:quotation")]) is None
    judged = Constraint(type="judge:tone", kind="judge", text="Be kind.")
    assert edited(SOAP, [judged, constraint("punctuation:no_comma")]) is None


@given(draft=st.text(alphabet="abcd ,.!1\n-", min_size=1, max_size=80),
       types=st.lists(st.sampled_from(sorted(RULES)), min_size=1, max_size=4, unique=True))
def test_an_edited_text_always_passes_everything(draft, types):
    constraints = [constraint(t) for t in types]
    text = edited(draft, constraints)
    assert text is None or all(v.passed for v in verify(text, constraints))


@given(st.text(alphabet="abcd ,.\n", min_size=1, max_size=60))
def test_without_commas_keeps_every_word_in_order(draft):
    text = edited(draft, [constraint("punctuation:no_comma")])
    kept = [w for w in re.findall(r"\w+", text or draft) if w not in ("and", "or")]
    assert kept == [w for w in re.findall(r"\w+", draft) if w not in ("and", "or")]
