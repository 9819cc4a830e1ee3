"""The judge's part: one criterion, asked about what rules and relevance let through."""

from __future__ import annotations

from if_factory.chat.parse import Failure
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import Ask
from if_factory.records import Usefulness

CRITERION = ("The response attempts what the request asks for, with content of its own: it is no refusal, no "
             "repetition or description of the request or its requirements, no offer or announcement, and not "
             "about something else. Whether it is good, complete or correct does not matter.")


async def judged(ask: Ask, prompt: str, response: str, before: Usefulness, *, tries: int = 3,
                 prompts: str | None = None) -> Usefulness:
    """``before`` as the judge decides it; a reply that cannot be read decides nothing, which is no pass."""
    # The short prompt: this one criterion is asked of every answer, and its figures were measured with it.
    found = await judge_criteria(ask, prompt, response, [CRITERION], tries=tries, prompts=prompts, variant="small")
    if isinstance(found, Failure):
        return before.model_copy(update={"answers": None, "reason": f"judge: {found.reason}",
                                         "decided_by": "judge"})
    answers = found[0].passed
    return before.model_copy(update={"answers": answers, "reason": "" if answers else "off_topic",
                                     "decided_by": "judge"})
