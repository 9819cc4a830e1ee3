"""AutoIF's first half: instructions, the functions that verify them, and the checks that both have to pass."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

from pydantic import BaseModel, model_validator

from if_factory.chat.base import Completion
from if_factory.chat.lists import parse_items
from if_factory.chat.parse import Failure, ask_parsed, parse_json
from if_factory.chat.schemas import schema_of
from if_factory.constraints.generated import shared_pool
from if_factory.errors import UserError
from if_factory.inputs.seeds import builtin, read_instructions
from if_factory.judge.judge import judge_of
from if_factory.judge.nli import relations
from if_factory.methods.autoif.cross_validation import (
    NOTHING,
    Case,
    WrittenFunction,
    cross_validate,
    distinct,
    drop_download_lines,
    parse_apart,
    parse_written,
)
from if_factory.methods.autoif.options import NAME, Options
from if_factory.methods.autoif.votes import said
from if_factory.methods.base import template
from if_factory.pipeline.stage import Context, Dropped, Each, Together
from if_factory.records import Constraint, Record, content_id
from if_factory.sandbox import FunctionResult
from if_factory.similarity.dedup import near_duplicates

SHOWN = 40  # instructions of the pool in one call


def inputs(path: Path | None, options: Options, limit: int | None) -> list[Record]:
    """Seed instructions, then one record per augmentation call, which becomes new instructions.

    A call carries the pool it is to show (``pool``, ``counterexamples``) and its round, from 1.

    The file has rows ``{"instruction", "verifiable"?}``, or, as ``.txt``, one instruction per line. Those marked
    ``"verifiable": false`` are shown to the teacher as what not to write, and go no further.

    Raises:
        UserError: names the row and the field; also for a file without an instruction that can be verified.
    """
    path = path or builtin("instructions")
    rows = read_instructions(path)[:limit]
    good = [text for text, verifiable in rows if verifiable is not False]
    bad = [text for text, verifiable in rows if verifiable is False]
    if not good:
        raise UserError("no instruction that can be verified", where=str(path),
                        fix='add rows like {"instruction": "Use exactly 40 words."}')
    seeds = [_instruction(text, origin="seed", verifiable=verifiable, round=1) for text, verifiable in rows]
    rounds = min(options.augment_rounds, options.augment_calls)
    calls = [Record(id=content_id("augmentation", i), method=NAME, seed_prompt=f"augmentation {i}",
                    prompt=f"augmentation {i}",
                    extra={"origin": "augmentation", "call": i, "round": 1 + i * rounds // options.augment_calls,
                           "pool": good, "counterexamples": bad})
             for i in range(options.augment_calls)]
    return seeds + calls


def _instruction(text: str, **extra: Any) -> Record:
    return Record.from_seed(text, method=NAME, extra=extra)


def in_round(stage: Each, number: int) -> Each:
    """``stage`` for the records of one round; those of other rounds pass as they are."""
    async def run(record: Record, ctx: Context) -> Record | list[Record]:
        return await stage(record, ctx) if record.extra["round"] == number else record

    return run


async def grow_pool(records: Sequence[Record], ctx: Context, *, number: int) -> Together:
    """The calls of a round show what was accepted before it, too: what has come here with its functions."""
    accepted = [r.prompt for r in records if r.extra["origin"] == "augmented"]
    return (r.with_extra(pool=[*r.extra["pool"], *accepted])
            if r.extra["origin"] == "augmentation" and r.extra["round"] == number else r for r in records), ()


async def augment(record: Record, ctx: Context, *, options: Options) -> Record | list[Record]:
    """A call becomes the instructions its answer lists; seed instructions pass."""
    if record.extra["origin"] == "seed":
        return record
    rng = ctx.rng(record.id, "pool")
    pool, bad = record.extra["pool"], record.extra["counterexamples"]
    ask = template(NAME, "augment", options.prompts).render(
        examples=rng.sample(pool, min(SHOWN, len(pool))), counterexamples=rng.sample(bad, min(5, len(bad))),
        count=options.augment_count)
    answer = await ctx.chat("teacher", [{"role": "user", "content": ask}], sample=record.extra["call"])
    found = parse_items(answer.text)
    if len(found) < min(2, options.augment_count):  # a single line is usually a refusal or a comment
        raise Dropped("no_instructions_in_the_answer", answer.text[:100])
    new = [_instruction(text, origin="augmented", call=record.extra["call"], place=i, round=record.extra["round"])
           for i, text in enumerate(found)]
    if answer.finish_reason == "length":
        new[-1] = new[-1].with_extra(cut=True)
    return new


async def deduplicate(records: Sequence[Record], ctx: Context, *, options: Options) -> Together:
    """Keeps the first of equal instructions, seeds first, whatever order the answers came in.

    Texts that cannot be instructions are dropped here too, so that no other one counts as their duplicate.
    """
    compared: list[tuple[int, str]] = []  # place and text
    why: dict[int, Dropped] = {}
    seen: set[str] = set()
    for i, record in enumerate(records):
        if record.extra["origin"] == "augmentation":
            continue  # a call of a later round
        key = " ".join(re.findall(r"\w+", record.prompt.casefold()))
        if record.extra.get("cut"):
            why[i] = Dropped("cut_by_the_token_limit")
        elif record.extra["origin"] == "augmented" and not 8 <= len(record.prompt) <= 400:
            why[i] = Dropped("too_short_or_too_long", f"{len(record.prompt)} characters")
        elif key in seen:
            why[i] = Dropped("duplicate_instruction")
        else:
            seen.add(key)
            compared.append((i, record.prompt))
    if options.near_duplicates < 1:
        repeats = near_duplicates([text for _, text in compared], threshold=options.near_duplicates)
        why |= {i: Dropped("near_duplicate_instruction", compared[earlier][1])
                for (i, _), earlier in zip(compared, repeats, strict=True) if earlier is not None}
    return (r for i, r in enumerate(records) if i not in why), ((records[i], reason) for i, reason in why.items())


class _Checkable(BaseModel):
    reason: str = ""
    checkable: bool


async def screen(record: Record, ctx: Context, *, options: Options) -> Record:
    """A cheap question before the expensive ones; instructions marked as verifiable are not asked about."""
    marked = record.extra.get("verifiable")
    if marked is False:
        raise Dropped("marked_as_not_verifiable")
    if options.screen and marked is None:
        answer = await _ask(ctx, "screen", _Checkable, options, instruction=record.prompt)
        if isinstance(answer, Failure):
            raise Dropped(f"screen_{answer.reason}", answer.detail)
        if not answer.checkable:
            raise Dropped("no_function_can_check_it", answer.reason)
    return record


async def _ask(ctx: Context, name: str, model: type[BaseModel], options: Options, **values: Any) -> Any | Failure:
    """What the teacher answers to a template, as ``model``; asked again if unreadable, three times in all."""
    ask = template(NAME, name, options.prompts).render(**values)
    return await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                            partial(parse_json, model=model), schema=schema_of(model))


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}


def _cases_schema(*, why: bool, least: int) -> dict[str, Any]:
    case = {"input": {"type": "string"}, **({"why": {"type": "string"}} if why else {}), "output": {"type": "boolean"}}
    return {"type": "array", "minItems": least, "maxItems": least, "items": _object(**case)}


_WRITTEN_SCHEMA = _object(func={"type": "string"}, cases=_cases_schema(why=False, least=3))
_CASES_SCHEMA = _object(cases=_cases_schema(why=True, least=4))


async def write_functions(record: Record, ctx: Context, *, options: Options) -> Record:
    """K answers, each a function with test cases; those that cannot be read are counted, not asked for again.

    Asked for apart, the i-th function and the i-th list of cases go together; a list that cannot be read leaves its
    function without cases of its own.
    """
    def request(name: str, sample: int, schema: dict[str, Any] | None = None) -> Awaitable[Completion]:
        ask = template(NAME, name, options.prompts).render(instruction=record.prompt)
        return ctx.chat("teacher", [{"role": "user", "content": ask}], sample=sample, schema=schema)

    lenient = options.parsing == "lenient"
    if options.test_cases == "together":
        schema = _WRITTEN_SCHEMA if lenient else None
        answers = await asyncio.gather(*(request("functions_with_cases", i, schema) for i in range(options.answers)))
        read = [parse_written(a.text, lenient=lenient) for a in answers]
    else:
        functions, cases = await asyncio.gather(
            asyncio.gather(*(request("functions", i) for i in range(options.answers))),
            asyncio.gather(*(request("cases", i, _CASES_SCHEMA) for i in range(options.answers))))
        read = [parse_apart(f.text, c.text) for f, c in zip(functions, cases, strict=True)]
    written = [w for w in read if isinstance(w, WrittenFunction)]
    unread = Counter(f.reason for f in read if isinstance(f, Failure))
    if not written:
        raise Dropped("no_readable_function", ", ".join(f"{k} {n}" for k, n in sorted(unread.items())))
    clean = drop_download_lines if options.drop_download_lines else str
    pairs = [(clean(w.source), w.cases) for w in written]
    return record.with_extra(written=pairs, unread_answers=dict(sorted(unread.items())),
                             unread_cases=sum(w.unread_cases for w in written))


async def cross_validated(record: Record, ctx: Context, *, options: Options) -> Record:
    """Functions and cases, cross-validated in the sandbox; those that survive become the record's constraint."""
    written = [WrittenFunction(source, tuple(Case(*case) for case in cases))
               for source, cases in record.extra["written"]]
    functions, cases = distinct(written)
    inputs = [case.input for case in cases]
    results = await asyncio.gather(*(shared_pool().arun(source, inputs, runs=2) for source in functions))
    values = {source: _values(result) for source, result in zip(functions, results, strict=True)}
    found = cross_validate(written, values, options.rules)
    if isinstance(found, Failure):
        why = Counter(reason for result in results for reason in result.reasons if reason)
        raise Dropped(found.reason, "; ".join([found.detail, *(f"{k} {n}" for k, n in sorted(why.items()))]))
    constraint = Constraint(type="generated:function", kind="generated_code", text=record.prompt,
                            kwargs={"functions": [source for source, _ in found.functions],
                                    "accuracy": [share for _, share in found.functions],
                                    "more_than": options.response_accuracy})
    heard = {source: result.verdicts for source, result in zip(functions, results, strict=True)}
    place = {text: i for i, text in enumerate(inputs) if isinstance(text, str)}
    votes = {text: said(heard[source][place[text]] for source, _ in found.functions)
             for text, _ in found.cases if isinstance(text, str)}
    child = record.child(record.prompt, [constraint], difficulty=1)
    return child.with_extra(without=("written",), cases=found.cases, case_votes=votes)


