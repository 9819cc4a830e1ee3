"""AutoIF (Dong et al., 2024, "Self-play with Execution Feedback: Improving Instruction-following Capabilities of
Large Language Models", arXiv 2406.13542).

A model invents instructions, and for each writes functions that check it and test cases; functions and cases are
held against each other, and a function is translated back into an instruction that must not contradict the one it
came from. What survives is put on user queries, answered several times, and every answer is run through the
functions: those that pass and answer the query become SFT rows, passes and failures become DPO pairs.

Generated code runs in the sandbox. A function that crashes, hangs or will not say yes or no has no verdict on an
answer, and no verdict makes no answer bad: upstream counts it as accuracy 0, and so as a ``rejected``.
The text that is answered, the SFT prompt and the DPO prompt are one and the same.

*Strong to weak*: a strong teacher does all of it and a weaker model is trained. *Self-alignment*: the model to be
trained does all of it. *Online DPO* samples from the model as it is trained: ``if-factory online``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from if_factory.judge.judge import judge_role
from if_factory.methods.autoif.answers import emit, put_on_queries, queries, respond, samples, score
from if_factory.methods.autoif.instructions import (
    augment,
    back_translate,
    compatible,
    compose,
    consistent,
    cross_validated,
    deduplicate,
    inputs,
    screen,
    write_functions,
)
from if_factory.methods.autoif.options import NAME, PRESETS, Options
from if_factory.methods.base import Method, PlannedCalls
from if_factory.pipeline.stage import Stage
from if_factory.records import Record


def stages(options: Options) -> list[Stage]:
    def each(f: Any) -> Any:
        return partial(f, options=options)

    translated = [Stage("back_translate", each(back_translate)), Stage("consistency", each(consistent))]
    composed = [Stage("compose", each(compose), scope="all"), Stage("compatible", each(compatible))]
    return [Stage("augment", each(augment)),
            Stage("deduplicate", each(deduplicate), scope="all"),
            Stage("screen", each(screen)),
            Stage("write_functions", each(write_functions)),
            Stage("cross_validate", each(cross_validated)),
            *(translated if options.back_translate else []),
            *(composed if options.max_constraints > 1 else []),
            Stage("queries", each(put_on_queries)),
            Stage("respond", each(respond)),
            *([Stage("score", each(score))] if options.quality_score else [])]


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    """Bounds without knowing the yield: ``low`` if no new instruction and no function survives.

    Token numbers are for one request: an instruction has about 20 tokens, a query 40, an answer 200.
    """
    queries(options.queries, options.query_characters)  # a broken file shows now
    calls = sum(s.extra["origin"] == "augmentation" for s in seeds)
    own = [s for s in seeds if s.extra["origin"] == "seed" and s.extra["verifiable"] is not False]
    unmarked = sum(s.extra["verifiable"] is None for s in own)
    new, tries = calls * options.augment_count, 3
    most = len(own) + new
    judge = judge_role(roles)
    asked = [PlannedCalls("augment", "teacher", calls, calls, 900, 30 * options.augment_count)]
    if options.screen:
        asked.append(PlannedCalls("screen", "teacher", unmarked, tries * (unmarked + new), 120, 40))
    least = 0 if options.screen else unmarked
    least += len(own) - unmarked
    asked.append(PlannedCalls("write_functions", "teacher", least * options.answers, most * options.answers,
                              330, 350))
    if n := options.back_translate:
        asked.append(PlannedCalls("back_translate", "teacher", 0, tries * most, 150 + 200 * n, 40 * n))
        if options.consistency in ("judge", "embedding"):
            asked.append(PlannedCalls("consistency", judge, 0, tries * most * n, 250, 40))
    if options.max_constraints > 1 and options.consistency in ("judge", "embedding"):
        k = options.max_constraints
        asked.append(PlannedCalls("compatible", judge, 0, tries * most * k * (k - 1) // 2, 250, 40))
    prompts = most * options.queries_per_instruction
    wanted = samples(options, "student" in roles)
    asked += [PlannedCalls("respond", role, 0, prompts * n, 40 + 20 * options.max_constraints, 200)
              for role, n in wanted.items() if n]
    if options.quality_score:
        asked.append(PlannedCalls("score", judge, 0,
                                  tries * prompts * sum(wanted.values()) * options.quality_samples, 500, 60))
    return asked


METHOD = Method(
    name=NAME,
    summary="instructions with verification functions, cross-validated and run in a sandbox over sampled answers",
    roles={"teacher": (True, "invents instructions, writes functions, answers; for self-alignment the model you "
                             "will train"),
           "student": (False, "the model you will train; answers where student_samples asks for it"),
           "judge": (False, "looks for contradictions and scores answers; without one the teacher does")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="number of instructions on the prompt, plus the share of answers that failed them",
    training={"dpo": {"pref_beta": 0.3, "pref_ftx": 0.0}})
