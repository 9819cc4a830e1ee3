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
from functools import partial
from pathlib import Path
from random import Random

from if_factory.constraints.compose import compose
from if_factory.constraints.text import count_words
from if_factory.inputs.documents import clean, read_texts, segment, text_record, why_not
from if_factory.judge.judge import judge_role
from if_factory.methods.base import Method, PlannedCalls
from if_factory.methods.suri.constraints import backtranslate, composed, corrupt, has_teacher, judge, label
from if_factory.methods.suri.options import NAME, PRESETS, Options
from if_factory.methods.suri.triples import emit, sample
from if_factory.pipeline.stage import Context, Dropped, Stage
from if_factory.records import Candidate, Record, content_id


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


# ---------------------------------------------------------------- texts


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
        raise Dropped(why)
    return record


def _unusable(record: Record, text: str, options: Options) -> str | None:
    """Why a text is not used; the response of a given pair has a form of its own and only its length counts."""
    why = why_not(text, min_words=options.min_words, max_words=options.max_words)
    return why if why in ("too_short", "too_long") or not record.prompt else None


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    if options.source == "composer" or not has_teacher(options, "teacher" in roles):
        return []
    sizes = [count_words(text) for s in seeds for text in _pieces(s, options)[0]
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
