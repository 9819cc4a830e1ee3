from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from if_factory.constraints.compose import compose
from if_factory.constraints.join import join, sentence
from if_factory.constraints.languages import language_of
from if_factory.records import Constraint


def texts(*parts: str) -> list[Constraint]:
    return [Constraint(type="punctuation:no_comma", text=part) for part in parts]


@pytest.mark.parametrize(("seed", "joined"), [
    ("Tell a joke", "Tell a joke. Use no commas."),
    ("Tell a joke.", "Tell a joke. Use no commas."),
    ("Why is that?", "Why is that? Use no commas."),
    ('Explain "yes."', 'Explain "yes." Use no commas.'),
    ("Tell a joke...", "Tell a joke... Use no commas."),
    ("Translate:\nGuten Tag", "Translate:\nGuten Tag\n\nUse no commas."),
    ("Complete this sentence:", "Complete this sentence:\n\nUse no commas."),
    ("Run `ls -l`", "Run `ls -l`\n\nUse no commas."),
    ("  Tell a joke \n", "Tell a joke. Use no commas."),
    ("", "Use no commas."),
])
def test_the_seed_and_the_constraint_are_set_apart(seed: str, joined: str) -> None:
    assert join(seed, texts("use no commas"), Random(0)) == joined


@pytest.mark.parametrize(("text", "written"), [
    ("use no commas", "Use no commas."), ("use no commas.", "Use no commas."),
    ("use no commas..", "Use no commas."),
    ("why not?", "Why not?"), ('end with "Bye."', 'End with "Bye."'), ("start with P.S.", "Start with P.S."),
    ("'x' must be first", "'x' must be first."), ("iPhone must be named", "iPhone must be named."),
    ("write it as in **this**", "Write it as in **this**."), ("number them 1. to 4.", "Number them 1. to 4."),
])
def test_a_constraint_is_written_as_one_sentence(text: str, written: str) -> None:
    assert sentence(text) == written


def test_a_seed_that_must_be_repeated_stands_alone() -> None:
    seed = "Tell a joke"
    repeat = Constraint(type="combination:repeat_prompt", kwargs={"prompt_to_repeat": seed},
                        text=f'first repeat this request: "{seed}"')
    assert join(seed, [repeat], Random(0)).split("\n\n")[0] == seed


def test_lists_and_sentences_both_occur_and_hold_every_text() -> None:
    parts = texts("use no commas", "write in verse", "be brief")
    shapes = {join("Tell a joke", parts, Random(i)) for i in range(60)}
    assert any("\n- Use no commas." in s for s in shapes)
    assert any("\n2. Write in verse." in s for s in shapes)
    assert any(s == "Tell a joke. Use no commas. Write in verse. Be brief." for s in shapes)
    assert join("Tell a joke", [], Random(0)) == "Tell a joke"


SEED = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=60) | st.sampled_from(
    ["Name a city", "Name a city.", "List:\n- a\n- b", "Why?!", "A; B;", "```\ncode\n```", "He said \"no.\""])


@given(seed=SEED, state=st.integers(0, 10_000))
@settings(deadline=None, max_examples=300)
def test_nothing_is_glued_doubled_or_lost(seed: str, state: int) -> None:
    assume(language_of(seed) is None)  # such a seed gets no English constraints
    constraints = compose("Name a city", Random(state))
    prompt = join(seed, constraints, Random(state))
    assert prompt == join(seed, constraints, Random(state))
    assert prompt == prompt.strip()
    assert prompt.startswith(seed.strip())
    added = prompt[len(seed.strip()):]
    at = 0
    for constraint in constraints:
        written = sentence(constraint.text)
        indented = re.sub(r"\n", "\n  ", written)
        at = max(added.find(written, at), added.find(indented, at))
        assert at >= 0
        before = added[:at] or (" " if not seed.strip() else "")
        assert before[-1:].isspace()
        at += len(written)
        assert not re.search(r"(?<![.…])\.\.(?!\.)", written.rstrip('"'))
    assert not re.search(r"[!?]\.(\s|$)", re.sub(re.escape(seed.strip()), "", added))
