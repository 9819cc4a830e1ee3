"""Suri (Pham et al., 2024, "Suri: Multi-constraint Instruction Following for Long-form Text Generation",
arXiv 2406.19371).

A long text that a person wrote is the gold response y. A teacher infers the instruction it could have been
written for (*back-translation*): a main instruction and about ten constraints, x_w. It then rewrites each
constraint, as little as it can, into one that the text violates (*corruption*); an instruction with some
constraints corrupted is x_l. I-ORPO trains on the triple (x_w, x_l, y).

Upstream ships prompts and a trainer, but no code for any of this, and nothing is checked. Here originals and
rewrites are aligned, copies and mere negations are refused, and code or a judge has to say that the text follows
every constraint that is kept and none of the corrupted ones that are used.

Without a teacher the constraints are measured: written by code so that the text passes, corrupted in their
arguments so that it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from if_factory.constraints import text as measure
from if_factory.constraints.compose import compose
from if_factory.constraints.contradictions import conflict
from if_factory.constraints.join import join
from if_factory.constraints.measured import draw_corruptible, label_of, topic
from if_factory.constraints.verify import verify
from if_factory.constraints.violations import why_no_violation
from if_factory.errors import UserError
from if_factory.llm.lists import parse_instructions, parse_pairs
from if_factory.llm.parse import Failure, ask_parsed, parse_json
from if_factory.methods.base import PATH, Emission, Method, PlannedCalls, template
from if_factory.pipeline.stage import Context, Reject, Stage
from if_factory.quality.judge import judge_criteria, judge_of, judge_role
from if_factory.records import (
    Candidate,
    Constraint,
    Outcome,
    Record,
    Verdict,
    content_id,
    emit_kto,
    emit_sft,
    emit_triple,
)
from if_factory.texts import clean, read_texts, segment, text_record, why_not

NAME = "suri"
CONSTRAINT = "suri:constraint"  # the type of a back-translated constraint; a judge decides it
_QUOTED = 8  # so many words in a row that a constraint shares with the text are a quotation


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: Literal["auto", "teacher", "composer", "both"] = Field(
        "auto", description="constraints inferred by the teacher, composed by code from how the text is, or both; "
        "auto is teacher where there is one, else composer")
    text_column: str = Field("text", description="the field of a row that holds the text")
    min_words: Annotated[int, Field(ge=1)] = Field(100, description="shortest text used, in words")
    max_words: Annotated[int, Field(ge=1)] = Field(1500, description="longest; longer texts are cut into pieces")
    pieces_per_text: Annotated[int, Field(ge=1)] | None = Field(None, description="pieces of one text at most")
    constraints: Annotated[int, Field(ge=1, le=30)] = Field(10, description="constraints asked for per text")
    min_constraints: Annotated[int, Field(ge=1)] = Field(
        1, description="texts with fewer verified constraints are left out")
    included: Literal["sampled", "all"] | Annotated[int, Field(ge=1)] = Field(
        "sampled", description="constraints in an instruction: all, so many, or drawn from 1 to all")
    corrupted: Literal["sampled", "all"] | Annotated[int, Field(ge=1)] = Field(
        "sampled", description="those of them that are corrupted in x_l: all, so many, or drawn from 1 to all")
    triples_per_text: Annotated[int, Field(ge=1)] = Field(2, description="instructions made for one text")
    label: bool = Field(True, description="the teacher labels constraints: stylistic/semantic, broad/specific")
    include: list[str] = Field([], description="composer: constraint types or families drawn; empty means all")
    exclude: list[str] = Field([], description="composer: constraint types or families never drawn")
    tries: Annotated[int, Field(ge=1)] = Field(3, description="requests until an answer can be read, at most")
    sft: bool = Field(True, description="also emit x_w -> y as SFT rows")
    kto: bool = Field(True, description="also emit (x_w, y, true) and (x_l, y, false): a surrogate, not I-ORPO")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @model_validator(mode="after")
    def _ordered(self) -> Options:
        if self.min_words > self.max_words:
            raise ValueError("min_words is larger than max_words")
        return self


# Texts of 2,048 to 5,024 words, one excerpt each, about ten constraints (paper sections 2-3, b3.py).
_LONG = {"source": "teacher", "min_words": 2048, "max_words": 5024, "pieces_per_text": 1, "constraints": 10,
         "triples_per_text": 1}
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "paper": {**_LONG, "included": "all", "corrupted": "all"},
    # ft/README.md: every prompt of a training triple holds a single constraint.
    "code": {**_LONG, "included": 1, "corrupted": 1},
    "composer": {"source": "composer"},
}


class Pair(BaseModel):
    """A constraint with its corrupted form, and what was found out about the text under each."""

    constraint: Constraint
    corrupted: Constraint
    label: dict[str, str]
    holds: Verdict = Verdict(outcome=Outcome.NO_VERDICT, reason="not asked")
    broken: Verdict = Verdict(outcome=Outcome.NO_VERDICT, reason="not asked")


# ---------------------------------------------------------------- texts


def inputs(path: Path | None, options: Options, limit: int | None) -> list[Record]:
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)  # unknown names show now
    return [text_record(t, NAME) for t in read_texts(path, column=options.text_column, limit=limit)]


def stages(options: Options) -> list[Stage]:
    asked = [Stage("backtranslate", partial(backtranslate, options=options)),
             Stage("corrupt", partial(corrupt, options=options)),
             *([Stage("label", partial(label, options=options))] if options.label else []),
             Stage("judge", partial(judge, options=options))]
    return [Stage("segment", partial(cut, options=options)), Stage("check", partial(check, options=options)),
            *([] if options.source == "composer" else asked),
            *([] if options.source == "teacher" else [Stage("compose", partial(composed, options=options))]),
            Stage("sample", partial(sample, options=options))]


async def cut(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """A text, cleaned and in pieces within the window; the response of a given pair stays word for word."""
    if record.prompt:
        return [record]
    pieces, removed = _pieces(record, options)
    extra = {**record.extra, "removed_lines": dict(sorted(removed.items()))}
    return [record.model_copy(update={"id": content_id(record.id, i), "parent": record.id,
                                      "candidates": (Candidate(text=piece, source="human"),),
                                      "extra": {**extra, "piece": i}})
            for i, piece in enumerate(pieces)]


def _pieces(record: Record, options: Options) -> tuple[list[str], Counter[str]]:
    text = record.candidates[0].text
    if record.prompt:
        return [text], Counter()
    cleaned, removed = clean(text)
    pieces = segment(cleaned, min_words=options.min_words, max_words=options.max_words)
    return pieces[:options.pieces_per_text], removed


async def check(record: Record, ctx: Context, *, options: Options) -> Record:
    if why := _unusable(record, record.candidates[0].text, options):
        raise Reject(why)
    return record


def _unusable(record: Record, text: str, options: Options) -> str | None:
    """Why a text is not used; the response of a given pair has a form of its own and only its length counts."""
    why = why_not(text, min_words=options.min_words, max_words=options.max_words)
    return why if why in ("too_short", "too_long") or not record.prompt else None


# ---------------------------------------------------------------- the teacher's constraints


def _has_teacher(options: Options, there: bool) -> bool:
    if not there and options.source in ("teacher", "both"):
        raise UserError(f"source: {options.source} needs a teacher", where="options.source",
                        fix="add models.teacher, or set source: composer, which asks no model")
    return there


async def backtranslate(record: Record, ctx: Context, *, options: Options) -> Record:
    """A main instruction (unless it is known) and constraints that the text follows, as its own teacher says."""
    if not _has_teacher(options, ctx.has("teacher")):
        return record
    text = record.candidates[0].text
    ask = template(NAME, "backtranslate", options.prompts).render(text=text, main=record.prompt,
                                                                  count=options.constraints)
    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                             partial(parse_instructions, main=record.prompt), tries=options.tries,
                             schema=_instructions_schema(record.prompt, options.constraints))
    if isinstance(found, Failure):
        raise Reject(found.reason, found.detail)
    own = [c for c in found.constraints if not _quotes(c, text)]
    dropped = Counter({"quotes_the_text": len(found.constraints) - len(own)})
    return _with(record, dropped, main_instruction=found.main_instruction, asked=own[:options.constraints])


def _instructions_schema(main: str, most: int) -> dict[str, Any]:
    """Both parts required, and an end to the list: a small model held to a schema leaves out what it may."""
    parts: dict[str, Any] = {} if main else {"main_instruction": {"type": "string"}}
    parts["constraints"] = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": most}
    return {"type": "object", "additionalProperties": False, "required": list(parts), "properties": parts}


def _quotes(constraint: str, text: str) -> bool:
    """Whether the constraint gives the text away, by so many of its words in a row."""
    words, whole = ([w.lower() for w in measure.words(t)] for t in (constraint, text))
    said = f" {' '.join(whole)} "
    return any(f" {' '.join(words[i:i + _QUOTED])} " in said for i in range(len(words) - _QUOTED + 1))


class _Rewrite(BaseModel):
    number: int
    modified: str


class _Rewrites(BaseModel):  # what is asked for; what is read is up to parse_pairs
    rewrites: list[_Rewrite]


async def corrupt(record: Record, ctx: Context, *, options: Options) -> Record:
    """Every constraint with a rewrite; copies and mere negations are asked for again, and dropped in the end."""
    if not ctx.has("teacher"):
        return record
    pending: list[str] = record.extra["asked"]
    rewritten: dict[str, str] = {}
    why: dict[str, str] = {}
    for round_ in range(options.tries):
        ask = template(NAME, "corrupt", options.prompts).render(main=record.extra["main_instruction"],
                                                                constraints=pending)
        found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                                 partial(parse_pairs, originals=pending), tries=options.tries, sample=round_,
                                 schema=_Rewrites.model_json_schema())
        if isinstance(found, Failure):
            if not rewritten:
                raise Reject(found.reason, found.detail)
            break
        why = {c: reason for c, new in zip(pending, found, strict=True) if (reason := why_no_violation(c, new))}
        rewritten |= {c: new for c, new in zip(pending, found, strict=True) if c not in why}
        pending = list(why)
        if not pending:
            break
    pairs = [Pair(constraint=_judged(c), corrupted=_judged(rewritten[c]), label={})
             for c in record.extra["asked"] if c in rewritten]
    return _with(record, Counter(why.values()), pairs=pairs)


def _judged(text: str) -> Constraint:
    return Constraint(type=CONSTRAINT, text=text, kind="judge")


_LOWER = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)


class _Label(BaseModel):
    number: int
    type: Annotated[Literal["stylistic", "semantic", "mixed"], _LOWER]
    scope: Annotated[Literal["broad", "specific"], _LOWER]


class _Labels(BaseModel):
    labels: list[_Label]


async def label(record: Record, ctx: Context, *, options: Options) -> Record:
    """What each constraint is about; it is kept without a label if the teacher's answer cannot be read."""
    pairs = _pairs(record)
    if not (ctx.has("teacher") and pairs):
        return record
    ask = template(NAME, "label", options.prompts).render(constraints=[p.constraint.text for p in pairs])
    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                             partial(parse_json, model=_Labels), tries=options.tries,
                             schema=_Labels.model_json_schema())
    by_number = {} if isinstance(found, Failure) else {e.number: e for e in found.labels}
    return _with(record, pairs=[p.model_copy(update={"label": by_number[i].model_dump(exclude={"number"})})
                                if i in by_number else p for i, p in enumerate(pairs, 1)])


