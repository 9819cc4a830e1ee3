"""Whether an answer solves its prompt: it satisfies every constraint and attempts the request.

The one place that counts answers towards a pass rate: those of a run (``export --rl``) and those that were sampled
to measure it (``difficulty.py``). Code and the usefulness gate decide first; a judge is asked only about what they
let through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from if_factory.chat.parse import Failure
from if_factory.constraints.recheck import rechecked
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import Ask, Variant, judge_score
from if_factory.records import Candidate, Constraint, Record
from if_factory.usefulness.gate import Gate, asked_of, decided
from if_factory.usefulness.judge import judged as judged_useful

Solved = bool | None
"""``None``: a verdict that it depends on cannot be had."""


def solved_by_code(gate: Gate, records: Sequence[Record]) -> list[list[Solved]]:
    """By record and candidate, without the constraints that only a judge decides.

    An answer cut at the token limit is read as it stands, as ``evaluate`` reads it.
    """
    return [[_outcome(c) for c in record.candidates]
            for record in decided(gate, [rechecked(without_judged(record)) for record in records])]


def without_judged(record: Record) -> Record:
    """The record with the constraints that code decides, its candidates without verdicts, none of them cut."""
    return record.model_copy(update={
        "constraints": tuple(c for c in record.constraints if c.kind != "judge"),
        "candidates": tuple(c.model_copy(update={"verdicts": (), "usefulness": None, "finish_reason": "stop"})
                            for c in record.candidates)})


async def solved_by_judge(gate: Gate, record: Record, by_code: Sequence[Solved], ask: Ask) -> list[Solved]:
    """``by_code`` with a judge asked about the answers it lets through: usefulness, then the record's criteria."""
    criteria = [c for c in record.constraints if c.kind == "judge"]
    useful_too = gate.spec.judge != "off" and not record.extra.get("bare")

    async def one(candidate: Candidate, before: Solved) -> Solved:
        if before is False:
            return False
        found: list[Solved] = [before]
        if useful_too:
            (item,) = decided(gate, [without_judged(record.model_copy(update={"candidates": (candidate,)}))])
            useful = item.candidates[0].usefulness
            assert useful is not None
            found.append((await judged_useful(ask, asked_of(record).full, candidate.text, useful)).answers)
        if found[-1] is not False:
            found += await criteria_hold(record.prompt, candidate.text, criteria, ask)
        return False if False in found else None if None in found else True

    return list(await asyncio.gather(*(one(c, b) for c, b in zip(record.candidates, by_code, strict=True))))


async def criteria_hold(prompt: str, text: str, criteria: Sequence[Constraint], ask: Ask, *,
                        variant: Variant = "full") -> list[Solved]:
    """Whether the answer ``text`` satisfies each criterion, by position; ``None`` where no reply could be read.

    Raises:
        RequestFailed, UserError: as ``ask``.
    """
    plain = [c.text for c in criteria if not ("at_least" in c.kwargs and ("scale" in c.kwargs or "of" in c.kwargs))]
    said = iter(await _holds(prompt, text, plain, ask, variant))
    found: list[Solved] = []
    for c in criteria:
        if "scale" in c.kwargs and "at_least" in c.kwargs:  # Humpback: a rating
            low, high = c.kwargs["scale"]
            mean = (await judge_score(ask, prompt, text, low=low, high=high)).mean
            found.append(None if mean is None else mean >= c.kwargs["at_least"])
        elif "of" in c.kwargs and "at_least" in c.kwargs:  # DecIF's soft filter: a share of the criteria
            each = await _holds(prompt, text, c.kwargs["of"], ask, variant)
            found.append(None if None in each else sum(map(bool, each)) >= c.kwargs["at_least"])
        else:
            found.append(next(said))
    return found


async def _holds(prompt: str, text: str, criteria: Sequence[str], ask: Ask, variant: Variant) -> list[Solved]:
    said = await judge_criteria(ask, prompt, text, criteria, variant=variant)
    return [None] * len(criteria) if isinstance(said, Failure) else [v.passed for v in said]


def _outcome(candidate: Candidate) -> Solved:
    useful = candidate.usefulness is None or candidate.usefulness.answers
    if candidate.failed_positions or useful is False:
        return False
    return True if candidate.verified and useful else None
