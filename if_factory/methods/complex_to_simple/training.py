"""What the authors of From Complex to Simple train with: ``dpo_train/`` of their repository (f4eef84).

The paper's own settings could not be read. The repository trains DPO with an SFT term, on adapters only; the arms
that are SFT alone (generation, discrimination) have no settings in it.
"""

from __future__ import annotations

from typing import Literal

from if_factory.methods.training import BATCH, Key, PresetTraining

_CONFIG, _TRAIN = "dpo_train/config.py", "dpo_train/dpo_train.py:203"
_LORA: tuple[Literal["lora"]] = ("lora",)

_NOT_STATED = ("all settings of SFT", "everything about training all weights (the authors train adapters)",
               "weight decay")
_NOT_TAKEN = ("LoRA dropout 0.05: without effect, LLaMA-Factory's DPO turns dropout off",
              "paged_adamw_32bit: it needs bitsandbytes, and changes memory, not the result")
_DPO = (
    Key("dpo", "lora_rank", 8, _CONFIG, _LORA),
    Key("dpo", "lora_alpha", 16, _CONFIG, _LORA),
    Key("dpo", "learning_rate", 5e-4, _CONFIG, _LORA,
        why="the rate is for an adapter; for all weights none is stated"),
    Key("dpo", "lr_scheduler_type", "cosine", _CONFIG),
    Key("dpo", "warmup_steps", 100, _CONFIG),
    Key("dpo", "num_train_epochs", 6.0, f"{_CONFIG}: 810 steps, saved every 135", stated="810 steps",
        why="as steps they would be another number of epochs for another number of rows; 135 steps are taken as one "
            "epoch"),
    Key("dpo", "cutoff_len", 2048, _CONFIG, stated=1024,
        why="1024 is also the prompt's limit there, which leaves no room for an answer"),
    Key("dpo", "pref_beta", 0.1, _CONFIG),
    Key("dpo", "pref_ftx", 1.0, f"{_TRAIN}: the SFT loss of the chosen answer is added"),
    Key("dpo", BATCH, 32, f"{_CONFIG}: 2 processes x 4 x 4"),
)
# Every arm is one training of the backbone on one data set, without a curriculum.
SFT_ARM = PresetTraining((), _NOT_STATED, stages=("sft",), bins=1)
DPO_ARM = PresetTraining(_DPO, _NOT_STATED, _NOT_TAKEN, stages=("dpo",), bins=1)

TRAINING = {"paper": DPO_ARM, "released": DPO_ARM, "vanilla": SFT_ARM, "generation": SFT_ARM,
            "discrimination": SFT_ARM, "contrastive": DPO_ARM}
