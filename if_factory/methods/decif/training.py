"""What DecIF's authors train with: the training command of their README (arXiv 2505.13990)."""

from __future__ import annotations

from if_factory.methods.training import BATCH, Key, PresetTraining

_README = "README, 'Training Script in LLaMA-Factory'"

TRAINING = {
    "paper": PresetTraining((
        Key("sft", "learning_rate", 1e-5, _README, ("full",),
            why="the authors train all weights; an adapter learns little at this rate"),
        Key("sft", "lr_scheduler_type", "cosine", _README),
        Key("sft", "warmup_ratio", 0.03, _README),
        Key("sft", "num_train_epochs", 3.0, _README),
        Key("sft", "cutoff_len", 8192, _README),
        Key("sft", BATCH, 64, f"{_README}: 8 GPUs x 1 x 8"),
    ), ("weight decay", "everything about LoRA (the authors train all weights, with DeepSpeed ZeRO: --deepspeed z3)",
        "everything about DPO (the authors only do SFT)"), stages=("sft",), bins=1),
}
TRAINING["released"] = TRAINING["paper"]
