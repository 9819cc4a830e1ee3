"""Each further family: a complying text passes, each text that breaks it in one way fails and says why."""

from __future__ import annotations

import string
from random import Random
from typing import Any

import pytest

from if_factory.constraints.base import all_types, get
from if_factory.constraints.verify import verify
from if_factory.records import Constraint, Outcome

TABLE = "| Item | Description |\n|---|---|\n| a | b |\n| c | d |"
LIST = "- Try apples\n- Try pears"

# type, arguments, texts that comply, texts that do not
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("table:rows", {"relation": "exactly", "num_rows": 2},
     [TABLE, f"See:\n\n{TABLE}\n\nDone.", TABLE.replace("---", ":-:")],
     [TABLE + "\n| e | f |", TABLE.rsplit("\n", 1)[0], TABLE.replace("|---|---|\n", ""), "a | b"]),
    ("table:rows", {"relation": "at least", "num_rows": 2},
     [TABLE, TABLE + "\n| e | f |"], ["| a |\n|---|\n| b |"]),
    ("table:columns", {"columns": ["Item", "Description"]}, [TABLE, TABLE.replace("Item", "**item**")],
     [TABLE.replace("Item", "Thing"), TABLE.replace("| Item | Description |", "| Description | Item |"),
      "| Item | Description |\n|---|---|"]),
    ("json:keys", {"keys": ["a", "b"]}, ['{"b": 1, "a": [2]}', '```json\n{"a": 1, "b": 2}\n```'],
     ['{"a": 1}', '{"a": 1, "b": 2, "c": 3}', '["a", "b"]', 'Sure: {"a": 1, "b": 2}', '{"a": 1, "b": 2']),
    ("json:list", {"num_items": 2}, ['["x", "y"]', '```\n["x", "y"]\n```'],
     ['["x"]', '["x", "y", "z"]', '["x", 2]', '["x", ""]', '{"x": "y"}', "x, y"]),
    ("yaml:keys", {"keys": ["a", "b"]}, ["a: 1\nb:\n  - x", "```yaml\na: 1\nb: 2\n```"],
     ["a: 1", "a: 1\nb: 2\nc: 3", "- a\n- b", "a b", "a: [1\nb: 2"]),
    ("csv:header", {"columns": ["x", "y"], "num_rows": 2}, ["x,y\n1,2\n3,4", '```csv\nX, Y\n"1,5",2\n3,4\n```'],
     ["x,y\n1,2", "y,x\n1,2\n3,4", "x,y\n1,2\n3", "x,y\n1,2\n3,4\n5,6"]),
    ("xml:enclosing_tag", {"tag": "answer"}, ["<answer>Yes.</answer>", " <answer>\nYes\n</answer>\n"],
     ["Yes", "<answer>Yes", "<answer></answer>", "So: <answer>Yes</answer>",
      "<answer>a</answer><answer>b</answer>"]),
    ("list:numbered_items", {"num_items": 2}, ["Steps:\n1. a\n2. b", "1. a\ntext\n2. b"],
     ["1. a", "1. a\n2. b\n3. c", "2. a\n1. b", "1. a\n1. b", "1) a\n2) b"]),
    ("list:item_words", {"max_words": 2}, [LIST, "- one\n\nMuch longer prose stands outside the list."],
     ["no list", LIST + "\n- Try some plums"]),
    ("list:item_start", {"word": "Try"},
     [LIST, "* **try** this\n* Try that"], [LIST + "\n- Plums", "- Try one", "Try"]),
    ("list:alphabetical", {"num_items": 2}, ["- apple\n- **Bear**\n- cat", "- same\n- same"],
     ["- b\n- a", "- a", "apple, bear"]),
    ("length:word_range", {"min_words": 2, "max_words": 3}, ["a b", "a b c", "don't stop"], ["a", "a b c d"]),
    ("length:exact_words", {"num_words": 3}, ["a b c", "It's well-known"], ["a b", "a b c d"]),
    ("length:max_characters", {"max_characters": 5}, ["abcde", " abcde\n"], ["abcdef"]),
    ("length:line_characters", {"max_characters": 5}, ["abcde\nabc"], ["abc\nabcdef"]),
    ("length:exact_lines", {"num_lines": 2}, ["a\n\nb"], ["a", "a\nb\nc"]),
    ("word:max_letters", {"max_letters": 5}, ["Short words 1234567, well-read"], ["Longer"]),
    ("word:exact_count", {"word": "sun", "count": 2}, ["Sun and sun.", "sun, sunny SUN"], ["sun", "sun sun sun"]),
    ("sentence:max_words", {"max_words": 4}, ["One two three. Four five.", "- One two three\n- Four five six"],
     ["One two three four five.", "- One two three four five"]),
    ("sentence:distinct_starts", {}, ["He came. She went.", "We saw:\n- A\n- A\n\nThey left.", "Yes"],
     ["He came. He went.", "The end. The start."]),
    ("paragraph:first_word", {"word": "So"},
     ["So it is.\n\nSo be it.", "**So** what"], ["So it is.\n\nThen not.", "Thus"]),
    ("start:first_word", {"word": "Indeed"},
     ["Indeed, yes", '"indeed"', "**Indeed** so"], ["Yes indeed", "Indeedly so"]),
    ("start:phrase", {"phrase": "In short"}, ["In short, yes", '"in short"'], ["So, in short", "In a short"]),
    ("end:last_word", {"word": "home"}, ["Go home", 'Go "Home."', "Go home!"], ["home again", "homes"]),
    ("end:question", {}, ["Why?", '"Why?"', "Why not?\n"], ["Why? Because.", "Why"]),
    ("punctuation:no_exclamation", {}, ["Fine."], ["Fine!", "好！"]),
    ("punctuation:no_question_mark", {}, ["Fine."], ["Fine?", "好？"]),
    ("digits:none", {}, ["two"], ["2", "a1"]),
    ("digits:exact_numbers", {"count": 2}, ["12 and 7", "3.5"], ["12", "1 2 3"]),
    ("date:iso", {}, ["On 2024-02-29."], ["On 2023-02-29.", "29/02/2024", "12024-02-29", "2024-2-9"]),
    ("emoji:count", {"relation": "exactly", "count": 2}, ["🌟 and 🎉", "👨‍👩‍👧🇫🇷", "👍🏽❤️"],
     ["🌟", "🌟🌟🌟", ":-)"]),
    ("emoji:count", {"relation": "at least", "count": 2}, ["🌟🎉🌟"], ["🌟", "none"]),
    ("code:blocks", {"language": "python", "count": 1},
     ["Try:\n```python\nx = 1\n```\nDone.", "```Python\nx\n```"],
     ["```\nx\n```", "```python\nx", "```python\nx\n```\n```python\ny\n```", "`python`"]),
    ("markdown:headings", {"level": 2, "relation": "exactly", "count": 1},
     ["## A\ntext\n### B", "## A\n```python\n## comment\n```"], ["# A", "## A\n## B", "##A", "text ## A"]),
    ("markdown:bold", {"count": 2}, ["**a** and **b c**"], ["**a**", "*a* *b*", "** a **"]),
    ("style:no_first_person", {}, ["You said mining is fine."], ["I see.", "Tell me.", "MY", "I'm here"]),
    ("style:no_contractions", {}, ["It is not so. The dog's bone."], ["It's so.", "Don't", "we’ll see"]),
]
FURTHER = sorted({case[0] for case in CASES})


