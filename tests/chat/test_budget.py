from __future__ import annotations

from if_factory.chat.base import Completion
from if_factory.chat.budget import Price, Tally, Usage


def test_usage_is_kept_by_stage_and_role_and_adds_up() -> None:
    usage = Usage()
    usage.tally("correct", "teacher").add(Completion("a", "length", 10, 20), 0.5)
    usage.tally("correct", "teacher").add(Completion("b", "content_filter", 1, 2), 0.25)
    usage.tally("answer", "student").add(Completion("c", "stop", 100, 200), 0.0)
    assert [(*key, t.prompt_tokens, t.completion_tokens, t.truncated, t.filtered, t.cost)
            for key, t in usage.tallies.items()] == [("correct", "teacher", 11, 22, 1, 1, 0.75),
                                                     ("answer", "student", 100, 200, 0, 0, 0.0)]
    assert (usage.total().prompt_tokens, usage.total().cost) == (111, 0.75)


def test_an_unknown_price_makes_the_cost_unknown_and_not_zero() -> None:
    usage = Usage()
    usage.tally("a", "teacher").add(Completion("x", "stop", 1, 1), None)
    usage.tally("a", "student").add(Completion("x", "stop", 1, 1), 1.0)
    assert [t.cost for t in usage.tallies.values()] == [None, 1.0]
    assert usage.total().cost is None


def test_an_unused_run_costs_nothing() -> None:
    assert Usage().total() == Tally()


def test_a_price_is_per_million_tokens() -> None:
    assert Price(prompt=3, completion=15).of(Completion("", "stop", 1_000_000, 2_000_000)) == 33
