"""The types of IFEvalG and IFBench in ``compose``: only where named, without contradiction, and satisfiable."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from itertools import combinations
from random import Random

import pytest

from if_factory.constraints import base
from if_factory.constraints.base import ConstraintType, all_types, get
from if_factory.constraints.compose import compose
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.records import Constraint, Outcome

from .shaped_witness import SHAPES
from .test_compose import FAMILIES, SEEDS
from .witness import build

BENCHMARKS = ("ifbench", "ifevalg")
PUBLIC = [kind for kind in all_types() if kind.benchmark]
COMPOSABLE = [kind for kind in PUBLIC if kind.composable]
CLOSED = "Is it better to rent or to buy a home?"  # the only kind of prompt that fixed options fit
TEXTS = ("Some text.", "The sun, and the sea!\n\n* One\n  - Two\n\nWhy not? P.S. \"So\" it is 12.", "水 и нет")


def _of(kind: ConstraintType, n: int) -> Iterator[Constraint]:
    for i in range(n):
        rng = Random(f"{kind.type}/{i}")
        kwargs = kind.sample(rng, SEEDS[i % 3] if kind.type != "format:options" else CLOSED)
        assert kwargs is not None
        yield Constraint(type=kind.type, kwargs=kwargs, text=kind.describe(kwargs, rng))


def _drawn(n: int, start: int = 0) -> Iterator[list[Constraint]]:
    """Sets of public and own types; every second one begins with a benchmark's."""
    for i in range(start, start + n):
        yield compose(SEEDS[i % len(SEEDS)], Random(i), include=[*BENCHMARKS, *(FAMILIES if i % 2 else ())])


def test_every_id_can_be_composed_or_says_why_not() -> None:
    assert len(PUBLIC) == 87
    assert len(COMPOSABLE) == 67
    assert {kind.type for kind in PUBLIC if not kind.composable} == {
        "copy:copy", "copy:copying_simple", "copy:copying_multiple", "new:copy_span_idx", "repeat:repeat_span",
        "repeat:repeat_change", "repeat:repeat_simple", "ratio:overlap", "words:odd_even_syllables",
        *(kind.type for kind in PUBLIC if kind.family == "custom")}
    assert all(kind.only_read for kind in PUBLIC if not kind.composable)
    assert {kind.benchmark for kind in PUBLIC} == set(BENCHMARKS)
    assert sum(kind.benchmark == "ifbench" for kind in PUBLIC) == 58


@pytest.mark.parametrize("kind", COMPOSABLE, ids=lambda kind: kind.type)
def test_drawn_arguments_are_the_same_again_described_checked_and_satisfiable(kind: ConstraintType) -> None:
    assert len(set(kind.descriptions)) >= 3
    drawn = list(_of(kind, 40))
    assert drawn == list(_of(kind, 40))
    for constraint in drawn:
        assert json.loads(json.dumps(constraint.kwargs)) == constraint.kwargs
        assert constraint.text
        assert not constraint.text.endswith("!")
        assert all(conflict([constraint], strict=strict) is None for strict in (True, False))
        words = kind.words(constraint.kwargs)
        for description in kind.descriptions:
            text = description.format_map(words)
            assert not [f for _, f, _, _ in string.Formatter().parse(description) if f and f not in words]
            for name in {f for _, f, _, _ in string.Formatter().parse(description) if f}:
                assert str(words[name]) in text
        for text in TEXTS:
            for compat in (False, True):
                [verdict] = verify(text, [constraint], ifeval_compat=compat)
                assert verdict.outcome is not Outcome.NO_VERDICT or kind.type in _UNDECIDED, verdict
    for constraint in drawn[:8]:
        assert build([constraint]), constraint


# The verb of "Some text" is not told; words and sentences are counted in no script without spaces.
_UNDECIDED = {"words:start_verb"}


def test_none_is_drawn_that_is_not_named() -> None:
    named_alone = {c.type for i in range(150) for c in compose(SEEDS[i % 10], Random(i), include=FAMILIES)}
    by_default = {c.type for i in range(150) for c in compose(SEEDS[i % 10], Random(i))}
    assert not {kind.type for kind in PUBLIC} & (named_alone | by_default)


def test_what_is_drawn_without_them_is_what_is_drawn_where_they_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[list[Constraint]]:
        return [compose(SEEDS[i % len(SEEDS)], Random(i), include=include) for i in range(120)
                for include in ((), ("keywords", "punctuation", "detectable_format", "emoji:count"))]

    with_them = drawn()
    monkeypatch.setattr(base, "_REGISTRY", {kind.type: kind for kind in all_types() if not kind.benchmark})
    assert len(list(all_types())) < 90
    assert drawn() == with_them


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_brings_all_its_types_that_can_be_composed(name: str) -> None:
    found = {c.type for i in range(500) for c in compose((*SEEDS, CLOSED)[i % 11], Random(i), n=2, include=[name])}
    assert found == {kind.type for kind in COMPOSABLE if kind.benchmark == name}


