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

from functools import partial

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
    inputs,
    screen,
    write_functions,
)
from if_factory.methods.autoif.options import NAME, PRESETS, Options
from if_factory.methods.autoif.plan import plan
from if_factory.methods.autoif.training import TRAINING
from if_factory.methods.base import Method
from if_factory.pipeline.stage import Stage


def stages(options: Options) -> list[Stage]:
    translated = [Stage("back_translate", partial(back_translate, options=options)),
                  Stage("consistency", partial(consistent, options=options))]
    composed = [Stage("compose", partial(compose, options=options), scope="all"),
                Stage("compatible", partial(compatible, options=options))]
    return [Stage("augment", partial(augment, options=options)),
            Stage("deduplicate", partial(deduplicate, options=options), scope="all"),
            Stage("screen", partial(screen, options=options)),
            Stage("write_functions", partial(write_functions, options=options)),
            Stage("cross_validate", partial(cross_validated, options=options)),
            *(translated if options.back_translate else []),
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
    training={"dpo": {"pref_beta": 0.3, "pref_ftx": 0.0}})
