"""The shipped prompts: varied, clean, and the held-out ones apart from the seeds."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources

import pytest

from if_factory.files import read_rows

Prompts = list[dict[str, str]]
NEAR_DUPLICATE = 0.4


def load(name: str) -> Prompts:
    with resources.as_file(resources.files("if_factory") / "data" / name) as path:
        return [row for _, row in read_rows(path)]


@pytest.fixture(scope="module")
def seeds() -> Prompts:
    return load("seeds.jsonl")


@pytest.fixture(scope="module")
def held_out() -> Prompts:
    return load("held_out.jsonl")


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def test_trigram_overlap_sees_a_reworded_copy_and_not_a_shared_opening() -> None:
    copy = jaccard(trigrams("Write a poem about the old moon over the sea."),
                   trigrams("Write a poem about the old moon over the sea tonight."))
    opening = jaccard(trigrams("Write a poem about a rainy afternoon."), trigrams("Write a poem about fireflies."))
    assert opening < NEAR_DUPLICATE < copy


def test_enough_prompts_of_enough_kinds(seeds: Prompts, held_out: Prompts) -> None:
    assert len(seeds) >= 240
    assert len(held_out) >= 160
    for rows in (seeds, held_out):
        share = Counter(row["category"] for row in rows).most_common(1)[0][1] / len(rows)
        assert share < 0.15, "one kind of prompt dominates"
    assert {row["category"] for row in held_out} == {row["category"] for row in seeds}


def test_any_beginning_of_a_file_is_varied_because_limit_takes_the_first_rows(
        seeds: Prompts, held_out: Prompts) -> None:
    for rows in (seeds, held_out):
        assert len({row["category"] for row in rows[:20]}) >= 10
        assert len({row["category"] for row in rows[:60]}) >= 20


def test_rows_have_exactly_the_documented_fields_and_their_own_ids(seeds: Prompts, held_out: Prompts) -> None:
    for row in seeds + held_out:
        assert set(row) == {"id", "prompt", "category"}
    ids = [row["id"] for row in seeds + held_out]
    assert len(set(ids)) == len(ids)


def test_prompts_are_ascii_one_line_and_properly_ended(seeds: Prompts, held_out: Prompts) -> None:
    for row in seeds + held_out:
        prompt = row["prompt"]
        assert prompt.isascii(), row
        assert prompt == " ".join(prompt.split()), row
        assert re.search(r'[.?!]"?$', prompt), row
        assert ".." not in prompt, row


def test_a_text_to_work_on_is_quoted_so_that_appended_constraints_are_not_part_of_it(
        seeds: Prompts, held_out: Prompts) -> None:
    for row in seeds + held_out:
        assert row["prompt"].count('"') % 2 == 0, row
        if row["category"] in ("summarize", "rewrite", "extract"):
            assert row["prompt"].endswith('"'), row


def test_no_prompt_carries_a_constraint_of_its_own(seeds: Prompts, held_out: Prompts) -> None:
    own = re.compile(
        r"\b(at least|at most|exactly|under|fewer than|more than|less than) (\d+|one|two|three|four|five) "
        r"(words?|sentences?|paragraphs?|lines?|points?|steps?)\b|\bbullet|\bJSON\b|\btable\b|\blowercase\b"
        r"|\bcapital letters\b|\b(list|give|name|suggest|write) (\d+|two|three|four|five|ten)\b", re.I)
    for row in seeds + held_out:
        assert not own.search(row["prompt"]), row


def test_no_two_prompts_are_near_duplicates_within_or_across_the_files(seeds: Prompts, held_out: Prompts) -> None:
    grams = [(row["id"], trigrams(row["prompt"])) for row in seeds + held_out]
    close = [(a, b) for i, (a, left) in enumerate(grams) for b, right in grams[i + 1:]
             if jaccard(left, right) > NEAR_DUPLICATE]
    assert close == []
