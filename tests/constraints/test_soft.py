"""The taxonomy of soft constraints, and drawing them beside checkable ones."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.constraints.base import get
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.soft import Aspect, draw, draw_aspects, pool, taxonomy
from if_factory.errors import UserError
from if_factory.records import Constraint

SEED = "Describe how a small bakery prepares its bread and cakes in the morning for its customers."


def drawn(seed: int, n: int = 5, share: float = 0.5, **options):
    places = draw(SEED, Random(seed), n=n, soft_share=share, aspects=pool(), **options)
    return places, [p for p in places if isinstance(p, Aspect)], [p for p in places if isinstance(p, Constraint)]


def test_the_five_families_of_constraint_benchmarks_are_there_and_more():
    families = Counter(a.family for a in taxonomy())
    assert {"content", "situation", "style", "format", "example"} < set(families)
    assert min(families.values()) >= 5
    texts = [a.write for a in taxonomy()]
    assert len(set(texts)) == len(texts)


def test_types_of_soft_constraints_are_no_checkable_types_and_are_left_to_a_judge():
    for aspect in taxonomy():
        made = aspect.constraint("Be kind.")
        assert (made.kind, made.text) == ("judge", "Be kind.")
        with pytest.raises(UserError):
            get(made.type)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 1))
def test_whatever_is_drawn_goes_together(seed, n, share):
    places, soft, hard = drawn(seed, n, share)
    assert len(places) == n
    assert len({a.slot for a in soft}) == len(soft)
    assert not any(a.bars(c) for a in soft for c in hard)
    assert conflict(hard) is None
    assert len({p.type for p in places}) == n
    assert abs(len(soft) - share * n) < 1
    assert drawn(seed, n, share)[0] == places


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_mean_share_is_the_one_asked_for_with_no_place_lost(share):
    kinds = Counter(isinstance(p, Aspect) for seed in range(400) for p in drawn(seed, 5, share)[0])
    assert kinds.total() == 2000
    assert kinds[True] / 2000 == pytest.approx(share, abs=0.02)


def test_soft_and_checkable_constraints_come_in_any_order():
    first = Counter(isinstance(drawn(seed)[0][0], Aspect) for seed in range(200))
    assert 60 < first[True] < 140


def test_every_family_comes_before_one_comes_twice_and_every_aspect_comes():
    seen: Counter[str] = Counter()
    for seed in range(1500):
        found = draw_aspects(Random(seed), 4, pool())
        assert len({a.family for a in found}) == 4
        seen.update(a.type for a in found)
    assert set(seen) == {a.type for a in pool()}


def test_a_further_aspect_goes_with_those_taken_and_with_the_constraints_beside_it():
    tone = next(a for a in pool() if a.type == "soft_style:tone")
    json_only = Constraint(type="json:keys", kwargs={"keys": ["a"]})
    for seed in range(200):
        for aspect in draw_aspects(Random(seed), 3, pool(), [tone], [json_only]):
            assert aspect.slot != tone.slot
            assert not aspect.bars(json_only)


def test_a_fixed_answer_leaves_no_room_for_any_soft_constraint():
    fixed = Constraint(type="detectable_format:constrained_response")
    assert draw_aspects(Random(0), 1, pool(), beside=[fixed]) == []


def test_pools_are_narrowed_by_family_or_type():
    assert {a.family for a in pool(["style"])} == {"style"}
    assert [a.type for a in pool(["soft_style:tone"])] == ["soft_style:tone"]
    assert "style" not in {a.family for a in pool((), ["style"])}
    with pytest.raises(UserError, match="did you mean 'style'"):
        pool(["stile"])
    with pytest.raises(UserError, match="exclude less"):
        pool(["style"], ["style"])


OWN = "families: {mood: {what: the mood, aspects: {calm: {write: calm}, wild: {write: wild, clashes: [%s]}}}}"


def test_a_taxonomy_of_ones_own_takes_the_place_of_ours(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN % "json")
    assert [a.type for a in taxonomy(str(path))] == ["soft_mood:calm", "soft_mood:wild"]
    assert taxonomy(str(path))[1].clashes == {"json"}


@pytest.mark.parametrize(("text", "says"), [
    (OWN % "jason", "did you mean 'json'"), ("families: {", "not valid YAML"), ("families: {}", "families"),
    ("groups: {a: [json]}", "families"), ("families: {mood: {what: x, aspects: {calm: {writ: calm}}}}", "calm"),
    ("[]", "mine.yaml")])
def test_a_broken_taxonomy_is_refused_with_the_place(tmp_path, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as e:
        taxonomy(str(path))
    assert "mine.yaml" in str(e.value)
