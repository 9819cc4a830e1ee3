"""AutoIF (Dong et al., 2024, "Self-play with Execution Feedback: Improving Instruction-following Capabilities of
Large Language Models", arXiv 2406.13542).

A model invents instructions, and for each writes functions that check it and test cases; functions and cases are
cross-validated, and a function is translated back into an instruction that must not contradict the one it
came from. What survives is put on user queries, answered several times, and every answer is run through the
functions: those that pass and answer the query become SFT rows, passes and failures become DPO pairs.

Generated code runs in the sandbox. A function that crashes, hangs or will not say yes or no has no verdict on an
answer, and no verdict makes no answer bad: upstream counts it as accuracy 0, and so as a ``rejected``.
The text that is answered, the SFT prompt and the DPO prompt are one and the same.

*Strong to weak*: a strong teacher does all of it and a weaker model is trained. *Self-alignment*: the model to be
trained does all of it. *Online DPO* samples from the model as it is trained: ``if-factory online``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from if_factory.methods.autoif.answers import put_on_queries, respond, score
from if_factory.methods.autoif.emit import emit
from if_factory.methods.autoif.instructions import (
    augment,
    back_translate,
    compatible,
    compose,
    consistent,
    cross_validated,
    deduplicate,
    grow_pool,
    in_round,
    inputs,
    screen,
    write_functions,
)
from if_factory.methods.autoif.options import NAME, PRESETS, Options
from if_factory.methods.autoif.plan import plan
from if_factory.methods.autoif.training import TRAINING
from if_factory.methods.base import Method
from if_factory.pipeline.stage import Stage


def _accept(options: Options, number: int) -> list[Stage]:
    """One round, from its calls to accepted instructions; the first round is the seeds', too."""
    steps: dict[str, Callable[..., Any]] = {
        "augment": augment, "deduplicate": deduplicate, "screen": screen, "write_functions": write_functions,
        "cross_validate": cross_validated}
    if options.back_translate:
        steps |= {"back_translate": back_translate, "consistency": consistent}
    mark = f"_{number}" if number > 1 else ""
    made = [Stage(name + mark, partial(deduplicate, options=options), scope="all") if name == "deduplicate" else
            Stage(name + mark, in_round(partial(step, options=options), number)) for name, step in steps.items()]
    return [*([Stage(f"pool{mark}", partial(grow_pool, number=number), scope="all")] if mark else []), *made]


def stages(options: Options) -> list[Stage]:
    composed = [Stage("compose", partial(compose, options=options), scope="all"),
                Stage("compatible", partial(compatible, options=options))]
    rounds = range(1, 1 + max(1, min(options.augment_rounds, options.augment_calls)))
    return [*(stage for number in rounds for stage in _accept(options, number)),
            *(composed if options.max_constraints > 1 else []),
            Stage("queries", partial(put_on_queries, options=options)),
            Stage("respond", partial(respond, options=options)),
            *([Stage("score", partial(score, options=options))] if options.quality_score else [])]


METHOD = Method(
    name=NAME,
    summary="instructions with verification functions, cross-validated and run in a sandbox over sampled answers",
    roles={"teacher": (True, "invents instructions, writes functions, answers; for self-alignment the model you "
                             "will train"),
           "student": (False, "the model you will train; answers where student_samples asks for it"),
           "judge": (False, "looks for contradictions and scores answers; without one the teacher does")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="number of instructions on the prompt, plus the share of answers that failed them",
    training={"dpo": {"pref_beta": 0.3, "pref_ftx": 0.0}}, separate=("dpo_instruction",))