async def judge(record: Record, ctx: Context, *, options: Options) -> Record:
    """Only constraints that the text follows and whose corrupted forms it does not follow go on.

    Originals and corrupted forms are judged in two requests: side by side, each would give the other away.
    """
    pairs = _pairs(record)
    if not pairs:
        return record
    ask = judge_of(ctx)
    main, text = record.extra["main_instruction"], record.candidates[0].text
    said = partial(judge_criteria, ask, main, text, tries=options.tries, prompts=options.prompts)
    holds = await said([p.constraint.text for p in pairs])
    if isinstance(holds, Failure):
        raise Reject(f"judge_{holds.reason}", holds.detail)
    kept = [p.model_copy(update={"holds": v}) for p, v in zip(pairs, holds, strict=True) if v.passed]
    dropped = Counter({"the_text_does_not_follow_it": len(pairs) - len(kept)})
    if kept:
        broken = await said([p.corrupted.text for p in kept])
        if isinstance(broken, Failure):
            raise Reject(f"judge_{broken.reason}", broken.detail)
        kept = [p.model_copy(update={"broken": v}) for p, v in zip(kept, broken, strict=True)]
    dropped["the_text_follows_the_corrupted_form"] = sum(not p.broken.failed for p in kept)
    return _with(record, dropped, pairs=[p for p in kept if p.broken.failed])


