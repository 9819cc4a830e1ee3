"""From Complex to Simple (He et al., 2024, "From Complex to Simple: Enhancing Multi-Constraint Complex
Instruction Following Ability of Large Language Models").

Constraints that code can check are composed onto seed prompts; the student answers (*vanilla*), the teacher
answers (*generation*), and failing student answers are corrected by the teacher one violated constraint at a
time (*discrimination*). The paper trains SFT on the corrected answers and DPO with an SFT term on pairs
(corrected, uncorrected).

Upstream never looks at a correction again, and 65 % of its "corrected" answers still break a constraint, 19 %
of the constraints that held were broken on the way. Here every revision is re-checked at once, is accepted only
if it mends its constraint and breaks none, and only a text that passes everything is emitted as good.

Without a teacher the same stages are best-of-n self-alignment: the student's own verified answers, against its
own failing ones.
"""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, ask_parsed, parse_json, parse_tagged
from if_factory.constraints.base import get
from if_factory.constraints.compose import compose
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.join import join
from if_factory.constraints.verify import verify
from if_factory.methods.base import PATH, Emission, Method, PlannedCalls, template
from if_factory.pipeline.stage import Context, Dropped, Stage
from if_factory.records import Candidate, Constraint, Record, emit_kto, emit_preference, emit_sft

NAME = "complex_to_simple"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    min_constraints: Annotated[int, Field(ge=1, le=6)] = Field(1, description="fewest constraints on a prompt")
    max_constraints: Annotated[int, Field(ge=1, le=6)] = Field(5, description="most constraints on a prompt")
    prompts_per_seed: Annotated[int, Field(ge=1)] = Field(1, description="constrained prompts made of each seed")
    include: list[str] = Field([], description="constraint types or families to draw from; empty means all")
    exclude: list[str] = Field([], description="constraint types or families never drawn")
    keywords: Literal["seed", "teacher"] = Field(
        "seed", description="required keywords come from the seed's own words, or the teacher proposes them")
    student_samples: Annotated[int, Field(ge=0)] = Field(
        4, description="vanilla: answers of the student per prompt; every one is checked (best-of-n)")
    teacher_samples: Annotated[int, Field(ge=0)] = Field(
        0, description="generation: answers of the teacher per prompt; needs a teacher")
    correct: bool = Field(True, description="discrimination: the teacher mends failing student answers")
    correction_rounds: Annotated[int, Field(ge=1)] = Field(
        2, description="passes over the constraints that still fail")
    correction_tries: Annotated[int, Field(ge=1)] = Field(
        2, description="revisions asked for per violated constraint before moving on")
    sft_per_prompt: Annotated[int, Field(ge=0)] = Field(1, description="verified answers emitted per prompt")
    sft_uncorrected: bool = Field(True, description="also emit answers that needed no correction")
    pairs_per_prompt: Annotated[int, Field(ge=0)] = Field(2, description="DPO pairs emitted per prompt at most")
    rejected_from: Literal["all", "corrections"] = Field(
        "all", description="rejected sides: any failing answer, or only the drafts that were then corrected")
    kto_per_prompt: Annotated[int, Field(ge=0)] = Field(
        2, description="KTO rows per prompt and label at most")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @model_validator(mode="after")
    def _ordered(self) -> Options:
        if self.min_constraints > self.max_constraints:
            raise ValueError("min_constraints is larger than max_constraints")
        if not (self.student_samples or self.teacher_samples):
            raise ValueError("student_samples and teacher_samples are both 0: nobody would answer")
        return self


PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Three to five constraints, one vanilla answer, one pair per correction (paper sections 3-4).
    "paper": {"min_constraints": 3, "max_constraints": 5, "student_samples": 1, "keywords": "teacher",
              "correction_rounds": 1, "correction_tries": 1, "pairs_per_prompt": 6,
              "rejected_from": "corrections"},
    # As get_data/correct.py: rows that needed no correction give no SFT row.
    "released": {"min_constraints": 3, "max_constraints": 5, "student_samples": 1, "keywords": "teacher",
             "correction_rounds": 1, "correction_tries": 1, "pairs_per_prompt": 6, "rejected_from": "corrections",
             "sft_uncorrected": False},
}


# ---------------------------------------------------------------- stages


def stages(options: Options) -> list[Stage]:
    return [Stage("compose", partial(compose_prompts, options=options)),
            Stage("respond", partial(respond, options=options)),
            Stage("correct", partial(correct, options=options))]


