"""Conifer (Sun et al., 2024, "Conifer: Improving Complex Constrained Instruction-Following Ability of Large
Language Models").

A query is reframed into self-contained instructions; constraints are found for each in two levels (category,
item) and recombined into five versions, each asking for more. The answers become three progressive forms:
*easy to hard* conversations that walk up the levels, *internal* process feedback (an answer that explains how it
met each format and number constraint) and *external* process feedback (a weak first attempt, what is wrong with
it, the good answer).

What is drawn for a level is drawn here, with the run's seed, and the teacher only words it: so the items of every
level are known, and a judge is asked about each of them. Format and number constraints come from our own list,
each with its checker. Upstream checks no answer at all, and its external form trains the model on its own bad
attempt; here the attempt is in the prompt (``external: folded``), or in a dataset of its own that must be
trained with ``mask_history`` (``external: masked``).
"""

from __future__ import annotations

from functools import partial

from if_factory.methods.base import Method
from if_factory.methods.conifer.answers import answer, attempt, converse
from if_factory.methods.conifer.emit import emit
from if_factory.methods.conifer.options import NAME, PRESETS, Options
from if_factory.methods.conifer.plan import plan, require_types
from if_factory.methods.conifer.training import TRAINING
from if_factory.methods.conifer.versions import constrain, feasible, recombine, reframe, select, stands_alone
from if_factory.pipeline.stage import Stage


def stages(options: Options) -> list[Stage]:
    require_types(options)
    return [Stage("select", partial(select, options=options)),
            Stage("reframe", partial(reframe, options=options)),
            Stage("stands_alone", partial(stands_alone, options=options)),
            Stage("constrain", partial(constrain, options=options)),
            Stage("recombine", partial(recombine, options=options)),
            Stage("feasible", partial(feasible, options=options)),
            Stage("answer", partial(answer, options=options)),
            Stage("attempt", partial(attempt, options=options)),
            Stage("converse", partial(converse, options=options), scope="per_seed", joins_answers=True)]


METHOD = Method(
    name=NAME,
    summary="instructions in five levels of constraints; conversations up the levels, with process feedback",
    roles={"teacher": (True, "reframes, finds constraints, words the levels, answers"),
           "judge": (False, "decides what code cannot; without one the teacher does"),
           "student": (False, "the model you will train; its failing attempts are criticised and rejected")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan,
    difficulty="level of the version, 1 to 5; of a conversation its highest",
    needs={"feedback": ("student", "external")},
    # One bin: the conversations climb the levels within themselves, and an ablation that has none must not climb by
    # the order of its rows. One SFT on all forms, as in the paper; rows with another mask_history train apart.
    bins=lambda options: [],
    together=("sft", "sft_internal", "sft_external"),
    # Curricula mask the history of SFT rows; here every answer of a conversation was verified.
    training={"sft": {"mask_history": False}, "sft_external_masked": {"mask_history": True}})