# ---------------------------------------------------------------- constraints by code


async def composed(record: Record, ctx: Context, *, options: Options) -> Record:
    """Constraints that the text passes, corrupted so that it fails; a main instruction if there is none yet."""
    if options.source == "auto" and ctx.has("teacher"):
        return record
    text = record.candidates[0].text
    drawn = draw_corruptible(text, ctx.rng(record.id, "compose"), options.constraints, include=options.include,
                             exclude=options.exclude)
    pairs = [Pair(constraint=d.constraint, corrupted=d.corrupted, label=label_of(d.constraint),
                  holds=verify(text, [d.constraint])[0], broken=verify(text, [d.corrupted])[0]) for d in drawn]
    main = record.extra.get("main_instruction") or record.prompt or topic(record.extra.get("title", ""), text)
    return _with(record, main_instruction=main, pairs=[*_pairs(record), *pairs])


# ---------------------------------------------------------------- triples


async def sample(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """Instructions with some of the constraints, and some of those corrupted; one record for each triple."""
    pairs = _pairs(record)
    if len(pairs) < options.min_constraints:
        reasons = ", ".join(f"{why} {n}" for why, n in record.extra.get("dropped", {}).items())
        raise Reject("too_few_constraints", reasons)
    children: dict[str, Record] = {}
    prompts: set[str] = set()
    skipped: Counter[str] = Counter()
    for i in range(options.triples_per_text):
        child = _triple(record, pairs, ctx, options, i)
        if child is None or child.id in children:
            skipped["drawn_before" if child else "contradictory_instruction"] += 1
            continue
        extra = {**child.extra, "x_w_is_new": child.prompt not in prompts}
        prompts.add(child.prompt)
        children[child.id] = child.model_copy(update={"extra": extra})
    if not children:
        raise Reject("contradictory_instruction")
    # What was let go for this text is told once, by its first triple.
    told = {"dropped": record.extra.get("dropped", {}), "skipped": dict(sorted(skipped.items()))}
    return [_with(c, told=told if i == 0 else {}) for i, c in enumerate(children.values())]


def _triple(record: Record, pairs: Sequence[Pair], ctx: Context, options: Options, number: int) -> Record | None:
    for again in range(5):  # corrupted forms may contradict what stays; another draw may not
        rng = ctx.rng(record.id, "sample", number, again)
        included = sorted(rng.sample(range(len(pairs)), _size(options.included, len(pairs), rng)))
        corrupted = sorted(rng.sample(included, _size(options.corrupted, len(included), rng)))
        chosen = [pairs[i] for i in included]
        mixed = [pairs[i].corrupted if i in corrupted else pairs[i].constraint for i in included]
        if conflict(mixed) is None:
            break
    else:
        return None
    main = record.extra["main_instruction"]
    x_w, x_l = (join(main, constraints, ctx.rng(record.id, "layout", *included))  # one layout for both
                for constraints in ([p.constraint for p in chosen], mixed))
    child = record.child(x_w, [p.constraint for p in chosen], difficulty=1 / len(corrupted))
    text = record.candidates[0].model_copy(update={"verdicts": tuple(p.holds for p in chosen)})
    extra = {k: v for k, v in record.extra.items() if k not in ("pairs", "asked", "dropped")}
    extra |= {"prompt_rejected": x_l, "corrupted_positions": [included.index(i) for i in corrupted],
              "corruptions": [p.corrupted.model_dump(mode="json") for p in chosen],
              "corruption_verdicts": [p.broken.model_dump(mode="json") for p in chosen],
              "labels": [p.label for p in chosen]}
    return child.model_copy(update={"id": content_id(child.id, corrupted), "candidates": (text,), "extra": extra})


def _size(wanted: str | int, most: int, rng: Any) -> int:
    if wanted == "sampled":
        return int(rng.randint(1, most))
    return most if wanted == "all" else min(int(wanted), most)


def _pairs(record: Record) -> list[Pair]:
    return [Pair.model_validate(p) for p in record.extra.get("pairs", ())]


def _with(record: Record, dropped: Counter[str] | None = None, *, pairs: Sequence[Pair] | None = None,
          **extra: Any) -> Record:
    """The record with more in ``extra``; ``dropped`` is added to the counts of constraints that were let go."""
    if dropped:
        known = Counter(record.extra.get("dropped", {})) + dropped
        extra["dropped"] = dict(sorted(known.items()))
    if pairs is not None:
        extra["pairs"] = [p.model_dump(mode="json") for p in pairs]
    return record.model_copy(update={"extra": {**record.extra, **extra}})


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """The triple, x_w -> y, and the KTO twins, each through the emission rule.

    Constraints that were let go on the way are counted under ``constraints``, draws that gave no new triple under
    ``iorpo``. ``seed`` is not used: what is random was drawn in the stage ``sample``.
    """
    extra = dict(record.extra)
    told = extra.pop("told")
    out.refused["constraints"].update(told.get("dropped", {}))
    out.refused["iorpo"].update(told.get("skipped", {}))
    x_l, is_new = extra.pop("prompt_rejected"), extra.pop("x_w_is_new")
    corruptions = [Constraint.model_validate(c) for c in extra["corruptions"]]
    stored = [Verdict.model_validate(v) for v in extra.pop("corruption_verdicts")]
    positions: list[int] = extra.pop("corrupted_positions")
    record, text = record.model_copy(update={"extra": extra}), record.candidates[0]
    broken = {i: verify(text.text, [corruptions[i]])[0] if corruptions[i].kind == "code" else stored[i]
              for i in positions}
    if not out.add(emit_triple(record, text, x_l, broken), "iorpo"):
        return
    if options.sft and is_new:
        out.add(emit_sft(record, text), "sft")
    if options.kto:
        mixed = [corruptions[i] if i in broken else c for i, c in enumerate(record.constraints)]
        twin = record.child(x_l, mixed, record.difficulty).model_copy(update={"extra": {
            k: v for k, v in extra.items() if k not in ("corruptions", "labels")} | {"surrogate_of": "iorpo"}})
        verdicts = tuple(broken.get(i, v) for i, v in enumerate(text.verdicts))
        if is_new:
            out.add(emit_kto(record, text), "kto_surrogate")
        out.add(emit_kto(twin, text.model_copy(update={"verdicts": verdicts})), "kto_surrogate")


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    if options.source == "composer" or not _has_teacher(options, "teacher" in roles):
        return []
    sizes = [measure.count_words(text) for s in seeds for text in _pieces(s, options)[0]
             if _unusable(s, text, options) is None]
    n, tries = len(sizes), options.tries
    text = int(1.4 * sum(sizes) / max(1, n))
    listed = 30 * options.constraints  # tokens of the constraints, or of their rewrites
    role = judge_role(roles)
    calls = [PlannedCalls("backtranslate", "teacher", n, tries * n, text + 350, listed + 60),
             PlannedCalls("corrupt", "teacher", n, tries * tries * n, listed + 350, listed + 60)]
    if options.label:
        calls.append(PlannedCalls("label", "teacher", n, tries * n, listed + 200, 20 * options.constraints))
    return [*calls, PlannedCalls("judge", role, n, 2 * tries * n, text + listed + 250, 40 * options.constraints)]


# LoRA, rate and length as upstream's orpo.yaml and its SFT; the adapter of SFT goes on in I-ORPO.
_TRAINING = {"lora_rank": 16, "lora_alpha": 16, "lora_dropout": 0.05, "learning_rate": 5e-5, "cutoff_len": 15024}

METHOD = Method(
    name=NAME,
    summary="human texts with instructions inferred from them, corrupted constraint by constraint: I-ORPO triples",
    roles={"teacher": (False, "infers instructions from texts and corrupts them; without one, code composes them"),
           "judge": (False, "says whether the text follows a constraint; without one the teacher does")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="1 / number of corrupted constraints: a single one is hardest to see",
    training={"sft": {**_TRAINING, "warmup_ratio": 0.1},
              "iorpo": {**_TRAINING, "warmup_ratio": 0.0, "pref_beta": 0.4, "num_train_epochs": 2}})
