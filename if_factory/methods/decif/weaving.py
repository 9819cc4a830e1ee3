"""Constraints woven into an instruction by the teacher, and whether each of them really is in it.

A constraint counts as stated if its own sentence is in the instruction, word for word; code sees that. Code also
sees when it cannot be: a word, phrase or mark that the answer has to use or avoid is not there. Everything in
between is a judge's to decide. Where one is missing the teacher is asked a second time, and what is missing then is
appended as a sentence of ours: that constraint only, and it is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json, repeats_wording
from if_factory.constraints.join import join
from if_factory.judge.criteria import judge_numbered
from if_factory.judge.judge import judge_of, mark_for, shown
from if_factory.methods.decif.options import Options, prompt
from if_factory.pipeline.stage import Context
from if_factory.records import Constraint, Record

# How a constraint got into its prompt: its own sentence is in the instruction, a judge found it there, or it was
# appended; "" while it is missing.
CODE, JUDGE, APPENDED = "code", "judge", "appended"


async def phrased(record: Record, ctx: Context, options: Options) -> Record:
    """The record with its prompt made of ``extra["task"]`` and its constraints, and as hard as it has constraints.

    ``extra["task"]`` becomes the instruction as the teacher left it, ``extra["stated"]`` says for each constraint
    how it got into the prompt.
    """
    instruction, stated = record.extra["task"], []
    if options.small:
        stated = [CODE if stated_by_code(c, instruction) else "" for c in record.constraints]
    elif record.constraints:
        instruction, stated = await _woven(instruction, record.constraints, ctx, options)
    missing = [c for c, how in zip(record.constraints, stated, strict=True) if not how]
    text = join(instruction, missing, ctx.rng(record.id, "join"))
    return record.model_copy(update={"prompt": text, "difficulty": len(record.constraints)}).with_extra(
        task=instruction, stated=[how or APPENDED for how in stated])


class _Rewritten(BaseModel):
    rewritten: str


_REWRITTEN_SCHEMA: dict[str, Any] = {"type": "object", "additionalProperties": False, "required": ["rewritten"],
                                     "properties": {"rewritten": {"type": "string"}}}


async def _woven(instruction: str, constraints: Sequence[Constraint], ctx: Context,
                 options: Options) -> tuple[str, list[str]]:
    """The instruction, written again once if constraints are missing, and how each is stated in it."""
    stated = await how_stated(instruction, constraints, ctx, options)
    missing = [i for i, how in enumerate(stated, 1) if not how]
    if not missing:
        return instruction, stated
    text = prompt("weave", options).render(instruction=instruction, requirements=[c.text for c in constraints],
                                           missing=missing)

    def read(reply: str) -> str | Failure:
        found = parse_json(reply, _Rewritten)
        if isinstance(found, Failure):
            return found
        again = found.rewritten.strip()
        given = (instruction, *(c.text for c in constraints))
        return Failure("echo") if echoes(again, text) or repeats_wording(again, text, given) else again

    again = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": text}], read,
                             schema=_REWRITTEN_SCHEMA, tries=options.tries)
    if isinstance(again, Failure):
        return instruction, stated
    restated = await how_stated(again, constraints, ctx, options)
    return (again, restated) if restated.count("") < stated.count("") else (instruction, stated)


async def how_stated(instruction: str, constraints: Sequence[Constraint], ctx: Context,
                     options: Options) -> list[str]:
    """For each constraint ``CODE``, ``JUDGE``, or ``""`` where the instruction does not demand it.

    What a judge's unreadable reply was about is not stated.
    """
    found = [stated_by_code(c, instruction) for c in constraints]
    stated = [CODE if said else "" for said in found]
    open_ = [i for i, said in enumerate(found) if said is None]
    for i, said in zip(open_, await demanded(instruction, [constraints[i].text for i in open_], ctx, options),
                       strict=True):
        stated[i] = JUDGE if said else ""
    return stated


async def demanded(instruction: str, demands: Sequence[str], ctx: Context, options: Options) -> list[bool]:
    """Whether the judge finds each of the ``demands`` in the instruction, in whatever words."""
    if not demands:
        return []
    text = prompt("stated", options).render(instruction=shown(instruction), demands=list(map(shown, demands)),
                                            mark=mark_for(instruction, *demands))
    verdicts = await judge_numbered(judge_of(ctx), text, len(demands), tries=options.tries, prompts=options.prompts)
    return [False] * len(demands) if isinstance(verdicts, Failure) else [v.passed for v in verdicts]


def stated_by_code(constraint: Constraint, instruction: str) -> bool | None:
    """``True``: the constraint's sentence stands in the instruction. ``False``: something that it names letter by
    letter (a keyword, a phrase, a mark) does not. ``None``: code cannot tell."""
    if _stands_in(constraint.text, instruction):
        return True
    named = (value for key, values in constraint.kwargs.items() if not key.endswith("relation")
             for value in (values if isinstance(values, list | tuple) else [values])
             if isinstance(value, str) and _stands_in(value, constraint.text))
    return None if all(_stands_in(value, instruction) for value in named) else False


def _stands_in(part: str, whole: str) -> bool:
    """Whether ``part`` stands in ``whole``, whatever the case, white space and kind of quotation marks."""
    own, given = _plain(part).strip(" .\"'"), _plain(whole)
    at = given.find(own) if own else -1
    while at >= 0:  # no pattern: one would be compiled for every constraint
        if not (at and _LATIN.match(given, at - 1)) and not _LATIN.match(given, at + len(own)):
            return True
        at = given.find(own, at + 1)
    return False


def _plain(text: str) -> str:
    return " ".join(text.translate(_QUOTES).casefold().split())


_LATIN = re.compile("[0-9a-zß-ÿ]")  # other scripts do without spaces between words
_QUOTES = str.maketrans("“”„«»‘’", "\"\"\"\"\"''")