def _values(result: FunctionResult) -> list[Any] | None:
    """One value per case; none at all from a function that does not load, or whose answers differ by the run."""
    if not result.loaded or result.flaky:
        return None
    return [v if came else NOTHING for v, came in zip(result.values, result.returned, strict=True)]


class _Sentences(BaseModel):
    instructions: list[str]

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        return {"instructions": given} if isinstance(given, list) else given


async def back_translate(record: Record, ctx: Context, *, options: Options) -> Record:
    """What the first functions really check, in words."""
    own = record.constraints[0].kwargs
    functions = list(zip(own["functions"], own["accuracy"], strict=True))[:options.back_translate]
    answer = await _ask(ctx, "back_translate", _Sentences, options, functions=functions)
    if isinstance(answer, Failure):
        raise Dropped(f"back_translation_{answer.reason}", answer.detail)
    sentences = [s.strip() for s in answer.instructions if s.strip()][:options.back_translate]
    if not sentences:
        raise Dropped("back_translation_empty")
    return record.with_extra(back_translations=sentences)


async def consistent(record: Record, ctx: Context, *, options: Options) -> Record:
    """No back-translation may contradict the instruction or be unrelated to it."""
    found = await _relations(record.prompt, record.extra["back_translations"], ctx, options)
    for relation in found:
        if isinstance(relation, Failure):
            raise Dropped(f"consistency_{relation.reason}", relation.detail)
    for bad in ("contradiction", "unrelated"):
        if bad in found:
            raise Dropped(f"back_translation_{bad}", record.extra["back_translations"][found.index(bad)])
    return record.with_extra(consistency=found)


