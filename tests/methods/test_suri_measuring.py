"""Measured constraints: the text passes each, fails each corrupted form, and only arguments differ."""

from __future__ import annotations

import re
from collections.abc import Collection
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.constraints.base import all_types, get
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.held_out import HELD_OUT_TYPES
from if_factory.constraints.verify import verify
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin
from if_factory.methods.suri.measuring import draw_corruptible, label_of, topic

TEXTS = [row["text"] for _, row in read_rows(builtin("texts"))]
# One of each kind of layout that the shipped prose has not.
ODD = ["* one point\n* two points\n* three points\n\nThat is all there is to say about it.",
       "# Title\n\n## Part 1\n\nSome **bold** words, 12 numbers: 3, 4.\n\n## Part 2\n\nP.S. NASA and ESA agree.",
       "Zwei kleine V\u00f6gel sitzen auf dem Dach und singen. Der Winter ist lang, und niemand h\u00f6rt zu.",
       "Yes.", "1. First do this\n2. Then do that\n3. Stop"]


@settings(max_examples=60, deadline=None)
@given(text=st.sampled_from(TEXTS + ODD), seed=st.integers(0, 10**6), n=st.integers(1, 12))
def test_the_text_passes_each_constraint_and_fails_each_corrupted_form(text: str, seed: int, n: int):
    drawn = draw_corruptible(text, Random(seed), n)
    assert len(drawn) <= n
    assert all(v.passed for v in verify(text, [d.constraint for d in drawn]))
    assert all(v.failed for v in verify(text, [d.corrupted for d in drawn]))
    assert len({d.constraint.type for d in drawn}) == len(drawn)
    for right, wrong in drawn:
        assert right.type == wrong.type
        assert right.kwargs.keys() == wrong.kwargs.keys()
        assert right.text != wrong.text


@settings(max_examples=60, deadline=None)
@given(text=st.sampled_from(TEXTS), seed=st.integers(0, 10**6), which=st.integers(0, 2**8 - 1))
def test_what_all_or_none_or_one_of_them_ask_for_can_be_written(text: str, seed: int, which: int):
    drawn = draw_corruptible(text, Random(seed), 8)
    assert conflict([d.constraint for d in drawn]) is None
    assert conflict([d.corrupted for d in drawn]) is None


def test_a_page_of_prose_has_about_ten_of_them():
    assert min(len(draw_corruptible(t, Random(i), 10)) for i, t in enumerate(TEXTS)) >= 8


def test_one_numbered_line_is_no_list_of_items_and_one_line_is_no_lines():
    text = "1. Boil the water and add the salt, and let the pasta cook for a while in the open pot on the stove."
    for state in range(60):
        for pair in draw_corruptible(text, Random(state), 3, include=["list:numbered_items", "length:exact_lines"]):
            assert pair.constraint.type != "list:numbered_items"
            assert not re.search("exactly 1 (lines|non-blank lines)", f"{pair.constraint.text} {pair.corrupted.text}")


def test_the_words_i_and_a_are_no_words_in_capitals_to_write_of():
    family, only = "change_case", ["change_case:capital_word_frequency"]
    diary = "I went out. A dog saw me, and I saw it. I ran. A man laughed, and I did. I am home. A pity. I slept. " * 3
    assert not any(draw_corruptible(diary, Random(state), 1, include=only) for state in range(60))
    letter = "I met NASA, ESA, WHO and the FBI in Rome, and I told the EU that I had a plan for the UN. I did."
    drawn = [d.constraint for state in range(60) for d in draw_corruptible(letter, Random(state), 1, include=[family])]
    at_least = [c.kwargs["capital_frequency"] for c in drawn if c.kwargs.get("capital_relation") == "at least"]
    assert at_least
    assert max(at_least) <= 6


def test_same_text_and_seed_are_the_same_constraints():
    assert draw_corruptible(TEXTS[0], Random(5), 10) == draw_corruptible(TEXTS[0], Random(5), 10)
    assert draw_corruptible(TEXTS[0], Random(5), 10) != draw_corruptible(TEXTS[0], Random(6), 10)


def test_over_many_draws_most_types_occur():
    """By default none that is held out for evaluation, so fewer; where every family is named, those too."""
    composable = {kind.type for kind in all_types() if kind.composable and kind.by_default}

    def found(include: Collection[str] = ()) -> set[str]:
        return {d.constraint.type for i in range(16) for t in TEXTS + ODD
                for d in draw_corruptible(t, Random(i), 12, include=include)}

    by_default, named = found(), found(sorted({t.partition(":")[0] for t in composable}))
    assert len(named) >= 25
    assert len(by_default) >= 20
    assert named & set(HELD_OUT_TYPES)
    assert not by_default & set(HELD_OUT_TYPES)
    assert named | by_default <= composable


def test_include_and_exclude_take_types_and_families():
    only = draw_corruptible(TEXTS[0], Random(0), 9, include=["keywords:existence"])
    assert [d.constraint.type for d in only] == ["keywords:existence"]
    drawn = draw_corruptible(TEXTS[0], Random(0), 12, exclude=["length", "keywords"])
    assert drawn
    assert {d.constraint.type.partition(":")[0] for d in drawn}.isdisjoint({"length", "keywords"})


def test_the_wording_is_the_same_but_for_the_arguments():
    for right, wrong in draw_corruptible(TEXTS[3], Random(1), 10):
        kind = get(right.type)
        words = kind.words(right.kwargs), kind.words(wrong.kwargs)
        assert any((d.format_map(words[0]), d.format_map(words[1])) == (right.text, wrong.text)
                   for d in kind.descriptions)


@pytest.mark.parametrize(("title", "expected"), [("The Fox", 'Write a text with the title "The Fox".')])
def test_a_title_is_the_topic(title: str, expected: str):
    assert topic(title, TEXTS[0]) == expected


def test_without_a_title_the_topic_is_words_of_the_text():
    said = topic("", TEXTS[0])
    words = said.removeprefix("Write a text about ").rstrip(".").replace(" and ", ", ").split(", ")
    assert len(words) == 4
    assert all(w in TEXTS[0].lower() for w in words)
    assert topic("", "12 34") == "Write a text."


def test_labels_are_suris():
    for d in draw_corruptible(TEXTS[0], Random(2), 12):
        labels = label_of(d.constraint)
        assert labels["type"] in ("stylistic", "semantic")
        assert labels["scope"] in ("broad", "specific")
