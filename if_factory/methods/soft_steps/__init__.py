"""Step-by-Step Mastery (Ren et al., 2025, "Step-by-Step Mastery: Enhancing Soft Constraint Following Ability of
Large Language Models", arXiv 2501.04945).

Constraints are added to a seed one at a time: I_k = I_(k-1) + c_k. Every I_k is answered once. The winner is
carried forward as in the paper's method figure: at step k the winner so far is compared with the answer to I_k,
both as answers to I_k, and the winner of that goes on. Each comparison is a DPO pair, its k the difficulty.

Upstream's released code never reaches its judge, so the newer answer always wins, and it answers I_(k-1) anew
instead of carrying the winner. Here constraints that code can check are decided by code; the judge decides soft
constraints one by one and compares only answers that code finds equal, asked in both orders. What it does not
decide is a pair that is not emitted, with the reason counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from math import ceil
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json
from if_factory.constraints.compose import compose
from if_factory.constraints.join import join, sentence
from if_factory.constraints.soft import Aspect, draw, draw_aspects, pool
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.judge.judge import Ask, judge_criteria, judge_of, judge_pair, judge_role
from if_factory.methods.base import PATH, Emission, Method, PlannedCalls, template
from if_factory.pipeline.stage import Context, Dropped, Stage
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

NAME = "soft_steps"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: Annotated[int, Field(ge=1, le=8)] = Field(5, description="K: constraints added, one per step")
    soft_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of constraints that only a judge can decide; the rest is decided by code")
    include: list[str] = Field([], description="checkable types or families to draw from; empty means all")
    exclude: list[str] = Field([], description="checkable types or families never drawn")
    soft_include: list[str] = Field([], description="soft families (style) or types (soft_style:tone); empty "
                                    "means all")
    soft_exclude: list[str] = Field([], description="soft families or types never drawn")
    taxonomy: str | None = Field(None, json_schema_extra=PATH,
                                 description="your own soft constraints, as if_factory/data/soft_constraints.yaml")
    soft_tries: Annotated[int, Field(ge=1)] = Field(
        3, description="aspects tried per soft constraint until one can be written and is consistent")
    consistency: bool = Field(True, description="the judge checks a soft constraint against all others")
    answers: Literal["teacher", "student"] = Field("teacher", description="who answers")
    answer_tries: Annotated[int, Field(ge=1)] = Field(
        2, description="answers per step until one passes what code checks; the last one is kept if none does")
    judge_tries: Annotated[int, Field(ge=1)] = Field(3, description="requests per judgement until it can be read")
    sft: Literal["all", "last"] = Field("all", description="SFT rows: the winner of every step, or of step K")
    bins: list[int] = Field([3], description="curriculum: the highest k of every bin but the last")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @field_validator("bins")
    @classmethod
    def _rising(cls, bins: list[int]) -> list[int]:
        if bins != sorted(set(bins)) or any(edge < 1 for edge in bins):
            raise ValueError("edges must rise, from 1 on, such as [3] or [1, 3]")
        return bins


PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # The method figure: four constraints, one answer per instruction.
    "paper": {"steps": 4, "answer_tries": 1, "sft": "last"},
    # gen_data.py: five types drawn from 25 checkable and 6 soft ones, 24.5 % soft in the released rows.
    "released": {"steps": 5, "soft_share": 0.245, "answer_tries": 1, "sft": "last", "consistency": False},
}


# ---------------------------------------------------------------- stages


def stages(options: Options) -> list[Stage]:
    return [Stage("constrain", partial(constrain, options=options)),
            Stage("respond", partial(respond, options=options)),
            Stage("compare", partial(compare, options=options))]


async def constrain(record: Record, ctx: Context, *, options: Options) -> Record:
    """The chain c_1..c_K: places drawn together, soft texts written in order with everything chosen in view."""
    if record.constraints:
        raise Dropped("seed_has_constraints", "steps are added to plain prompts")
    rng = ctx.rng(record.id, "constrain")
    places = draw(record.seed_prompt, rng, n=options.steps, soft_share=options.soft_share,
                  aspects=pool(options.soft_include, options.soft_exclude, options.taxonomy),
                  include=options.include, exclude=options.exclude)
    chain: list[Constraint] = []
    missing: list[str] = []
    for i, place in enumerate(places):
        if isinstance(place, Constraint):
            chain.append(place)
            continue
        # hard constraints still to come are decided already: the text must go with them too
        fixed = [*chain, *(c for c in places[i + 1:] if isinstance(c, Constraint))]
        written = await _write_soft(record, place, fixed, [a for a in places if isinstance(a, Aspect)], ctx,
                                    options)
        if isinstance(written, Failure):
            missing.append(written.reason)
        else:
            chain.append(written)
    if not chain:
        raise Dropped(missing[0] if missing else "no_constraint_fits")
    made = record.child(step_prompts(record.seed_prompt, chain)[-1], chain, difficulty=len(chain))
    return made.model_copy(update={"extra": {**record.extra, "missing": missing}})


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """One answer to the seed and one to every I_k; asked again only if code finds a constraint not met."""
    prompts = [record.seed_prompt, *step_prompts(record.seed_prompt, record.constraints)]
    steps = await asyncio.gather(*(_answers(record, prompt, k, ctx, options) for k, prompt in enumerate(prompts)))
    return record.with_candidates(*(c for answers in steps for c in answers))


async def compare(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """One record per step: the winner so far against the answer to I_k, and what came of it."""
    ask = judge_of(ctx)
    answers = {source: [c for c in record.candidates if c.source == source]
               for source in dict.fromkeys(c.source for c in record.candidates)}
    winner = answers[_source(0)][-1]
    known: _Known = {}
    made = []
    for k, prompt in enumerate(step_prompts(record.seed_prompt, record.constraints), 1):
        *attempts, new = answers[_source(k)]
        step = record.child(prompt, record.constraints[:k], difficulty=k)
        held, new = await asyncio.gather(_decided(step, winner, known, ask, options),
                                         _decided(step, new, known, ask, options))
        outcome = await _comparison(step, held, new, ask, options)
        failed = [c.model_copy(update={"verdicts": verify(c.text, step.constraints)}) for c in attempts]
        extra = {**record.extra, "k": k, "steps": len(record.constraints), "new": step.constraints[-1].type,
                 "judgement": outcome}
        if k < len(record.constraints):
            extra["missing"] = []  # counted once, with the last step
        made.append(step.with_candidates(held, new, *failed).model_copy(update={"extra": extra}))
        winner = (held, new)[outcome["carried"]]
    return made


def step_prompts(seed_prompt: str, constraints: Sequence[Constraint]) -> list[str]:
    """I_1..I_K; each is the one before it and one more sentence."""
    prompt = join(seed_prompt, constraints[:1], Random(0))
    if any("prompt_to_repeat" in c.kwargs for c in constraints):  # the request must be told from what is added
        prompt = f"{seed_prompt.strip()}\n\n{sentence(constraints[0].text)}"
    prompts = [prompt]
    for constraint in constraints[1:]:
        text = sentence(constraint.text)
        prompts.append(prompts[-1] + ("\n\n" if "\n" in text else " ") + text)
    return prompts


# ---------------------------------------------------------------- soft constraints


class _Written(BaseModel):
    fits: bool = True
    constraint: str = ""


_WRITTEN_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["fits", "constraint"],
    "properties": {"fits": {"type": "boolean"}, "constraint": {"type": "string"}}}
_MOST_WORDS = 60
_CONSISTENT = [f"The response is a proposal for one more requirement. {it}" for it in (
    "It can be met in full together with everything that the request already asks for.",
    "It asks for something that the request does not already ask for.",
    "Whether an answer meets it can be told from the answer alone.")]


async def _write_soft(record: Record, aspect: Aspect, fixed: list[Constraint], drawn: list[Aspect], ctx: Context,
                      options: Options) -> Constraint | Failure:
    """The aspect's constraint, or another aspect's where it does not fit the task or contradicts something."""
    rng = ctx.rng(record.id, "aspects", aspect.type)
    others = draw_aspects(rng, options.soft_tries - 1,
                          pool(options.soft_include, options.soft_exclude, options.taxonomy), drawn, fixed)
    failure = Failure("soft_constraint_unwritten")
    for each in (aspect, *others):
        ask = template(NAME, "write", options.prompts).render(
            prompt=record.seed_prompt, family=each.family, demand=each.write, chosen=[c.text for c in fixed])
        written = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                                   partial(_read_written, fixed=fixed, asked=ask), schema=_WRITTEN_SCHEMA)
        if isinstance(written, Failure):
            failure = Failure(f"soft_constraint_{written.reason}")
        elif not written:
            failure = Failure("soft_constraint_does_not_fit")
        elif why := await _inconsistent(record, written, fixed, ctx, options):
            failure = Failure(why)
        else:
            return each.constraint(written)
    return failure


def _read_written(text: str, fixed: Sequence[Constraint], asked: str = "") -> str | Failure:
    """The constraint as one line; empty where the teacher says that the aspect does not suit the task.

    Reasons: those of ``parse_json``; ``empty``, ``too_long``, ``repeated``, and ``echo`` for a line that stands in
    what was ``asked``: a sentence of the task demands nothing new.
    """
    found = parse_json(text, _Written)
    if isinstance(found, Failure):
        return found
    line = " ".join(found.constraint.split())
    if not found.fits:
        return ""
    if not any(map(str.isalpha, line)):  # "..." is the prompt's own
        return Failure("empty")
    if len(line.split()) > _MOST_WORDS:
        return Failure("too_long")
    if line.lower() in {c.text.lower() for c in fixed}:
        return Failure("repeated")
    return Failure("echo") if echoes(line, asked) else line


async def _inconsistent(record: Record, text: str, fixed: Sequence[Constraint], ctx: Context,
                        options: Options) -> str | None:
    if not options.consistency:
        return None
    request = "\n".join((record.seed_prompt, *(f"- {c.text}" for c in fixed)))
    ask = judge_of(ctx)
    verdicts = await judge_criteria(ask, request, text, _CONSISTENT, tries=options.judge_tries,
                                    prompts=options.prompts)
    if isinstance(verdicts, Failure):
        return "soft_constraint_unjudged"
    return None if all(v.passed for v in verdicts) else "soft_constraint_inconsistent"


# ---------------------------------------------------------------- answers


def _source(k: int) -> str:
    return f"step_{k}"


async def _answers(record: Record, prompt: str, k: int, ctx: Context, options: Options) -> list[Candidate]:
    """The attempts at I_k, the one that counts last."""
    ask = record.model_copy(update={"prompt": prompt})
    made: list[Candidate] = []
    for i in range(options.answer_tries):
        answer: Completion = await ctx.chat(options.answers, ask.messages(), sample=i)
        made.append(Candidate(text=answer.text.strip(), source=_source(k), model=options.answers,
                              finish_reason=answer.finish_reason))
        if _sound(made[-1], verify(made[-1].text, record.constraints[:k])):
            break
    return made


def _sound(candidate: Candidate, verdicts: Sequence[Verdict]) -> bool:
    """Nothing that code decides speaks against it."""
    return bool(candidate.text) and candidate.finish_reason == "stop" and not any(v.failed for v in verdicts)


# ---------------------------------------------------------------- comparisons


# Soft verdicts by (text, position): what was decided about an answer is not asked again.
_Known = dict[tuple[str, int], Verdict]


async def _decided(step: Record, candidate: Candidate, known: _Known, ask: Ask, options: Options) -> Candidate:
    """With a verdict per constraint: code first, then the judge, who is not asked about what fails by code."""
    verdicts = list(verify(candidate.text, step.constraints))
    soft = [i for i, c in enumerate(step.constraints) if c.kind == "judge"]
    hard = [v for i, v in enumerate(verdicts) if i not in soft]
    unknown = [i for i in soft if (candidate.text, i) not in known]
    undecided = "not asked: the response fails by code"
    if unknown and _sound(candidate, hard):
        criteria = [step.constraints[i].text for i in unknown]
        judged = await judge_criteria(ask, _request(step), candidate.text, criteria, tries=options.judge_tries,
                                      prompts=options.prompts)
        if isinstance(judged, Failure):
            undecided = f"judge: {judged.reason}"
        else:
            known.update({(candidate.text, i): v for i, v in zip(unknown, judged, strict=True)})
    for i in soft:
        verdicts[i] = known.get((candidate.text, i), Verdict(outcome=Outcome.NO_VERDICT, reason=undecided))
    return candidate.model_copy(update={"verdicts": tuple(verdicts)})


def _request(step: Record) -> str:
    """What the judge is shown as the request: the prompt, after the conversation that led to it."""
    turns = step.messages()
    return step.prompt if len(turns) == 1 else "\n\n".join(f"{t['role']}: {t['content']}" for t in turns)


async def _comparison(step: Record, held: Candidate, new: Candidate, ask: Ask,
                      options: Options) -> dict[str, Any]:
    """Who wins step k, as provenance: ``winner`` (0 the carried answer, 1 the new one, or ``None``), who decided
    (``by``), ``reason``, the judge's ``orders`` and ``raw`` replies, and which of the two is ``carried`` on."""
    pair = (held, new)
    hard = [i for i, c in enumerate(step.constraints) if c.kind != "judge"]
    sound = [_sound(c, [c.verdicts[i] for i in hard]) for c in pair]
    good = [c.verified and s for c, s in zip(pair, sound, strict=True)]
    # Nobody wins: the better one goes on, the older one if they are equal.
    fewest = min((0, 1), key=lambda i: (not good[i], not sound[i], len(pair[i].failed_positions)))

    def undecided(reason: str, **more: Any) -> dict[str, Any]:
        return {"winner": None, "by": None, "reason": reason, "carried": fewest, **more}

    if held.text == new.text:
        return undecided("identical")
    if sound[0] != sound[1]:
        winner = sound.index(True)
        return {"winner": winner, "by": "code", "reason": "code", "carried": winner}
    if not sound[0]:
        return undecided("both_fail_by_code")
    if not any(good):
        return undecided("both_fail" if all(c.failed_positions for c in pair) else "no_verdict")
    focus = template(NAME, "focus", options.prompts).render(
        new=step.constraints[-1], soft=[c.text for c in step.constraints[:-1] if c.kind == "judge"],
        checked=[step.constraints[i].text for i in hard])
    judged = await judge_pair(ask, _request(step), held.text, new.text, focus=focus, tries=options.judge_tries,
                              prompts=options.prompts)
    said = {"orders": list(judged.orders), "raw": list(judged.raw)}
    if judged.winner is None:
        return undecided(judged.reason, **said)
    winner = "ab".index(judged.winner)
    if not good[winner]:
        return undecided("judge_contradicts_its_verdicts", **said)
    return {"winner": winner, "by": "judge", "reason": judged.reason, "carried": winner, **said}


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """DPO: the step's winner over its loser. SFT: the answer that goes on. KTO: what passes, what fails."""
    judgement, k, steps = (record.extra[key] for key in ("judgement", "k", "steps"))
    pair = record.candidates[:2]
    for reason in record.extra["missing"]:
        out.refused["dpo"][reason] += 1

    if judgement["winner"] is None:
        out.refused["dpo"][judgement["reason"]] += 1
    else:
        chosen, rejected = pair[judgement["winner"]], pair[1 - judgement["winner"]]
        lost = Verdict(outcome=Outcome.FAIL, reason="judged worse in both orders") \
            if judgement["by"] == "judge" else None
        out.add(emit_preference(record, chosen, rejected, lost=lost), "dpo")

    if options.sft == "last" and k < steps:
        out.refused["sft"]["not_the_last_step"] += 1
    else:
        out.add(emit_sft(record, pair[judgement["carried"]]), "sft")

    for candidate in {c.text: c for c in record.candidates}.values():
        beaten = judgement["winner"] is not None and candidate.text == pair[1 - judgement["winner"]].text
        if beaten and candidate.verified:  # worse than another, yet nothing is wrong with it
            out.refused["kto"]["beaten_but_fails_nothing"] += 1
        else:
            out.add(emit_kto(record, candidate), "kto")


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    pool(options.soft_include, options.soft_exclude, options.taxonomy)  # unknown names show now
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)
    if options.answers not in roles:
        raise UserError(f"`answers: {options.answers}` needs a model for that role", where="models",
                        fix=f"add `{options.answers}:` with its endpoint")
    n, steps, soft = len(seeds), options.steps, options.soft_share * options.steps
    words = sum(len(s.seed_prompt.split()) for s in seeds) / max(1, n)
    prompt = int(1.4 * (words + 20 * steps / 2)) + 20  # about 20 words a constraint, 1.4 tokens a word
    judge = judge_role(roles)
    tries, judge_tries = ceil(soft) * options.soft_tries, options.judge_tries
    hard = steps - ceil(soft)
    calls = [PlannedCalls("constrain", "teacher", n * int(soft), n * tries * 3, prompt + 200, 50)]
    if options.consistency:
        calls.append(PlannedCalls("constrain", judge, 0, n * tries * judge_tries, prompt + 300, 100))
    calls += [PlannedCalls("respond", options.answers, n * (hard + 1) if hard else 0,
                           n * (steps + 1) * options.answer_tries, prompt, 250),
              # criteria of both answers, and the comparison in both orders
              PlannedCalls("compare", judge, 0, n * steps * 4 * judge_tries, prompt + 750, 100)]
    return [c for c in calls if c.high]


METHOD = Method(
    name=NAME,
    summary="soft and checkable constraints added one at a time; each step's winner is carried into the next "
            "comparison",
    roles={"teacher": (True, "writes soft constraints and answers every step"),
           "judge": (False, "decides soft constraints and compares answers; default: the teacher"),
           "student": (False, "answers in the teacher's place with `answers: student`")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan,
    difficulty="k: number of constraints on the prompt",
    bins=lambda options: options.bins,
    training={"dpo": {"pref_beta": 0.1, "pref_ftx": 1.0, "learning_rate": 5e-6}, "sft": {"learning_rate": 1e-4}})
