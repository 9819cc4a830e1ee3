"""From a scenario to an instruction that can be answered, with the criteria its answers will be judged by.

What code can check is drawn with its values, and is decided by code. What only a judge can decide is drawn as an
aspect ("a tone of voice") that the teacher turns into a requirement for the task at hand, or is found by the
teacher when it writes the criteria. The teacher weaves all of it into the instruction (``weaving``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from if_factory.chat.lists import parse_items
from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json, repeats_wording
from if_factory.constraints.soft import Aspect, draw, pool
from if_factory.judge.verdicts import criterion
from if_factory.methods.base import template
from if_factory.methods.decif.ideas import list_schema
from if_factory.methods.decif.options import NAME, Options, prompt
from if_factory.methods.decif.weaving import phrased
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Constraint, Record
from if_factory.similarity.dedup import near_duplicates

# They need the finished request when they are drawn, or leave a scenario nothing to ask for.
UNFIT = ("combination:repeat_prompt", "detectable_format:constrained_response")
_SHORT_TASK, _REQUIREMENT = {"type": "string", "maxLength": 900}, {"type": "string", "maxLength": 400}
_FEWEST_WORDS = 3
_MOST_WORDS = 150  # of a task by a small model: a longer one is usually an answer


# ---------------------------------------------------------------- writing


class Written(BaseModel):
    """The instruction (of a small model only its task), and a requirement for each soft constraint, by number."""

    task: str = Field(validation_alias=AliasChoices("instruction", "task"))
    requirements: dict[str, str] = Field(default_factory=dict)


async def write(record: Record, ctx: Context, *, options: Options) -> Record:
    """The instruction, in the words of the person in the scenario, and the constraints drawn for it."""
    rng = ctx.rng(record.id, "constraints")
    weights = options.constraint_weights
    wild = rng.random() < options.wild_share
    n = 0 if wild else rng.choices(range(1, len(weights) + 1), weights)[0]
    aspects = pool(options.soft_include, options.soft_exclude) if options.soft_share else []
    places = draw(record.extra["scenario"], rng, n=n, soft_share=options.soft_share, aspects=aspects,
                  include=options.include, exclude=[*options.exclude, *UNFIT])
    soft = [place for place in places if isinstance(place, Aspect)]
    checked = [place.text for place in places if isinstance(place, Constraint)]
    text = prompt("instruction", options).render(aspects=soft, checked=checked, **record.extra)
    given = [*map(str, record.extra.values()), *checked, *(aspect.write for aspect in soft)]
    written = await _written(text, len(soft), ctx, options, given)
    if isinstance(written, Failure):
        raise Dropped(f"instruction_{written.reason}", written.detail)
    texts = iter(written.requirements.values())
    constraints = [place.constraint(next(texts)) if isinstance(place, Aspect) else place for place in places]
    left = [c for c in constraints if c.text]  # a soft one that was never worded is left out
    if constraints and not left:
        raise Dropped("instruction_missing_requirement")
    made = record.model_copy(update={"constraints": tuple(left)}).with_extra(
        wild=wild, task=written.task, unworded=[c.type for c in constraints if not c.text])
    return await phrased(made, ctx, options)


async def _written(text: str, soft: int, ctx: Context, options: Options, given: Sequence[str]
                   ) -> Written | Failure:
    """What the teacher wrote; if no try words every requirement, the last that is an instruction at least."""
    usable: list[Written] = []

    def read(reply: str) -> Written | Failure:
        found = read_written(reply, soft, text, given, most_words=_MOST_WORDS if options.small else None)
        if isinstance(found, Failure) and found.reason == "missing_requirement":
            whole = read_written(reply, 0, text, given)
            if not isinstance(whole, Failure):
                usable.append(whole)
        return found

    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": text}], read,
                             schema=_written_schema(soft, small=options.small), tries=options.tries)
    if not isinstance(found, Failure) or options.small or not usable:
        return found
    worded = usable[-1].requirements
    return Written(instruction=usable[-1].task,
                   requirements={str(i): _worded(worded.get(str(i), "")) for i in range(1, soft + 1)})


def _worded(requirement: str) -> str:
    return requirement.strip() if re.search(r"\w", requirement) else ""


def read_written(text: str, soft: int, asked: str = "", given: Sequence[str] = (), *,
                 most_words: int | None = None) -> Written | Failure:
    """The instruction and exactly one requirement for each number from 1 to ``soft``, in that order.

    With ``soft=0`` the requirements are those that the reply has.

    Reasons: those of ``parse_json``; ``no_task``, ``task_too_long``, ``missing_requirement``, and ``echo`` for an
    instruction that occurs in what was ``asked`` or repeats its wording, but for what was ``given`` in it.
    """
    found = parse_json(text, Written)
    if isinstance(found, Failure):
        return found
    task = found.task.strip()
    if len(re.findall(r"\w+", task)) < _FEWEST_WORDS:
        return Failure("no_task", task[:80])
    if most_words is not None and len(task.split()) > most_words:
        return Failure("task_too_long", f"{len(task.split())} words")
    if echoes(task, asked) or repeats_wording(task, asked, given):
        return Failure("echo", task[:80])
    if not soft:
        return Written(instruction=task, requirements=found.requirements)
    numbered = {str(i): _worded(found.requirements.get(str(i), "")) for i in range(1, soft + 1)}
    if missing := [i for i, requirement in numbered.items() if not requirement]:
        return Failure("missing_requirement", f"number {missing[0]}")
    return Written(instruction=task, requirements=numbered)


@cache
def _written_schema(soft: int, *, small: bool) -> dict[str, Any]:
    """A strong teacher words the requirements first, and no length limits its instruction."""
    numbers = [str(i) for i in range(1, soft + 1)]
    requirements: dict[str, Any] = {"requirements": {
        "type": "object", "additionalProperties": False, "required": numbers,
        "properties": dict.fromkeys(numbers, _REQUIREMENT)}} if soft else {}
    properties = ({"task": _SHORT_TASK, **requirements} if small
                  else {**requirements, "instruction": {"type": "string"}})
    return {"type": "object", "additionalProperties": False, "required": list(properties),
            "properties": properties}


# ---------------------------------------------------------------- criteria


async def add_criteria(record: Record, ctx: Context, *, options: Options) -> Record:
    """The record with one more constraint for each thing the request demands beside those it has.

    A criterion is a question, or a statement of what the answer does, which a judge can check as well. Where no reply
    has either, the teacher is asked once to turn what it wrote into questions. ``extra["criteria"]`` counts both.
    """
    text = template(NAME, "criteria", options.prompts).render(
        prompt=record.prompt, others=[c.text for c in record.constraints], count=options.max_criteria)
    notes: list[str] = []

    def read(reply: str) -> list[str] | Failure:
        # "Does the answer ...?" is the prompt's own form, however a small model fills in the rest of it.
        new = [item for item in parse_items(reply) if not re.search(r"\.\.\.|…", item) and not echoes(item, text)]
        found = criteria_in(new, options.duplicates)[:options.max_criteria]
        if not found:
            notes[:] = new[:options.max_criteria] or notes
        return found or Failure("no_question", reply[:80])

    ask = partial(ask_parsed, partial(ctx.chat, "teacher"), schema=list_schema(1, options.max_criteria, 200))
    found, reworded = await ask([{"role": "user", "content": text}], read, tries=options.tries), False
    if isinstance(found, Failure) and notes:
        again = template(NAME, "criteria_reword", options.prompts).render(prompt=record.prompt, notes=notes)
        found, reworded = await ask([{"role": "user", "content": again}], read, tries=1), True
    if isinstance(found, Failure):
        raise Dropped(f"criteria_{found.reason}", found.detail)
    made = record.model_copy(update={"constraints": (*record.constraints, *map(criterion, found))})
    counted = {"criteria_as_statements": sum(not _asks(each) for each in found), "criteria_reworded": int(reworded)}
    return made.with_extra(criteria={k: n for k, n in counted.items() if n}) if any(counted.values()) else made


# "The answer names a harbour.", "It must be short.": what an answer does or has to do. Not "Here is what it must do."
_STATEMENT = re.compile(r"(?!(?:sure|here|okay|ok|certainly|i|sorry|below|these|the following)\b)"
                        r"(?=(?:(?:the|this|an?|your) )?(?:answer|response|reply|text|output)\b"
                        r"|.*\b(?:must|should|has to|have to|needs? to|may not)\b)", re.IGNORECASE)


def criteria_in(lines: list[str], duplicates: float = 1.0) -> list[str]:
    """The lines that can be checked, each once: questions, and statements of what the answer does or has to do."""
    found = [line.strip() for line in lines]
    found = [line for line in found if _asks(line) or (_STATEMENT.match(line) and not line.endswith(":")
                                                       and len(line.split()) >= _FEWEST_WORDS)]
    return [c for c, repeated in zip(found, near_duplicates(found, threshold=duplicates), strict=True)
            if repeated is None]


def _asks(line: str) -> bool:
    return line.strip().endswith(("?", "\uff1f", "\u061f"))  # full-width and Arabic question marks too
