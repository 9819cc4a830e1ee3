"""From an instruction to rows: responses, one verdict per constraint and criterion, and what is let out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import ceil
from typing import Any

from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.judge.judge import judge_of
from if_factory.judge.verdicts import criterion, decide
from if_factory.methods.base import Emission
from if_factory.methods.decif.instructions import questions
from if_factory.methods.decif.options import NAME, Options
from if_factory.pipeline.stage import Context
from if_factory.records import (
    Candidate,
    Constraint,
    Outcome,
    Record,
    Verdict,
    emit_kto,
    emit_preference,
    emit_sft,
)

SHARE = "judge:share"


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """Responses to the prompt as it will be trained on; which of them follow it is found out next."""
    asks = [("teacher", i) for i in range(options.responses)]
    asks += [("student", i) for i in range(options.student_responses) if ctx.has("student")]
    answers = await asyncio.gather(*(ctx.chat(role, record.messages(), sample=i) for role, i in asks))
    return record.with_candidates(*(
        Candidate(text=answer.text.strip(), source=role, model=role, finish_reason=answer.finish_reason)
        for (role, _), answer in zip(asks, answers, strict=True)))


async def judge(record: Record, ctx: Context, *, options: Options) -> Record:
    """One verdict per constraint: code first; the judge only where nothing has failed yet."""
    ask = judge_of(ctx)

    async def verdicts(candidate: Candidate) -> Candidate:
        if candidate.text and candidate.finish_reason == "stop":
            found = await decide(ask, record.prompt, candidate.text, record.constraints, tries=options.tries,
                                 prompts=options.prompts)
        else:  # cut off or empty: never emitted as good, so not worth a judge's time
            found = verify(candidate.text, record.constraints)
        return candidate.model_copy(update={"verdicts": found})

    return record.model_copy(update={"candidates": tuple(
        await asyncio.gather(*map(verdicts, record.candidates)))})


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """SFT: responses that pass the filter. DPO: one of them over one that fails. KTO: some of both."""
    if options.filter == "soft":
        record = softened(record, options.soft_pass)
    candidates = list({c.text: c for c in reversed(record.candidates)}.values())[::-1]
    whole = [c for c in candidates if c.text and c.finish_reason == "stop"]
    good = [c for c in whole if c.verified]
    bad = sorted((c for c in whole if c.failed_positions), key=lambda c: len(c.failed_positions))
    if not good:
        why = _why_none(candidates, whole)
        out.refused["sft"][why] += 1
        out.refused["dpo"][why] += 1
    elif not bad:
        out.refused["dpo"]["nothing_to_reject"] += 1
    for c in good[:options.sft_per_instruction]:
        out.add(emit_sft(record, c), "sft")
    for i, worse in enumerate(bad[:options.pairs_per_instruction] if good else []):
        out.add(emit_preference(record, good[i % len(good)], worse), "dpo")
    for c in [*good[:options.kto_per_instruction], *bad[:options.kto_per_instruction]]:
        out.add(emit_kto(record, c), "kto")


def _why_none(candidates: list[Candidate], whole: list[Candidate]) -> str:
    if any(not c.failed_positions for c in whole):
        return "no_verdict"
    return "truncated" if len(whole) < len(candidates) else "no_verified_answer"


def softened(record: Record, share: float) -> Record:
    """The record as the soft filter sees it: instead of every criterion, that ``share`` of them hold.

    The row then says no more than was found out. A criterion without a verdict leaves the share without one.
    """
    judged = [i for i, c in enumerate(record.constraints) if c.kind == "judge"]
    if not judged:
        return record
    needed = ceil(share * len(judged) - 1e-9)
    texts = [record.constraints[i].text for i in judged]
    whole = Constraint(type=SHARE, kind="judge", text=f"At least {needed} of these {len(judged)} hold.",
                       kwargs={"at_least": needed, "of": texts})

    def candidate(c: Candidate) -> Candidate:
        own = [v for i, v in enumerate(c.verdicts) if i not in judged]
        found = [c.verdicts[i] for i in judged if i < len(c.verdicts)]
        held = sum(v.passed for v in found)
        decided = len(found) == len(judged) and all(v.passed or v.failed for v in found)
        outcome = Outcome.NO_VERDICT if not decided else Outcome.PASS if held >= needed else Outcome.FAIL
        return c.model_copy(update={
            "verdicts": (*own, Verdict(outcome=outcome, reason=f"{held} of {len(judged)} hold"))})

    own = [c for i, c in enumerate(record.constraints) if i not in judged]
    return record.model_copy(update={"constraints": (*own, whole),
                                     "candidates": tuple(map(candidate, record.candidates))})


# ---------------------------------------------------------------- rows judged elsewhere


def read_judged(row: Mapping[str, Any], where: str = "row") -> Record:
    """A row of upstream's judged files as a record, for ``emit_sft`` to let through or refuse.

    Fields: ``refined_instruction`` (or ``instruction``), ``response``, ``criteria``, ``evaluation_results``
    (``YES`` or ``NO``). Lines that are no question are no criteria. Only if there are exactly as many results as
    criteria does any of them count: which one is missing cannot be told.

    Raises:
        UserError: a field that is missing or of another type.
    """
    prompt = row.get("refined_instruction", row.get("instruction"))
    response, lines, results = (row.get(name) for name in ("response", "criteria", "evaluation_results"))
    for name, value, kind in (("refined_instruction", prompt, str), ("response", response, str),
                              ("criteria", lines, list), ("evaluation_results", results, list)):
        if not isinstance(value, kind):
            raise UserError(f"expected a {'string' if kind is str else 'list'}", where=f"{where}: field '{name}'",
                            fix="a row is {refined_instruction, response, criteria, evaluation_results}")
    assert isinstance(prompt, str)
    assert isinstance(response, str)
    criteria = questions([str(line) for line in lines or ()])
    said = {"YES": Outcome.PASS, "NO": Outcome.FAIL}
    outcomes = [said.get(str(result).strip().upper(), Outcome.NO_VERDICT) for result in results or ()]
    if len(outcomes) != len(criteria) or not criteria:
        outcomes = [Outcome.NO_VERDICT] * max(1, len(criteria))
    constraints = tuple(map(criterion, criteria)) or (criterion("(none was written)"),)
    record = Record.from_seed(prompt, method=NAME).child(prompt, constraints, difficulty=len(criteria))
    return record.with_candidates(Candidate(text=response, source="upstream",
                                            verdicts=tuple(Verdict(outcome=o) for o in outcomes)))