async def compose_prompts(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """Constraints drawn onto a seed; a seed that brings its own constraints (IFEval rows) is kept as it is."""
    if record.constraints:
        if why := conflict(record.constraints):
            raise Dropped("unsatisfiable_constraints", why)
        return [record]
    proposed: tuple[str, ...] = ()
    if options.keywords == "teacher" and ctx.has("teacher"):
        proposed = await _propose_keywords(record, ctx, options)
    children = []
    for i in range(options.prompts_per_seed):
        rng = ctx.rng(record.id, "compose", i)
        n = rng.randint(options.min_constraints, options.max_constraints)
        drawn = compose(record.seed_prompt, rng, n=n, include=options.include, exclude=options.exclude)
        if proposed:
            drawn = _with_keyword(drawn, rng.choice(proposed), record.id, ctx)
        children.append(record.child(join(record.seed_prompt, drawn, rng), drawn, difficulty=len(drawn)))
    return list({child.id: child for child in children}.values())


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """Answers of the student and of the teacher, each checked against every constraint."""
    asks = [("vanilla", "student", i) for i in range(options.student_samples) if ctx.has("student")]
    asks += [("generation", "teacher", i) for i in range(options.teacher_samples) if ctx.has("teacher")]
    answers = await asyncio.gather(*(ctx.chat(role, record.messages(), sample=i) for _, role, i in asks))
    return record.with_candidates(*(_checked(record, answer, source, role)
                                    for (source, role, _), answer in zip(asks, answers, strict=True)))


async def correct(record: Record, ctx: Context, *, options: Options) -> Record:
    """The best failing student answer, mended by the teacher one violated constraint at a time.

    A revision is taken over only if it satisfies the constraint it was asked for and breaks none that held.
    Every text on the way stays in the record with its verdicts: they are the pairs' rejected sides.
    """
    drafts = [c for c in record.candidates if c.source == "vanilla"]
    if not (options.correct and ctx.has("teacher") and drafts) or any(c.verified for c in drafts):
        return record
    current = min(drafts, key=lambda c: len(c.failed_positions))
    trail: list[Candidate] = []
    for round_ in range(options.correction_rounds):
        for position in current.failed_positions:
            if not current.verdicts[position].failed:  # an earlier revision of this round mended it too
                continue
            for try_ in range(options.correction_tries):
                revised = await _revise(record, current, position, ctx, options, sample=round_ * 100 + try_)
                if revised is None:
                    continue
                if _improves(current, revised, position):
                    trail.append(revised)
                    current = revised
                    break
                trail.append(revised.model_copy(update={"source": "discarded_revision"}))
        if current.verified:
            break
    return record.with_candidates(*trail)


def _improves(old: Candidate, new: Candidate, position: int) -> bool:
    kept = all(n.passed for o, n in zip(old.verdicts, new.verdicts, strict=True) if o.passed)
    return kept and new.verdicts[position].passed and new.finish_reason == "stop"


async def _revise(record: Record, draft: Candidate, position: int, ctx: Context, options: Options,
                  sample: int) -> Candidate | None:
    held = [c.text for c, v in zip(record.constraints, draft.verdicts, strict=True) if v.passed]
    ask = template(NAME, "correct", options.prompts).render(
        prompt=record.prompt, response=draft.text, violated=record.constraints[position].text,
        reason=draft.verdicts[position].reason, held=held)
    answer = await ctx.chat("teacher", [{"role": "user", "content": ask}], sample=sample)
    text = parse_tagged(answer.text, "revised")
    if isinstance(text, Failure):
        return None
    return _checked(record, Completion(text=text, finish_reason=answer.finish_reason), "discrimination", "teacher")


def _checked(record: Record, answer: Completion, source: str, model: str) -> Candidate:
    text = answer.text.strip()
    return Candidate(text=text, source=source, model=model, finish_reason=answer.finish_reason,
                     verdicts=verify(text, record.constraints))


class _Keywords(BaseModel):
    keywords: list[str]


async def _propose_keywords(record: Record, ctx: Context, options: Options, count: int = 6) -> tuple[str, ...]:
    ask = template(NAME, "keywords", options.prompts).render(prompt=record.seed_prompt, count=count)
    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                             partial(parse_json, model=_Keywords))
    if isinstance(found, Failure):
        return ()
    return tuple(sorted({w.lower() for w in found.keywords if w.isalpha() and w.isascii()}))


