"""Conifer (Sun et al., 2024, "Conifer: Improving Complex Constrained Instruction-Following Ability of Large
Language Models").

A query is reframed into instructions that stand alone; constraints are found for each in two levels (category,
item) and recombined into five versions, each asking for more. The answers become three progressive forms:
*easy to hard* conversations that walk up the levels, *internal* process feedback (an answer that explains how it
met each format and number constraint) and *external* process feedback (a weak first attempt, what is wrong with
it, the good answer).

What is drawn for a level is drawn here, with the run's seed, and the teacher only words it: so the items of every
level are known, and a judge is asked about each of them. Format and number constraints come from our own list,
each with its checker. Upstream checks no answer at all, and its external form trains the model on its own bad
attempt; here the attempt stands in the prompt (``external: folded``), or in a dataset of its own that must be
trained with ``mask_history`` (``external: masked``).
"""

from __future__ import annotations

from functools import partial
from random import Random

from if_factory.constraints.compose import compose
from if_factory.judge.judge import judge_role
from if_factory.methods.base import Emission, Method, PlannedCalls, template
from if_factory.methods.conifer.answers import answer, attempt, converse, fails, good, is_hardest
from if_factory.methods.conifer.options import NAME, PRESETS, Options
from if_factory.methods.conifer.versions import (
    constrain,
    feasible,
    recombine,
    reframe,
    stands_alone,
    wants_internal,
)
from if_factory.pipeline.stage import Stage
from if_factory.records import Candidate, Record, Turn, emit_kto, emit_preference, emit_sft


def stages(options: Options) -> list[Stage]:
    _require_types(options)
    bound = partial(partial, options=options)
    return [Stage("reframe", bound(reframe)),
            Stage("stands_alone", bound(stands_alone)),
            Stage("constrain", bound(constrain)),
            Stage("recombine", bound(recombine)),
            Stage("feasible", bound(feasible)),
            Stage("answer", bound(answer)),
            Stage("attempt", bound(attempt)),
            Stage("converse", bound(converse), scope="per_seed")]


def _require_types(options: Options) -> None:
    """Raises ``UserError`` for a misspelt type before anything is asked."""
    compose("", Random(0), n=0, include=options.format_types)


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """Conversations as ``sft``, process feedback as ``sft_internal`` and ``sft_external`` (or with ``_masked``);
    ``dpo`` and ``kto`` set what failed at the hardest version, the student's attempts and the teacher's answers,
    against the verified answer."""
    verified = good(record)
    if not verified:
        out.refused["sft"]["no_verified_answer"] += 1
        return
    if record.extra["form"] == "internal":
        out.add(emit_sft(record, verified[0]), "sft_internal")
        return
    if "turn_of" in record.extra:
        out.refused["sft"]["turn_of_a_conversation"] += 1
    else:
        out.add(emit_sft(record, verified[0]), "sft")
    if not is_hardest(record, options):
        return
    alone = record.model_copy(update={"history": ()})
    failing = [c for c in record.candidates if fails(c)]
    for weak in failing:
        out.add(emit_preference(alone, verified[0], weak), "dpo")
    for candidate in [verified[0], *failing] if failing else []:
        out.add(emit_kto(alone, candidate), "kto")
    if options.feedback in ("both", "external") and any(c.source == "baseline" for c in record.candidates):
        _emit_external(alone, verified[0], options, out)


def _emit_external(record: Record, good: Candidate, options: Options, out: Emission) -> None:
    dataset = "sft_external" if options.external == "folded" else "sft_external_masked"
    feedback = record.extra.get("feedback")
    if feedback is None:
        out.refused[dataset]["no_failing_attempt"] += 1
    elif not feedback:
        out.refused[dataset]["feedback_unread"] += 1
    else:
        weak = record.candidates[record.extra["attempt"]]
        if weak.text == good.text:
            out.refused[dataset]["revision_equals_attempt"] += 1
        else:
            out.add(emit_sft(_revision(record, weak, feedback, options), good), dataset)


def _revision(record: Record, weak: Candidate, feedback: str, options: Options) -> Record:
    """The record as the last turn of: instruction, weak attempt, what is wrong with it."""
    if options.external == "folded":
        prompt = template(NAME, "revise", options.prompts).render(instruction=record.prompt, response=weak.text,
                                                                 feedback=feedback)
        return record.model_copy(update={"prompt": prompt.strip()})
    turns = (Turn(role="user", content=record.prompt), Turn(role="assistant", content=weak.text))
    return record.model_copy(update={"history": turns, "prompt": f"{feedback}\n\nPlease give a revised version."})


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    _require_types(options)
    judge = judge_role(roles)
    n = len(seeds)
    asked = n * options.reframed
    formatted = options.format_share if wants_internal(options) else 0
    versions = round(asked * len(options.levels) * (1 + formatted))
    calls = [PlannedCalls("reframe", "teacher", n, 3 * n, 220, 120),
             PlannedCalls("stands_alone", judge, 0, 3 * asked, 160, 30),
             PlannedCalls("constrain", "teacher", 0, 3 * asked, 240, 300),
             PlannedCalls("recombine", "teacher", 0, 3 * asked, 500, 350),
             PlannedCalls("feasible", judge, 0, 3 * versions, 220, 30),
             PlannedCalls("answer", "teacher", 0, versions * options.answers, 120, 400),
             PlannedCalls("answer", judge, 0, 3 * versions * options.answers, 700, 150)]
    if "student" in roles:
        tries = asked * options.baselines
        calls += [PlannedCalls("attempt", "student", 0, tries, 120, 400),
                  PlannedCalls("attempt", judge, 0, 3 * tries, 700, 150),
                  PlannedCalls("attempt", "teacher", 0, 3 * asked, 600, 80)]
    return calls


METHOD = Method(
    name=NAME,
    summary="instructions in five levels of constraints; conversations up the levels, with process feedback",
    roles={"teacher": (True, "reframes, finds constraints, words the levels, answers"),
           "judge": (False, "decides what code cannot; without one the teacher does"),
           "student": (False, "the model you will train; its failing attempts are criticised and rejected")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan,
    difficulty="level of the version, 1 to 5; of a conversation its highest",
    bins=lambda options: [3],
    # Curricula mask the history of SFT rows; here every answer of a conversation was verified.
    training={"sft": {"mask_history": False}, "sft_external_masked": {"mask_history": True}})
