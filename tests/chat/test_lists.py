"""Lists as models write them come out as the same items, and rewrites go to the constraint they are about."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.chat.lists import parse_instructions, parse_items, parse_pairs
from if_factory.chat.parse import Failure

ITEMS = ["Use the first person.", "Set it in winter.", "End with a question."]
ORIGINALS = ["Write in the first person.", "Set the story in winter.", "End with a question."]
NEW = ["Write in the third person.", "Set the story in summer.", "End with a proverb."]


@pytest.mark.parametrize("mark", ["- {t}", "* {t}", "• {t}", "+ {t}", "– {t}", "{n}. {t}", "{n}) {t}", "({n}) {t}",
                                  "{n}: {t}", "{l}) {t}", "  - {t}", "**{n}.** {t}", "- **{t}**", "{n}. \"{t}\"",
                                  "**Constraint {n}:** {t}", "Constraint {n}: {t}", "Requirement #{n} - {t}"])
@pytest.mark.parametrize("around", ["{}", "Sure! Here they are:\n\n{}\n\nI hope that helps.", "```\n{}\n```",
                                    "<think>1. no\n2. no</think>{}"])
def test_every_usual_mark_gives_the_same_items(mark: str, around: str):
    lines = [mark.format(n=i, l="abc"[i - 1], t=t) for i, t in enumerate(ITEMS, 1)]
    assert parse_items(around.format("\n".join(lines))) == ITEMS
    assert parse_items(around.format("\n\n".join(lines))) == ITEMS


def test_json_lists_wrapped_lines_and_lists_inside_items_are_read():
    assert parse_items(json.dumps(ITEMS)) == ITEMS
    assert parse_items(json.dumps({"constraints": ITEMS})) == ITEMS
    assert parse_items("- Use the first\n  person.\n- Set it in\nwinter.") == ITEMS[:2]
    assert parse_items("- One thing:\n    - with a part\n- Another") == ["One thing: with a part", "Another"]


def test_plain_lines_are_items_but_headings_are_not():
    assert parse_items("Constraints:\n" + "\n".join(ITEMS)) == ITEMS
    assert parse_items("") == parse_items("**Constraints:**") == []


@given(st.text(max_size=400))
def test_any_text_gives_a_list_of_bare_texts(text: str):
    assert all(item and item == " ".join(item.split()) for item in parse_items(text))


SENTENCE = st.lists(st.sampled_from(["winter", "river", "three", "every", "person", "begin", "end", "tone"]),
                    min_size=2, max_size=8).map(" ".join)


@given(items=st.lists(SENTENCE, min_size=1, max_size=12), mark=st.sampled_from(["- ", "* ", "{}. ", "{}) "]))
def test_what_is_written_as_a_list_is_read_back(items: list[str], mark: str):
    assert parse_items("\n".join(mark.format(i) + t for i, t in enumerate(items, 1))) == items


# ---------------------------------------------------------------- instructions


@pytest.mark.parametrize("text", [
    json.dumps({"main_instruction": "Write a story.", "constraints": ITEMS}),
    "```json\n" + json.dumps({"main_instruction": "Write a story.", "constraints": ITEMS}) + "\n```",
    json.dumps({"main_instruction": "Write a story.", "constraints": [{"text": t} for t in ITEMS]}),
    json.dumps({"main_instruction": "Write a story.", "constraints": "\n".join(f"- {t}" for t in ITEMS)}),
    "**Main Instruction:** Write a story.\n\n**Constraints:**\n" + "\n".join(f"- {t}" for t in ITEMS),
    "Main instruction\nWrite a story.\n\nConstraints\n" + "\n".join(f"{i}. {t}" for i, t in enumerate(ITEMS, 1)),
    "# Main Instruction\nWrite a\nstory.\n# Constraints\n" + "\n".join(ITEMS),
    '<think>hm</think>1. Main instruction: "Write a story."\n2. Constraints:\n' + "\n".join(ITEMS),
])
def test_an_instruction_and_its_constraints_are_read_in_every_usual_form(text: str):
    found = parse_instructions(text)
    assert not isinstance(found, Failure)
    assert (found.main_instruction, found.constraints) == ("Write a story.", ITEMS)


def test_where_the_instruction_is_known_a_list_is_enough():
    found = parse_instructions("\n".join(f"- {t}" for t in ITEMS), main="Known.")
    assert not isinstance(found, Failure)
    assert (found.main_instruction, found.constraints) == ("Known.", ITEMS)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "no_main_instruction"), ("I cannot help with that.", "no_main_instruction"),
    ("Main instruction: Write.\nConstraints:\n", "no_constraints"),
    ('{"main_instruction": "Write.", "constraints": []}', "no_constraints")])
def test_what_cannot_be_read_has_a_reason(text: str, reason: str):
    found = parse_instructions(text)
    assert isinstance(found, Failure)
    assert found.reason == reason


@given(st.text(max_size=300))
def test_no_text_breaks_the_parsers(text: str):
    parse_instructions(text)
    parse_pairs(text, ORIGINALS)


# ---------------------------------------------------------------- rewrites


def arrows(arrow: str, order: list[int]) -> str:
    return "\n".join(f"- {ORIGINALS[i]} {arrow} {NEW[i]}" for i in order)


@pytest.mark.parametrize("text", [
    json.dumps(NEW), json.dumps({"rewrites": NEW}), "\n".join(f"{i}. {t}" for i, t in enumerate(NEW, 1)),
    json.dumps({"rewrites": [{"number": i, "modified": t} for i, t in enumerate(NEW, 1)]}),
    json.dumps({"rewrites": [{"number": i, "modified": NEW[i - 1]} for i in (2, 3, 1)]}),
    json.dumps([{"original": o, "modified": t} for o, t in zip(reversed(ORIGINALS), reversed(NEW), strict=True)]),
    json.dumps([f"{o} -> {t}" for o, t in zip(ORIGINALS, NEW, strict=True)]),
    arrows("->", [0, 1, 2]), arrows("→", [2, 0, 1]), arrows("=>", [1, 0, 2]),
    "Main instruction: Write a story.\n\nConstraints:\n" + arrows("->", [0, 1, 2]),
    "\n".join(f"{i} -> {t}" for i, t in enumerate(NEW, 1)),
    "\n".join(f'{i}. "{o}" -> "{t}"' for i, (o, t) in enumerate(zip(ORIGINALS, NEW, strict=True), 1)),
    "- Write in first person -> Write in the third person.\n" + arrows("->", [1, 2]),
])
def test_rewrites_go_to_their_originals_in_every_usual_form(text: str):
    assert parse_pairs(text, ORIGINALS) == NEW


def test_an_arrow_inside_a_constraint_does_not_divide_it():
    originals = ["Use the order A -> B.", *ORIGINALS[1:]]
    text = "- Use the order A -> B. -> Use the order B -> A.\n" + arrows("->", [1, 2])
    assert parse_pairs(text, originals) == ["Use the order B -> A.", *NEW[1:]]


@pytest.mark.parametrize(("text", "reason"), [
    (json.dumps(NEW[:2]), "count_mismatch"), (arrows("->", [0, 1]), "count_mismatch"),
    (arrows("->", [0, 1, 1]), "count_mismatch"), ("", "count_mismatch"), ("no", "count_mismatch"),
    (json.dumps([{"number": 1, "modified": "x"}] * 3), "count_mismatch"),
    ("- Bake a cake of plums -> x\n" + arrows("->", [1, 2]), "unknown_original")])
def test_a_count_that_does_not_match_or_a_stranger_is_a_failure(text: str, reason: str):
    found = parse_pairs(text, ORIGINALS)
    assert isinstance(found, Failure)
    assert found.reason == reason


@given(order=st.permutations([0, 1, 2]), arrow=st.sampled_from(["->", "-->", "=>", "→"]))
def test_named_originals_decide_whatever_the_order(order: list[int], arrow: str):
    assert parse_pairs(arrows(arrow, order), ORIGINALS) == NEW
