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

from functools import partial

from if_factory.methods.base import Method
from if_factory.methods.suri.constraints import backtranslate, composed, corrupt, judge, label
from if_factory.methods.suri.emit import emit
from if_factory.methods.suri.options import NAME, PRESETS, Options
from if_factory.methods.suri.plan import plan
from if_factory.methods.suri.texts import check, cut, inputs
from if_factory.methods.suri.training import TRAINING
from if_factory.methods.suri.triples import sample
from if_factory.pipeline.stage import Stage


def stages(options: Options) -> list[Stage]:
    asked = [Stage("backtranslate", partial(backtranslate, options=options)),
             Stage("corrupt", partial(corrupt, options=options)),
             *([Stage("label", partial(label, options=options))] if options.label else []),
             Stage("judge", partial(judge, options=options))]
    return [Stage("segment", partial(cut, options=options)), Stage("check", partial(check, options=options)),
            *([] if options.source == "composer" else asked),
            *([] if options.source == "teacher" else [Stage("compose", partial(composed, options=options))]),
            Stage("sample", partial(sample, options=options))]


# LoRA, rate and length as upstream's orpo.yaml and its SFT; I-ORPO continues with the adapter of SFT.
_TRAINING = {"lora_rank": 16, "lora_alpha": 16, "learning_rate": 5e-5, "cutoff_len": 15024}

METHOD = Method(
    name=NAME,
    summary="human texts with instructions inferred from them, corrupted constraint by constraint: I-ORPO triples",
    roles={"teacher": (False, "infers instructions from texts and corrupts them; without one, code composes them"),
           "judge": (False, "says whether the text follows a constraint; without one the teacher does")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="1 / number of corrupted constraints: a single one is hardest to see",
    training={"sft": {**_TRAINING, "warmup_ratio": 0.1},
              "iorpo": {**_TRAINING, "warmup_ratio": 0.0, "pref_beta": 0.4, "num_train_epochs": 2}})