async def compose(records: Sequence[Record], ctx: Context, *, options: Options) -> Together:
    """Each instruction with others beside it, drawn by the run's seed: as many as asked for, and as there are."""
    def composed(i: int, record: Record) -> Record:
        rng = ctx.rng(record.id, "compose")
        n = min(rng.randint(options.min_constraints, options.max_constraints), len(records))
        others = [records[j if j < i else j + 1] for j in rng.sample(range(len(records) - 1), n - 1)]
        constraints = [c for r in (record, *others) for c in r.constraints]
        return record.child(record.prompt, constraints, difficulty=n) if others else record

    return starmap(composed, enumerate(records)), ()


async def compatible(record: Record, ctx: Context, *, options: Options) -> Record:
    """The instructions that can be met together: of two that contradict each other the later one goes."""
    kept = list(record.constraints[:1])
    for constraint in record.constraints[1:]:
        found = await _relations(constraint.text, [c.text for c in kept], ctx, options)
        if not any(isinstance(relation, Failure) or relation == "contradiction" for relation in found):
            kept.append(constraint)
    if len(kept) < min(options.min_constraints, len(record.constraints)):
        raise Dropped("instructions_contradict_each_other")
    if len(kept) == len(record.constraints):
        return record
    return record.child(record.prompt, kept, difficulty=len(kept))


async def _relations(premise: str, hypotheses: Sequence[str], ctx: Context, options: Options) -> list[Any]:
    return await relations(premise, hypotheses, by=options.consistency, ask=judge_of(ctx),
                           model=options.consistency_model, prompts=options.prompts)
