"""Worked examples are true: each satisfies its constraint, and none stands in the seeds or held-out prompts."""

from collections import Counter

import pytest

from if_factory.constraints.examples import WorkedExample, example_turns, worked_examples
from if_factory.constraints.verify import verify
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin
from if_factory.records import Constraint


@pytest.mark.parametrize("example", worked_examples(), ids=lambda e: e.prompt)
def test_every_example_satisfies_its_constraint(example: WorkedExample) -> None:
    (verdict,) = verify(example.answer, [example.constraint])
    assert verdict.passed, verdict.reason


def test_every_type_with_an_example_has_two() -> None:
    assert min(Counter(e.constraint.type for e in worked_examples()).values()) >= 2


def test_no_example_asks_what_a_seed_or_a_held_out_prompt_asks() -> None:
    asked = {row["prompt"] for name in ("seeds", "held_out") for _, row in read_rows(builtin(name))}
    assert not asked & {e.prompt for e in worked_examples()}


def test_turns_are_those_of_the_prompts_types_and_at_most_as_many_as_asked_for() -> None:
    title, comma = (Constraint(type=t) for t in ("detectable_format:title", "punctuation:no_comma"))
    turns = example_turns([title, comma, title], per_type=1)
    assert [t.role for t in turns] == ["user", "assistant"] * 2
    assert "<<" in turns[1].content
    assert "," not in turns[3].content
    assert example_turns([Constraint(type="no:such_type")], per_type=2) == []
    assert example_turns([title], per_type=0) == []
