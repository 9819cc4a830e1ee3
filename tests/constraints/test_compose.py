from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.constraints import base
from if_factory.constraints.base import all_types, load_plugin
from if_factory.constraints.compose import compose
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.held_out import HELD_OUT_TYPES
from if_factory.constraints.text import contains_phrase
from if_factory.constraints.text.vocabulary import USUAL_WORDS
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.records import Constraint

from .witness import build

SEEDS = (
    "Write a short story about a lighthouse keeper and his dog.",
    "Explain how vaccines work, in simple terms, to a ten-year-old",
    "Is it better to rent or to buy a home?",
    "Write a Python function that reverses a linked list.",
    "Translate to French:\nGood morning, how are you?",
    "Give three tips for a job interview",
    "What is 12 + 30? Show your steps.",
    "Tell me about myself. I like chess and I don't sleep well!",
    "You are a chef.\n\n- eggs\n- milk\n\nSuggest a recipe",
    "",
)


# Named, so that the types held out for evaluation are drawn too; without the families that are benchmarks' alone.
FAMILIES = sorted({kind.family for kind in all_types() if kind.composable and kind.by_default})


def _draws(n: int, start: int = 0, step: int = 1) -> Iterator[list[Constraint]]:
    return (compose(SEEDS[i % len(SEEDS)], Random(i), include=FAMILIES) for i in range(start, n, step))


def test_types_held_out_for_evaluation_are_drawn_only_where_they_or_their_family_are_named() -> None:
    def drawn(**how: Any) -> set[str]:
        return {c.type for seed in SEEDS for i in range(60) for c in compose(seed, Random(i), **how)}

    composable = {kind.type for kind in all_types() if kind.composable}
    assert composable >= set(HELD_OUT_TYPES)
    assert not drawn() & set(HELD_OUT_TYPES)
    assert drawn(include=FAMILIES) >= set(HELD_OUT_TYPES)
    assert drawn(include=["emoji:count"]) == {"emoji:count"}


def test_no_type_of_ifeval_is_held_out() -> None:
    """Data made for IFEval may train all its types."""
    assert not [t for t in HELD_OUT_TYPES if type(base.get(t)).__module__.startswith(
        "if_factory.constraints.types.ifeval")]


@pytest.mark.parametrize("type_id", ["keywords:forbidden_words", "keywords:exclude_word_harder"])
def test_no_word_is_forbidden_that_the_request_is_about(type_id: str) -> None:
    asked = ("How do electric cars differ from gasoline cars?", "Is a tomato a fruit or a vegetable?",
             "Explain the difference between a solid, a liquid, and a gas.", "What makes a great healthy breakfast?",
             "Works that are simplest to perform: give examples", "Was ist ein Beispiel f\u00fcr ein gutes Leben?",
             "\u4ec0\u4e48\u662f\u97f3\u4e50\uff0c\u57ce\u5e02\u548c\u81ea\u7136\uff1f")
    for prompt in asked:
        found = set()
        for state in range(150):
            drawn = compose(prompt, Random(state), n=1, include=[type_id])
            assert drawn == compose(prompt, Random(state), n=1, include=[type_id])
            for c in drawn:
                found.update(c.kwargs.get("forbidden_words") or [c.kwargs["keyword"]])
        assert found or not prompt.isascii()
        forms = {word.lower()[:5] for word in found}
        assert not [form for form in forms if re.search(rf"\b{form}", prompt.lower()) or form in prompt], prompt


def test_a_request_of_all_usual_words_forbids_none() -> None:
    assert compose(" ".join(USUAL_WORDS), Random(0), n=1, include=["keywords:forbidden_words"]) == []


def test_ten_thousand_draws_hold_no_contradiction_of_the_known_kinds() -> None:
    sizes: Counter[int] = Counter()
    for drawn in _draws(10_000):
        sizes[len(drawn)] += 1
        assert conflict(drawn) is None
        assert _known_contradiction({c.type: c.kwargs for c in drawn}) is None
    assert set(sizes) == {1, 2, 3, 4, 5, 6}
    assert all(count > 1400 for count in sizes.values())


def _known_contradiction(args: dict[str, dict[str, Any]]) -> str | None:
    """The seven kinds found in the data published with the method, looked for without ``Demands``."""
    forbidden = args.get("keywords:forbidden_words", {}).get("forbidden_words", [])
    repeated = args.get("combination:repeat_prompt", {}).get("prompt_to_repeat", "")
    sections = args.get("detectable_format:multiple_sections", {})
    capitals = args.get("change_case:capital_word_frequency", {})
    required = {
        "keyword": args.get("keywords:existence", {}).get("keywords", []),
        "first word": [args.get("length_constraints:nth_paragraph_first_word", {}).get("first_word", "")],
        "frequent word": [args.get("keywords:frequency", {}).get("keyword", "")]
        if args.get("keywords:frequency", {}).get("relation") == "at least" else []}
    for what, words in required.items():
        if any(contains_phrase(word, bad) for word in words for bad in forbidden):
            return f"forbidden {what}"
    if "punctuation:no_comma" in args and "," in repeated:
        return "a comma to repeat"
    if sections:
        marker = sections["section_spliter"]
        if "change_case:english_capital" in args and not marker.isupper():
            return "Section in capitals"
        if "change_case:english_lowercase" in args:
            return "Section in small letters"
        if (marker.isupper() and capitals.get("capital_relation") == "less than"
                and capitals["capital_frequency"] <= sections["num_sections"]):
            return "fewer capitals than sections"
    return None


