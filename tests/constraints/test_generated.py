"""Constraints decided by generated functions: the vote, its reasons, and one fork for many responses."""

from collections.abc import Iterator

import pytest

from if_factory.constraints import generated
from if_factory.constraints.generated import configure, name, shared_pool, tally, verify_many
from if_factory.constraints.verify import verify
from if_factory.records import Constraint, Outcome, Verdict
from if_factory.sandbox import FunctionResult, Limits, Pool, isolation

LONG = "def evaluate(r): return len(r) > 3"
HAS_A = "def evaluate(r): return 'a' in r"
CRASH = "def evaluate(r): return r.no_such_method()"


@pytest.fixture(autouse=True)
def strong() -> Iterator[None]:
    if isolation().weak:
        pytest.skip(f"this machine isolates by {isolation()}")
    configure(workers=1, limits=Limits(cpu_seconds=0.3))
    yield
    configure()


def constraint(*functions: object, **kwargs: object) -> Constraint:
    return Constraint(type="generated:function", kind="generated_code", text="say a lot",
                      kwargs={"functions": list(functions), **kwargs})


@pytest.mark.parametrize(("response", "threshold", "outcome"), [
    ("abcd", 0.5, "pass"), ("bcde", 0.5, "pass"), ("bcde", 0.6, "fail"), ("abcd", 1, "pass"), ("x", 0.5, "fail"),
    ("x", 0, "pass")])
def test_the_share_of_true_decides(response: str, threshold: float, outcome: str) -> None:
    [verdict] = verify(response, [constraint(LONG, HAS_A, threshold=threshold)])
    assert verdict.outcome.value == outcome


def test_the_reason_counts_the_votes_and_names_who_is_against_and_who_is_silent() -> None:
    [verdict] = verify("bcde", [constraint(LONG, HAS_A, CRASH, threshold=0.6)])
    assert verdict.failed
    assert verdict.reason.startswith(f"1 of 2 functions say true; false: {name(HAS_A)}; "
                                     f"without a verdict: {name(CRASH)}: raised AttributeError")


def test_a_crash_is_no_vote_and_where_nobody_votes_there_is_no_verdict() -> None:
    assert verify("abcd", [constraint(LONG, CRASH, threshold=1)])[0].passed
    [verdict] = verify("abcd", [constraint(CRASH, "while True: pass", threshold=0)])
    assert verdict.outcome is Outcome.NO_VERDICT
    assert "AttributeError" in verdict.reason
    assert "timed out" in verdict.reason


@pytest.mark.parametrize("kwargs", [
    {}, {"functions": []}, {"functions": LONG}, {"functions": [LONG], "threshold": 2},
    {"functions": [LONG], "threshold": "half"}, {"functions": [LONG], "threshold": True}])
def test_arguments_that_make_no_sense_give_no_verdict(kwargs: dict[str, object]) -> None:
    broken = Constraint(type="generated:function", kind="generated_code", kwargs=kwargs)
    assert verify("abcd", [broken])[0].outcome is Outcome.NO_VERDICT


def test_a_function_that_is_not_text_has_no_vote() -> None:
    assert "not text" in verify("abcd", [constraint({"func": 1})])[0].reason


def test_many_responses_cost_one_fork_per_function(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    run = Pool.run

    def counted(self: Pool, source: str, inputs: list[str]) -> FunctionResult:
        calls.append(len(inputs))
        return run(self, source, inputs)

    monkeypatch.setattr(Pool, "run", counted)
    texts = ["abcd", "x", "bcde"]
    many = verify_many(texts, constraint(LONG, HAS_A, threshold=1))
    assert calls == [3, 3]
    assert many == tuple(verify(t, [constraint(LONG, HAS_A, threshold=1)])[0] for t in texts)
    assert verify_many([], constraint(LONG)) == ()


def test_loose_forgives_the_first_line_as_for_any_constraint() -> None:
    says_b = constraint("def evaluate(r): return r.startswith('b')")
    assert verify("Sure:\nbcd", [says_b])[0].failed
    assert verify("Sure:\nbcd", [says_b], "loose")[0].passed


def test_an_empty_response_fails_without_running_anything() -> None:
    assert verify(" \n", [constraint("def evaluate(r): return True")])[0].reason == "empty response"


def test_the_pool_is_started_once_and_again_under_other_settings() -> None:
    first = shared_pool()
    assert shared_pool() is first
    configure(workers=1, limits=Limits(cpu_seconds=0.3))
    assert shared_pool() is first
    configure(workers=1, limits=Limits(cpu_seconds=0.4))
    second = shared_pool()
    assert second is not first
    with pytest.raises(RuntimeError, match="closed"):
        first.run(LONG, ["a"])
    generated.close_shared_pool()
    assert shared_pool() is not second


def test_the_tally_needs_no_sandbox() -> None:
    votes = [Verdict(outcome=Outcome.PASS), Verdict(outcome=Outcome.FAIL), Verdict(outcome=Outcome.NO_VERDICT)]
    sources = [LONG, HAS_A, CRASH]
    assert tally(constraint(*sources, threshold=0.5), votes).passed
    assert tally(constraint(*sources, threshold=0.51), votes).failed
    assert tally(constraint(*sources, more_than=0.5), votes).failed
    assert tally(constraint(*sources, more_than=0.49), votes).passed
