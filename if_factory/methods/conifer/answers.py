"""From a version to what is trained on: verified answers, criticised attempts, conversations up the levels."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from random import Random

from if_factory.chat.parse import Failure, ask_parsed, parse_tagged
from if_factory.emission import emit_sft
from if_factory.judge.judge import judge_of
from if_factory.judge.verdicts import decide
from if_factory.methods.base import template
from if_factory.methods.conifer.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Candidate, Record, Refusal, Turn


async def answer(record: Record, ctx: Context, *, options: Options) -> Record:
    """The teacher's answers, each with all its verdicts, until one passes them."""
    for i in range(options.answers):
        if record.extra["form"] == "internal":
            candidate = await _explained_answer(record, ctx, options, i)
        else:
            reply = await ctx.chat("teacher", record.messages(), sample=i)
            candidate = Candidate(text=reply.text.strip(), source="answer", model="teacher",
                                  finish_reason=reply.finish_reason)
        if candidate is None:
            continue
        record = record.with_candidates(await _checked(record, candidate, ctx, options))
        if good(record):
            return record
    if not record.candidates:
        raise Dropped("no_readable_answer")
    why = emit_sft(record, record.candidates[-1])
    raise Dropped("no_verified_answer", why.reason if isinstance(why, Refusal) else "")


async def _explained_answer(record: Record, ctx: Context, options: Options, sample: int) -> Candidate | None:
    requirements = [c.text for c in record.constraints if c.type == "scope:above_rule"]
    ask = template(NAME, "explain", options.prompts).render(instruction=record.extra["version"],
                                                           requirements=requirements)
    messages = record.model_copy(update={"prompt": ask}).messages()
    reply = await ctx.chat("teacher", messages, sample=sample)
    answer, how = parse_tagged(reply.text, "answer"), parse_tagged(reply.text, "how")
    if isinstance(answer, Failure) or isinstance(how, Failure):
        return None
    found = re.findall(r"(?m)^\s*\d+[.)]\s+(\S.*)$", how)
    if len(found) != len(requirements):
        return None
    points = "\n".join(f"{i}. {' '.join(point.split())}" for i, point in enumerate(found, 1))
    return Candidate(text=f"{answer}\n\n---\n{points}", source="explained", model="teacher",
                     finish_reason=reply.finish_reason)


async def attempt(record: Record, ctx: Context, *, options: Options) -> Record:
    """The student's attempts at the hardest version, and what the teacher says about a failing one.

    ``extra["feedback"]`` is about the first failing attempt, ``extra["attempt"]`` its position among the
    candidates; it is empty if the teacher's words could not be read.
    """
    if not (is_hardest(record, options) and ctx.has("student")):
        return record
    for i in range(options.baselines):
        reply = await ctx.chat("student", record.messages(), sample=i)
        candidate = Candidate(text=reply.text.strip(), source="baseline", model="student",
                              finish_reason=reply.finish_reason)
        record = record.with_candidates(await _checked(record, candidate, ctx, options))
    failing = [i for i, c in enumerate(record.candidates) if c.source == "baseline" and fails(c)]
    if not failing or options.feedback not in ("both", "external"):
        return record
    weak = record.candidates[failing[0]]
    missed = [{"text": record.constraints[i].text, "reason": weak.verdicts[i].reason}
              for i in weak.failed_positions]
    ask = template(NAME, "feedback", options.prompts).render(instruction=record.prompt, response=weak.text,
                                                            missed=missed)
    feedback = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                                partial(parse_tagged, tag="feedback"))
    return record.with_extra(feedback="" if isinstance(feedback, Failure) else feedback, attempt=failing[0])


def is_hardest(record: Record, options: Options) -> bool:
    return bool(record.extra["form"] == "conversation" and record.extra["level"] == max(options.levels))


async def converse(records: list[Record], ctx: Context, *, options: Options
                   ) -> tuple[list[Record], list[tuple[Record, Dropped]]]:
    """Levels of one question, of one seed's, become one conversation: the last one gets the others as its history.

    The others stay records of their own, marked by ``extra["turn_of"]``. Left out of the conversation are one whose
    answer a later level repeats, marked by ``extra["answer_of_another_level"]``, and one that the judge refused since.
    """
    if options.order == "single_turn":
        return records, []
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.extra["form"] == "conversation" and good(record):
            groups[str(record.parent)].append(record)
    changed: dict[str, Record] = {}
    for parent, group in groups.items():
        *before, last = in_order(group, options.order, ctx.rng(parent, "order"))
        later = {good(last)[0].text}
        history: list[Turn] = []
        for r in before[::-1]:
            text = good(r)[0].text
            if text in later:  # an answer that stays as it is shows no step: the last one that has it is enough
                changed[r.id] = r.with_extra(answer_of_another_level=True)
                continue
            later.add(text)
            history[:0] = Turn(role="user", content=r.prompt), Turn(role="assistant", content=text)
            changed[r.id] = r.with_extra(turn_of=last.id)
        changed[last.id] = last.model_copy(update={"history": tuple(history),
                                                   "difficulty": max(r.difficulty for r in group)})
    return [changed.get(r.id, r) for r in records], []


def in_order(levels: list[Record], order: str, rng: Random) -> list[Record]:
    """The levels of one question in the order in which a conversation asks them."""
    climbing = sorted(levels, key=lambda r: r.difficulty)
    if order == "random":
        return rng.sample(climbing, len(climbing))
    return climbing[::-1] if order == "hard_to_easy" else climbing


def good(record: Record) -> list[Candidate]:
    """The teacher's answers that may be trained on, by the rule of emission: they are used in histories too."""
    return [c for c in record.candidates
            if c.source in ("answer", "explained") and not isinstance(emit_sft(record, c), Refusal)]


def fails(candidate: Candidate) -> bool:
    return bool(candidate.failed_positions) and candidate.finish_reason == "stop"


async def _checked(record: Record, candidate: Candidate, ctx: Context, options: Options) -> Candidate:
    verdicts = await decide(judge_of(ctx), record.prompt, candidate.text, record.constraints,
                            variant=options.prompt_variant)
    return (await ctx.useful(record, [candidate.model_copy(update={"verdicts": verdicts})]))[0]
