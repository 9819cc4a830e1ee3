"""One answer against one ``ground_truth``: what checkers and the usefulness rules say, without a model or a sandbox.

The same function runs in this process and in a worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from if_factory.constraints.verify import verify
from if_factory.records import Outcome
from if_factory.rewards.truth import asked_of, read_truth
from if_factory.usefulness.rules import why_not

How = Literal["fraction", "all"]
PASS, FAIL, NONE, LATER = "pfn?"  # LATER: generated code, which the caller has the sandbox decide
_CODE = {Outcome.PASS: PASS, Outcome.FAIL: FAIL, Outcome.NO_VERDICT: NONE}


@dataclass(frozen=True, slots=True)
class Job:
    """Answers to one prompt.

    Attributes:
        truth: the ``ground_truth`` string.
        prompt: the last user turn, for a ``truth`` that names no prompt; ``history``: user turns before it.
        texts: the answers.
        usefulness: apply the rules.
        how: ``all`` saves the rules for answers that a failed constraint has decided already.
        judge: a judge decides later what code cannot, and the string's own ``judged`` counts too.
    """

    truth: str
    prompt: str
    history: tuple[str, ...]
    texts: tuple[str, ...]
    usefulness: bool
    how: How
    judge: bool = False


def checked(job: Job, text: str) -> tuple[str, str]:
    """One character per constraint, and why the answer does not attempt the request (empty: no rule says so)."""
    truth = read_truth(job.truth)
    constraints = truth.counted(job.judge)
    if not text.strip():
        return FAIL * len(constraints), "only_required_text"
    undecidable = truth.undecidable
    outcomes = "".join(
        LATER if c.kind == "generated_code" else
        NONE if c.kind == "judge" or c.type in undecidable else
        _CODE[verify(text, (c,), reasons=False)[0].outcome] for c in constraints)
    worthless = FAIL in outcomes if job.how == "all" else set(outcomes) <= {FAIL}
    if not job.usefulness or worthless:
        return outcomes, ""
    return outcomes, why_not(asked_of(job.truth, job.prompt, job.history), text) or ""
