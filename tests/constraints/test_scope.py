"""Constraints on the part above a line of three hyphens are decided on that part and on nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.constraints.compose import compose
from if_factory.constraints.types.extra.scope import split_at_rule
from if_factory.constraints.verify import verify
from if_factory.records import Constraint

NO_COMMA = Constraint(type="scope:above_rule",
                      kwargs={"type": "punctuation:no_comma", "kwargs": {}, "text": "Use no commas"})
TWO_POINTS = Constraint(type="scope:points_below_rule", kwargs={"points": 2})


def passed(response: str, constraint: Constraint) -> bool:
    return verify(response, [constraint])[0].passed


@pytest.mark.parametrize(("response", "holds"), [
    ("No commas here\n---\n1. yes, here", True),
    ("A comma, here\n---\n1. none here", False),
    ("No rule and no comma", True),
    ("Two\n---\nrules, and a comma\n---\nbelow the last, too", False),
    ("---\nnothing above", False),
    ("a line with --- inside, and a comma", False),
])
def test_only_what_is_above_the_last_rule_is_checked(response: str, holds: bool) -> None:
    assert passed(response, NO_COMMA) is holds


@pytest.mark.parametrize(("response", "holds"), [
    ("Answer\n---\n1. this\n2. that", True), ("Answer\n---\n1. this", False), ("1. this\n2. that", False),
    ("1. a\n2. b\n---\n1. this\n2. that\n3. more", False), ("Answer\n---\n1. this\n2.", False),
])
def test_points_are_counted_below_the_rule(response: str, holds: bool) -> None:
    assert passed(response, TWO_POINTS) is holds


@given(st.text(alphabet="a,-\n ", max_size=30), st.text(alphabet="b1. ", max_size=10))
def test_the_last_rule_splits(above: str, below: str) -> None:
    assert split_at_rule(f"{above}\n---\n{below}") == (above.strip(), below.strip())


def test_the_composer_never_draws_them() -> None:
    from random import Random

    drawn = [c.type for i in range(300) for c in compose("Describe a harbour town.", Random(i), n=6)]
    assert not [t for t in drawn if t.startswith("scope:")]
