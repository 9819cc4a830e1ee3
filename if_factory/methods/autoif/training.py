"""What AutoIF's authors train with (arXiv 2406.13542, and the training commands of their README)."""

from __future__ import annotations

from if_factory.methods.training import BATCH, Key, PresetTraining

_README_SFT, _PAPER_SFT = "README, '(1) SFT Training'", "paper, settings of SFT"
_README_DPO, _PAPER_DPO = "README, '(2) DPO Training'", "paper, settings of DPO"
_RATE = "the authors train all weights; an adapter learns next to nothing at this rate"

_SFT = (
    Key("sft", "learning_rate", 7e-6, _README_SFT, ("full",), why=_RATE),
    Key("sft", "lr_scheduler_type", "linear", _README_SFT),
    Key("sft", "warmup_steps", 20, _README_SFT),
    Key("sft", "weight_decay", 0.1, _README_SFT),
    Key("sft", "adam_beta2", 0.95, _README_SFT),
    Key("sft", "num_train_epochs", 3.0, _README_SFT),
    Key("sft", "cutoff_len", 8192, _README_SFT),
    Key("sft", BATCH, 128, f"{_PAPER_SFT}; README: 8 GPUs x 4 x 4 (512 for models of 70B and more)"),
)
_NOT_STATED = ("everything about LoRA (rank, alpha and rate: the authors train all weights, with DeepSpeed "
               "ZeRO-3: --deepspeed z3)", "weight decay of DPO")

_NOT_TAKEN = ("fp16 of the README's DPO: bf16 instead, as for SFT",)

TRAINING = {
    "paper": PresetTraining((
        *_SFT,
        Key("dpo", "learning_rate", 5e-7, f"{_PAPER_DPO} (README: 5e-6)", ("full",), why=_RATE),
        Key("dpo", "lr_scheduler_type", "cosine", _PAPER_DPO),
        Key("dpo", "warmup_ratio", 0.1, _PAPER_DPO),
        Key("dpo", "num_train_epochs", 2.0, _PAPER_DPO),
        Key("dpo", "cutoff_len", 4096, _PAPER_DPO),
        Key("dpo", "pref_beta", 0.3, _PAPER_DPO),
        Key("dpo", "pref_ftx", 0.0, f"{_PAPER_DPO}: no SFT term"),
        Key("dpo", BATCH, 64, f"{_PAPER_DPO} (README: 16)"),
    ), _NOT_STATED, _NOT_TAKEN, bins=1),
    "released": PresetTraining((
        *_SFT,
        Key("dpo", "learning_rate", 5e-6, f"{_README_DPO} (paper: 5e-7)"),
        Key("dpo", "lr_scheduler_type", "cosine", _README_DPO),
        Key("dpo", "warmup_ratio", 0.1, _README_DPO),
        Key("dpo", "num_train_epochs", 2.0, _README_DPO),
        Key("dpo", "cutoff_len", 4096, _README_DPO),
        Key("dpo", "pref_beta", 0.1, f"{_README_DPO}: none, so LLaMA-Factory's default (paper: 0.3)"),
        Key("dpo", "pref_ftx", 0.0, f"{_README_DPO}: no SFT term"),
        Key("dpo", BATCH, 16, f"{_README_DPO}: 8 GPUs x 1 x 2 (paper: 64)"),
    ), _NOT_STATED, _NOT_TAKEN, bins=1),
}
