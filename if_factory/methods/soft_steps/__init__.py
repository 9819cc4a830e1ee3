"""Step-by-Step Mastery (Ren et al., 2025, "Step-by-Step Mastery: Enhancing Soft Constraint Following Ability of
Large Language Models", arXiv 2501.04945).

Constraints are added to a seed one at a time: I_k = I_(k-1) + c_k. Every I_k is answered once. The winner is
carried forward as in the paper's method figure: at step k the winner so far is compared with the answer to I_k,
both as answers to I_k, and its winner is carried on. Each comparison is a DPO pair, its k the difficulty.

Upstream's released code never reaches its judge, so the newer answer always wins, and it answers I_(k-1) again
instead of carrying the winner. Here constraints that code can check are decided by code; the judge decides soft
constraints one by one and compares only answers that code finds equal, asked in both orders. What it does not
decide is a pair that is not emitted, with the reason counted. By default the winner meets every constraint, and a
step at which neither answer does is answered again; with ``winner: better`` the better one wins, as in the paper.
"""

from __future__ import annotations

from functools import partial

from if_factory.methods.base import Method
from if_factory.methods.soft_steps.comparisons import compare, respond
from if_factory.methods.soft_steps.constraints import constrain
from if_factory.methods.soft_steps.emit import emit
from if_factory.methods.soft_steps.options import NAME, PRESETS, Options
from if_factory.methods.soft_steps.plan import plan
from if_factory.methods.soft_steps.training import TRAINING
from if_factory.pipeline.stage import Stage


def stages(options: Options) -> list[Stage]:
    return [Stage("constrain", partial(constrain, options=options)),
            Stage("respond", partial(respond, options=options)),
            Stage("compare", partial(compare, options=options))]


METHOD = Method(
    name=NAME,
    summary="soft and checkable constraints added one at a time; each step's winner is carried into the next "
            "comparison",
    roles={"teacher": (True, "writes soft constraints and answers every step"),
           "judge": (False, "decides soft constraints and compares answers; default: the teacher"),
           "student": (False, "answers in the teacher's place with `answers: student`")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan,
    difficulty="k: number of constraints on the prompt", needs={"answers": ("student", "student")},
    bins=lambda options: options.bins,
    training={"dpo": {"pref_beta": 0.1, "pref_ftx": 1.0, "learning_rate": 5e-6}, "sft": {"learning_rate": 1e-4}})
