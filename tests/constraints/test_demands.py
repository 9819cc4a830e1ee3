from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.constraints.demands import Demands, Range, Unsatisfiable, merge

RANGES = st.builds(Range, st.integers(0, 20), st.none() | st.integers(0, 20))


@given(RANGES, RANGES, st.integers(0, 25))
def test_the_intersection_of_two_ranges_holds_what_both_hold(a: Range, b: Range, n: int) -> None:
    assert (n in (a & b)) == (n in a and n in b)
    assert not ((a & b).empty and n in (a & b))


@pytest.mark.parametrize(("relation", "inside", "outside"), [
    ("exactly", [3], [2, 4]), ("at least", [3, 99], [2]), ("at most", [0, 3], [4]), ("less than", [0, 2], [3])])
def test_a_relation_is_a_range(relation: str, inside: list[int], outside: list[int]) -> None:
    assert all(n in Range.of(relation, 3) for n in inside)
    assert all(n not in Range.of(relation, 3) for n in outside)


PARTS = st.lists(st.builds(
    Demands,
    case=st.sampled_from([None, "lower", "upper"]), language=st.sampled_from([None, "en", "fr"]),
    starts=st.sampled_from([None, "Let", "Let us", '"', "So"]),
    ends=st.sampled_from([None, "me.", "with me.", '"']),
    counts=st.dictionaries(st.sampled_from(["words", "lines"]), RANGES.filter(lambda r: not r.empty)),
    exclusive=st.sampled_from([frozenset(), frozenset({"separator"})])), max_size=4)


@given(PARTS, st.randoms())
def test_the_order_of_the_parts_does_not_matter(parts: list[Demands], rng: object) -> None:
    def outcome(order: list[Demands]) -> Demands | None:
        try:
            return merge(order)
        except Unsatisfiable:
            return None

    forward, backward = outcome(parts), outcome(parts[::-1])
    assert (forward is None) == (backward is None)
    if forward and backward:
        assert (forward.counts, forward.starts, forward.ends, forward.case) == (
            backward.counts, backward.starts, backward.ends, backward.case)
        for unit, limit in forward.counts.items():
            assert limit.low == max(part.counts[unit].low for part in parts if unit in part.counts)


@pytest.mark.parametrize(("a", "b", "why"), [
    (Demands(counts={"words": Range(5)}), Demands(counts={"words": Range(0, 4)}), "at least 5 and at most 4"),
    (Demands(case="lower"), Demands(case="upper"), "one case"),
    (Demands(language="en"), Demands(language="fr"), "one language"),
    (Demands(owns="json"), Demands(owns="yaml"), "one form"),
    (Demands(starts="Let"), Demands(starts="Lettuce"), "start"),
    (Demands(ends="with me."), Demands(ends="?"), "end"),
    (Demands(starts="<a>"), Demands(starts='"'), "quotation mark"),
    (Demands(exclusive=frozenset({"title"})), Demands(exclusive=frozenset({"title"})), "title"),
])
def test_what_clashes_says_why(a: Demands, b: Demands, why: str) -> None:
    with pytest.raises(Unsatisfiable, match=why):
        merge([a, b])


def test_quotation_marks_stand_outside_what_opens_and_closes() -> None:
    quoted, phrased = Demands(starts='"', ends='"'), Demands(starts="Let us", ends="with me.")
    merged = merge([quoted, phrased, Demands(starts="let")])
    assert (merged.starts, merged.ends) == ('"Let us', 'with me."')