def test_an_id_a_family_and_a_benchmark_are_included_and_excluded() -> None:
    def found(**how: list[str]) -> set[str]:
        return {c.type for i in range(60) for c in compose(SEEDS[0], Random(i), **how)}

    assert found(include=["keywords:word_once"]) == {"keywords:word_once"}
    assert found(include=["ratio"]) == {"ratio:stop_words", "ratio:sentence_type", "ratio:sentence_balance",
                                        "ratio:sentence_words"}
    assert not any(t.startswith("words:") for t in found(include=["ifbench"], exclude=["words"]))
    assert found(include=["keywords", "ifbench"], exclude=["ifbench"]) <= {
        kind.type for kind in all_types() if kind.family == "keywords" and kind.by_default}


@pytest.mark.parametrize(("name", "why"), [
    ("copy:copying_multiple", "a copy"), ("custom", "a task of its own"), ("ratio:overlap", "reference text"),
    ("words:odd_even_syllables", "syllables")])
def test_an_id_that_cannot_be_composed_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is known but only read from data, never drawn: .*{why}"):
        compose(SEEDS[0], Random(0), include=[name])


def test_composed_sets_have_no_conflicting_pair_and_are_satisfied_by_a_text_built_for_them() -> None:
    unsatisfied = []
    for drawn in _drawn(200):
        assert conflict(drawn) is None
        assert all(conflict(list(pair)) is None for pair in combinations(drawn, 2))
        if build(drawn) is None:
            unsatisfied.append(drawn)
    assert unsatisfied == []


@pytest.mark.slow
def test_thousands_of_composed_sets_are_satisfied_by_a_text_built_for_them() -> None:
    assert [drawn for drawn in _drawn(6_000, 200) if build(drawn) is None] == []


SAME = [
    ("start:first_word", "first_word:first_word_answer"), ("end:last_word", "last_word:last_word_answer"),
    ("punctuation:no_exclamation", "punctuation:punctuation_exclamation"),
    ("length:word_range", "count:word_count_range"), ("length_constraints:number_words", "count:word_count_range"),
    ("keywords:letter_frequency", "letters:letter_counting2"), ("word:exact_count", "keywords:word_once"),
    ("keywords:frequency", "keywords:word_count_different_numbers"),
    ("keywords:forbidden_words", "keywords:exclude_word_harder"), ("digits:exact_numbers", "count:numbers"),
    ("length_constraints:number_paragraphs", "paragraphs:paragraphs"),
    ("length_constraints:nth_paragraph_first_word", "paragraphs:paragraphs2"),
    ("detectable_format:constrained_response", "format:options"), ("emoji:count", "format:emoji"),
    ("keywords:keyword_specific_position", "words:keywords_specific_position"),
    ("sentence:keyword", "keywords:keyword_specific_position"), ("keywords:palindrome", "words:palindrome"),
    ("detectable_format:number_bullet_lists", "format:sub-bullets"), ("list:alphabetical", "format:list"),
    ("count:unique_word_count", "count:count_unique"), ("paragraphs:paragraphs", "count:counting_composition"),
    ("change_case:english_lowercase", "format:title_case"), ("words:no_consecutive", "words:alphabet"),
]


@pytest.mark.parametrize("pair", SAME, ids=" ".join)
def test_types_that_ask_for_the_same_or_the_opposite_never_meet(pair: tuple[str, str]) -> None:
    for i in range(12):
        drawn = [Constraint(type=t, kwargs=get(t).sample(Random(f"{t}{i}"), CLOSED) or {}) for t in pair]
        assert conflict(drawn)
        assert conflict(drawn[::-1])


def test_what_only_makes_no_sense_together_is_no_contradiction_in_an_audit() -> None:
    """A row of a data set may ask twice for the same: an answer can satisfy it."""
    twice = [Constraint(type="punctuation:no_exclamation", kwargs={}),
             Constraint(type="punctuation:punctuation_exclamation", kwargs={})]
    assert conflict(twice)
    assert conflict(twice, strict=True) is None
    shaped = [Constraint(type="format:newline", kwargs={}),
              Constraint(type="digits:exact_numbers", kwargs={"count": 2})]
    assert conflict(shaped)
    assert conflict(shaped, strict=True) is None


def test_every_shape_stands_beside_few_types() -> None:
    assert set(SHAPES) - {"format:options"} == {kind.type for kind in COMPOSABLE
                                                 if getattr(kind, "allows", frozenset())}