@pytest.mark.parametrize("part", range(4))
def test_two_thousand_composed_sets_are_satisfied_by_a_text_built_for_them(part: int) -> None:
    assert [drawn for drawn in _draws(2_000, part, 4) if build(drawn) is None] == []


@pytest.mark.slow
def test_ten_thousand_composed_sets_are_satisfied_by_a_text_built_for_them() -> None:
    """The first two thousand are those of the test above."""
    assert [drawn for drawn in _draws(10_000, 2_000) if build(drawn) is None] == []


def test_the_witness_is_checked_by_the_verifier_and_not_by_itself() -> None:
    drawn = compose(SEEDS[0], Random(3), n=4)
    text = build(drawn)
    assert text is not None
    assert all(v.passed for v in verify(text, drawn))
    assert build([Constraint(type="length:exact_words", kwargs={"num_words": 30}),
                  Constraint(type="length:max_characters", kwargs={"max_characters": 20})]) is None


@given(seed=st.text(max_size=80), state=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_any_seed_text_gets_constraints_with_texts_that_agree_and_repeat(seed: str, state: int) -> None:
    drawn = compose(seed, Random(state))
    assert drawn == compose(seed, Random(state))
    assert conflict(drawn) is None
    assert len({c.type for c in drawn}) == len(drawn)
    assert all(c.text.strip() and "{" not in c.text.replace(seed, "") for c in drawn)


def test_no_family_dominates() -> None:
    families = Counter(c.type.partition(":")[0] for drawn in _draws(3_000) for c in drawn)
    assert set(families) == set(FAMILIES)
    assert max(families.values()) < 0.12 * sum(families.values())


def test_include_exclude_weights_and_difficulty_choose_what_is_drawn() -> None:
    many = [compose(SEEDS[0], Random(i), n=3, include=["keywords", "punctuation:no_comma"]) for i in range(50)]
    assert {c.type.partition(":")[0] for drawn in many for c in drawn} == {"keywords", "punctuation"}
    assert all(c.type != "punctuation:no_exclamation" for drawn in many for c in drawn)
    without = [compose(SEEDS[0], Random(i), exclude=["keywords", "table:rows"], weights={"emoji": 0})
               for i in range(300)]
    assert not {"keywords", "emoji"} & {c.type.partition(":")[0] for drawn in without for c in drawn}
    assert "table:rows" not in {c.type for drawn in without for c in drawn}
    heavy = Counter(c.type.partition(":")[0] for i in range(300)
                    for c in compose(SEEDS[0], Random(i), n=1, weights={"keywords": 100.0}))
    assert heavy["keywords"] > 200
    easy = {c.type for i in range(300) for c in compose(SEEDS[0], Random(i), max_difficulty=1)}
    assert all(base.get(t).difficulty_hint == 1 for t in easy)


def test_fewer_are_returned_only_where_nothing_more_fits() -> None:
    only = ["change_case:english_capital", "change_case:english_lowercase"]
    assert len(compose(SEEDS[0], Random(1), n=2, include=only)) == 1
    assert compose(SEEDS[0], Random(1), n=0) == []


def test_wrong_requests_say_what_is_wrong() -> None:
    with pytest.raises(UserError, match="did you mean 'keywords'"):
        compose("x", Random(1), include=["keyword"])
    with pytest.raises(UserError, match="between 4 and 2"):
        compose("x", Random(1), low=4, high=2)
    with pytest.raises(UserError, match="below 0"):
        compose("x", Random(1), weights={"emoji": -1})


def test_a_users_own_file_adds_a_type_that_is_drawn_and_conflicts_like_any_other(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(all_types())
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    plugin = tmp_path / "mine.py"
    plugin.write_text('''
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands

@register
class Signed(ConstraintType):
    type = "mine:signed"
    descriptions = ("Sign with {name}", "End with the name {name}", "Close with {name}")
    def check(self, response, kwargs):
        return response.strip().endswith(kwargs["name"])
    def sample(self, rng, seed_prompt):
        return {"name": rng.choice(("Ada!", "Bob!"))}
    def demands(self, kwargs):
        return Demands(literals=(kwargs["name"],), ends=kwargs["name"])
''', encoding="utf-8")
    load_plugin(plugin)
    [mine] = compose("Say hello", Random(5), n=1, include=["mine"])
    assert mine.type == "mine:signed"
    assert conflict([mine, Constraint(type="punctuation:no_exclamation")])
    assert conflict([mine, Constraint(type="end:question")])


def test_pairs_of_types_that_never_meet_are_few_enough_for_variety() -> None:
    met: set[tuple[str, str]] = set()
    for drawn in _draws(6_000):
        met |= set(combinations(sorted(c.type for c in drawn), 2))
    types = len({c.type for drawn in _draws(1_000) for c in drawn})
    assert len(met) > 0.6 * types * (types - 1) / 2


@pytest.mark.parametrize("name", ["copy:copy", "custom"])
def test_a_type_that_is_only_read_from_data_is_said_to_be_known_but_not_drawn(name):
    with pytest.raises(UserError, match=f"'{name}' is known but only read from data"):
        compose("Describe a garden", Random(0), include=[name])
    assert compose("Describe a garden", Random(0), n=2, exclude=[name])