@pytest.mark.parametrize(("type_id", "kwargs", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_complying_texts_pass_and_each_violation_fails_with_a_reason(
        type_id: str, kwargs: dict[str, Any], good: list[str], bad: list[str]) -> None:
    constraint = Constraint(type=type_id, kwargs=kwargs)
    for text in good:
        assert verify(text, [constraint])[0].passed, text
    for text in bad:
        verdict = verify(text, [constraint])[0]
        assert verdict.outcome is Outcome.FAIL, text
        assert verdict.reason
        assert "does not satisfy" not in verdict.reason


def test_at_least_eighteen_families_go_beyond_ifevals() -> None:
    assert len(FURTHER) == 36
    assert len(list(all_types())) >= 25 + len(FURTHER)


@pytest.mark.parametrize("type_id", FURTHER)
def test_every_description_names_every_argument_and_ends_without_a_stop(type_id: str) -> None:
    kind = get(type_id)
    assert len(set(kind.descriptions)) >= 4
    drawn = kind.sample(Random(0), "Write a Python function that sorts numbers")
    assert drawn is not None
    words = kind.words(drawn)
    for description in kind.descriptions:
        text = description.format_map(words)
        # "1. to 4." is a list of numbers, not a stop
        assert not text.endswith("!")
        assert not text.endswith(".") or text[-2].isdigit()
        for name, value in drawn.items():
            shown = [str(value), str(words.get(name, value))] if not isinstance(value, list) else [str(value[0])]
            once = {1: ["once"], 2: ["twice"]}.get(value, []) if isinstance(value, int) else []
            level = ["#" * value + " "] if name == "level" else []
            assert any(s in text for s in [*shown, *once, *level]), (name, text)
        assert not [f for _, f, _, _ in string.Formatter().parse(text) if f]


@pytest.mark.parametrize("type_id", FURTHER)
def test_the_same_state_draws_the_same_arguments_and_they_are_usable(type_id: str) -> None:
    kind = get(type_id)
    for state in range(30):
        drawn = kind.sample(Random(state), "Write a Python function that sorts numbers")
        assert drawn == kind.sample(Random(state), "Write a Python function that sorts numbers")
        assert drawn is not None
        kind.demands(drawn)
        assert kind.check("Some text.", drawn) in (True, False)


def test_code_blocks_are_only_asked_of_seeds_about_code() -> None:
    kind = get("code:blocks")
    assert kind.sample(Random(0), "Name a river in Peru") is None
    assert (kind.sample(Random(0), "Write an SQL statement that counts users") or {})["language"] == "sql"


def test_a_crafted_response_does_not_crash_a_checker() -> None:
    nasty = ["|" * 500, "[" * 50_000, "a: &a [*a]", '"' * 7, "- \n- \n", "1. \n" * 50, "```", "\x00",
             "<answer>" * 99, "9" * 5000 + ". x", "a: 2024-99-99", "**" * 999]
    for type_id, kwargs, _, _ in CASES:
        for text in nasty:
            assert verify(text, [Constraint(type=type_id, kwargs=kwargs)])[0].outcome in (
                Outcome.PASS, Outcome.FAIL), (type_id, text[:20])
