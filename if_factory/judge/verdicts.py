"""All the verdicts on one response, each from its own source: a checker, the sandbox, or a judge."""

from __future__ import annotations

from collections.abc import Sequence

from if_factory.chat.parse import Failure
from if_factory.constraints.verify import verify
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import Ask, Variant
from if_factory.records import Constraint, Outcome, Verdict

CRITERION = "judge:criterion"


def criterion(text: str) -> Constraint:
    """A constraint that no code can decide."""
    return Constraint(type=CRITERION, kind="judge", text=text)


async def decide(ask: Ask, prompt: str, response: str, constraints: Sequence[Constraint], *, tries: int = 3,
                 prompts: str | None = None, variant: Variant = "full") -> tuple[Verdict, ...]:
    """One verdict per constraint, by position.

    Code decides first; a response that already fails by code is not worth a judge's time, and what the judge
    would have decided then stays ``no_verdict``. So does everything a judge's unreadable answer was about.
    """
    verdicts = list(verify(response, constraints))
    judged = [i for i, c in enumerate(constraints) if c.kind == "judge"]
    if not judged:
        return tuple(verdicts)
    if any(v.failed for v in verdicts):
        why = Verdict(outcome=Outcome.NO_VERDICT, reason="not asked: the response fails by code")
        found: Sequence[Verdict] = [why] * len(judged)
    else:
        answer = await judge_criteria(ask, prompt, response, [constraints[i].text for i in judged], tries=tries,
                                      prompts=prompts, variant=variant)
        found = ([Verdict(outcome=Outcome.NO_VERDICT, reason=f"judge: {answer.reason}")] * len(judged)
                 if isinstance(answer, Failure) else answer)
    for i, verdict in zip(judged, found, strict=True):
        verdicts[i] = verdict
    return tuple(verdicts)