def _with_keyword(drawn: list[Constraint], word: str, record_id: str, ctx: Context) -> list[Constraint]:
    """The drawn set with the teacher's word as its required keyword, unless that contradicts the rest."""
    kind = get("keywords:existence")
    kwargs = {"keywords": [word]}
    text = kind.describe(kwargs, ctx.rng(record_id, "keyword", word))
    swapped = [Constraint(type=c.type, kwargs=kwargs, text=text) if c.type == kind.type else c for c in drawn]
    return drawn if conflict(swapped) else swapped


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """SFT: the best verified answers. DPO: a verified answer over one that fails. KTO: some of both.

    Chosen answers are taken in the paper's order of trust: a student's answer that needed nothing, then one the
    teacher corrected, then the teacher's own.
    """
    trust = {"vanilla": 0, "discrimination": 1, "generation": 2}
    candidates = list({c.text: c for c in reversed(record.candidates)}.values())[::-1]
    whole = [c for c in candidates if c.finish_reason == "stop"]
    good = sorted((c for c in whole if c.verified and c.source in trust), key=lambda c: trust[c.source])
    bad = [c for c in whole if c.failed_positions]
    if not good:
        why = "truncated" if any(c.verified for c in candidates) else "no_verified_answer"
        out.refused["sft"][why] += 1
        out.refused["dpo"][why] += 1

    corrected = [c for c in good if c.source != "vanilla"]
    for c in (good if options.sft_uncorrected else corrected)[: options.sft_per_prompt]:
        out.add(emit_sft(record, c), "sft")
    if good and not (options.sft_uncorrected or corrected):
        out.refused["sft"]["needed_no_correction"] += 1

    rejected = bad if options.rejected_from == "all" else _corrected_drafts(record)
    if good and not rejected:
        out.refused["dpo"]["nothing_to_reject"] += 1
    for i, worse in enumerate(_nearest_first(rejected)[: options.pairs_per_prompt] if good else []):
        out.add(emit_preference(record, good[i % len(good)], worse), "dpo")

    for c in [*good[: options.kto_per_prompt], *_nearest_first(bad)[: options.kto_per_prompt]]:
        out.add(emit_kto(record, c), "kto")


def _corrected_drafts(record: Record) -> list[Candidate]:
    """The texts each accepted correction started from: upstream's ``reject`` sides."""
    if not any(c.source == "discrimination" for c in record.candidates):
        return []
    drafts = [c for c in record.candidates if c.source == "vanilla"]
    start = min(drafts, key=lambda c: len(c.failed_positions))
    chain = [start, *(c for c in record.candidates if c.source == "discrimination")]
    return [c for c in chain if c.failed_positions]


def _nearest_first(candidates: list[Candidate]) -> list[Candidate]:
    """Fewest violations first: the closer the rejected side, the more a pair says about the constraint."""
    return sorted(candidates, key=lambda c: len(c.failed_positions))


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)  # unknown names show now
    n = sum(1 if s.constraints else options.prompts_per_seed for s in seeds)
    words = sum(len(s.seed_prompt.split()) for s in seeds) / max(1, len(seeds))
    mean = (options.min_constraints + options.max_constraints) / 2
    prompt = int(1.4 * (words + 15 * mean)) + 20  # about 15 words a constraint, 1.4 tokens a word
    calls = []
    if "teacher" in roles and options.keywords == "teacher":
        calls.append(PlannedCalls("compose", "teacher", len(seeds), 3 * len(seeds), prompt + 60, 60))
    if "student" in roles:
        calls.append(PlannedCalls("respond", "student", n * options.student_samples, n * options.student_samples,
                                  prompt, 200))
    if "teacher" in roles and options.teacher_samples:
        calls.append(PlannedCalls("respond", "teacher", n * options.teacher_samples,
                                  n * options.teacher_samples, prompt, 250))
    if "teacher" in roles and options.correct and options.student_samples:
        most = n * options.max_constraints * options.correction_rounds * options.correction_tries
        calls.append(PlannedCalls("correct", "teacher", 0, int(most), 2 * prompt + 300, 250))
    return calls


METHOD = Method(
    name=NAME,
    summary="checkable constraints composed onto seeds; answers verified, mended one constraint at a time",
    roles={"student": (True, "the model you will train; its answers are checked, mended or rejected"),
           "teacher": (False, "a stronger model that corrects; without one the run is best-of-n self-alignment")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan,
    difficulty="number of constraints on the prompt",
    training={"dpo": {"pref_beta": 0.1, "pref_ftx": 1.0}})
