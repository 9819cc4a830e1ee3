"""Votes: an answer is good if it passes, bad only if no function accepts it, and nothing in between."""

import asyncio

import pytest

from if_factory.constraints.generated import shared_pool
from if_factory.methods.autoif.votes import put_to_former_vote, put_to_vote, said
from if_factory.records import Candidate, Constraint

TRUE, FALSE = "def evaluate(r):\n    return True", "def evaluate(r):\n    return False"
CRASH = "def evaluate(r):\n    raise ValueError"


def vote(*functions, more_than=0.5):
    constraint = Constraint(type="generated:function", kind="generated_code",
                            kwargs={"functions": list(functions), "more_than": more_than})
    return asyncio.run(put_to_vote([constraint], [Candidate(text="x", source="test")]))[0]


@pytest.mark.parametrize(("functions", "good", "bad"), [
    ((TRUE,), True, False), ((FALSE,), False, True), ((TRUE, FALSE), False, False),
    ((TRUE, TRUE + "\n", FALSE), True, False), ((CRASH,), False, False), ((CRASH, FALSE), False, True),
    ((CRASH, TRUE), True, False)])
def test_good_bad_and_neither(functions, good, bad):
    voted = vote(*functions)
    assert voted.accepted("> 0.5") is good
    assert voted.refused() is bad


def test_each_function_is_named_with_what_it_said():
    assert list(vote(TRUE, FALSE, CRASH).votes[0].values()) == [True, False, None]


def test_the_bound_of_a_chosen_answer_may_be_stricter_than_the_constraints_own():
    voted = vote(TRUE, FALSE, more_than=0)
    assert voted.candidate.verified
    assert voted.accepted(">= 0.5")
    assert not voted.accepted("> 0.5")


def test_constraints_with_a_checker_are_decided_by_it():
    comma = Constraint(type="punctuation:no_comma")
    good, bad = asyncio.run(put_to_vote([comma], [Candidate(text=t, source="test") for t in ("a", "a, b")]))
    assert good.accepted("> 0.5")
    assert not good.refused()
    assert bad.refused()
    assert good.votes == [{}]


def test_a_former_vote_counts_as_the_same_functions_run_again():
    constraint = Constraint(type="generated:function", kind="generated_code",
                            kwargs={"functions": [TRUE, CRASH, "def evaluate(r):\n    return 'a' in r"]})
    candidates = [Candidate(text=t, source="test") for t in ("a", "b")]
    voted = asyncio.run(put_to_vote([constraint], candidates))
    votes = {c.text: said(shared_pool().run(source, [c.text]).verdicts[0] for source in constraint.kwargs["functions"])
             for c in candidates}
    assert votes == {"a": [True, "raised ValueError: ", True], "b": [True, "raised ValueError: ", False]}
    assert put_to_former_vote(constraint, candidates, votes) == voted
