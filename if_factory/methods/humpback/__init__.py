"""Humpback (Li et al., 2023, "Self-Alignment with Instruction Backtranslation", arXiv 2308.06259).

Texts that people wrote are good answers to instructions never given. *Self-augmentation*: a backward model,
trained on (response -> instruction), writes the instruction of every text. *Self-curation*: the forward model
rates each (instruction, text) pair on five points; the pairs of at least k points, A_k, join the seed pairs, a
forward model is trained on both from the base model again, and rates all pairs again (``if-factory humpback`` runs
these rounds; the stages below are one of them).

Seed rows and mined rows carry different system prompts, S_a and S_w, so that the model can tell an assistant's
voice from the web's. A_5 is the paper's "at least 4.5": several judgements of a pair are averaged, which is where
half points come from. The community's rerun lost 45 to 67 % of its judgements to parsing; here the score is asked
for by schema, read leniently, asked for again a bounded number of times, and what stays unread is counted.
"""

from __future__ import annotations

from functools import partial

from if_factory.methods.base import Method
from if_factory.methods.humpback.emit import emit
from if_factory.methods.humpback.inputs import inputs
from if_factory.methods.humpback.options import NAME, PRESETS, Options
from if_factory.methods.humpback.plan import plan
from if_factory.methods.humpback.steps import augment, curate, distinct, keep_usable
from if_factory.methods.humpback.training import TRAINING
from if_factory.pipeline.stage import Stage


def stages(options: Options) -> list[Stage]:
    return [Stage("filter", partial(keep_usable, options=options)),
            Stage("augment", partial(augment, options=options)),
            Stage("distinct", partial(distinct, options=options), scope="all"),
            Stage("curate", partial(curate, options=options))]


METHOD = Method(
    name=NAME,
    summary="instructions written for texts that people wrote; pairs rated by the model itself, the best kept",
    roles={"backward": (False, "writes a text's instruction: any chat model; `if-factory humpback` trains one"),
           "judge": (False, "rates each pair on five points; `if-factory humpback` has the forward model do it")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="5 minus the mean rating: what barely passed is hard",
    training={"sft": {"lr_scheduler_type": "linear", "weight_decay": 0.1}}, separate=("sft_backward",))
