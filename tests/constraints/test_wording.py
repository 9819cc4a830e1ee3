"""The English paraphrases read as English: word order, singular and plural."""

from __future__ import annotations

import re
from itertools import product
from random import Random

import pytest

from if_factory.constraints.base import all_types, get

SEEDS = ("How do electric cars differ from gasoline cars?", "Write a Python script that sorts a list of names.")
ONE_OF_MANY = re.compile(r"(?<![.\w])(?:1|one) (?:more )?(?:lines|items|sentences|numbers|words|headings|phrases|rows"
                         r"|points|parts|blocks|entries|sections|paragraphs|times|letters|bullets|placeholders)\b"
                         r"|\b1 \w+ \w+, each\b")


@pytest.mark.parametrize(("level", "relation", "count"),
                         list(product((1, 2, 3), ("exactly", "at least", "at most", "less than"), (1, 2, 4))))
def test_headings_are_asked_for_in_the_order_relation_number_noun(level: int, relation: str, count: int) -> None:
    kind = get("markdown:headings")
    noun = "heading" if count == 1 else "headings"
    words = kind.words({"level": level, "relation": relation, "count": count})
    for description in kind.descriptions:
        text = description.format_map(words)
        assert re.search(rf"\b{relation} {count} (?:level-{level} )?(?:Markdown )?{noun}\b", text), text
        assert f"'{'#' * level} '" in text
        if count == 1:
            assert "each" not in text
            assert "that start " not in text


def test_no_paraphrase_says_1_of_many_or_the_relation_before_another_word() -> None:
    for kind in all_types():
        for state, seed in product(range(60), SEEDS):
            drawn = kind.sample(Random(state), seed)
            if drawn is None:
                continue
            words = kind.words(drawn)
            for description in kind.descriptions:
                text = description.format_map(words)
                assert not ONE_OF_MANY.search(text), (kind.type, text)
                if drawn.get("relation") and "count" in drawn:
                    assert re.search(rf"{drawn['relation']} {drawn['count']}\b", text), (kind.type, text)
