"""What the authors of Step-by-Step Mastery train with: ``CL_train/*.yaml`` of their repositories."""

from __future__ import annotations

from if_factory.methods.training import BATCH, Key, PresetTraining

_DPO, _SFT = "CL_train/lora_dpo_easy.yaml and lora_dpo_hard.yaml", "CL_train/lora_sft.yaml"
_ADAPTER = "the rate is for an adapter; for all weights none is stated"


def _shared(stage: str, place: str) -> tuple[Key, ...]:
    return (
        Key(stage, "lr_scheduler_type", "cosine", place),
        Key(stage, "warmup_ratio", 0.1, place),
        Key(stage, "num_train_epochs", 3.0, place),
        Key(stage, "cutoff_len", 4096, place),
        Key(stage, BATCH, 8, f"{place}: 1 x 8"),
        Key(stage, "max_samples", 10000, place),
        Key(stage, "val_size", 0.1, place),
        Key(stage, "eval_strategy", "steps", place),
        Key(stage, "eval_steps", 500, place),
        Key(stage, "per_device_eval_batch_size", 1, place),
    )


# First the easy pairs from the base model, then the hard ones: no SFT before them.
TRAINING = {
    "paper": PresetTraining((
        Key("dpo", "learning_rate", 5e-6, _DPO, ("lora",), why=_ADAPTER),
        Key("dpo", "pref_beta", 0.1, _DPO),
        Key("dpo", "pref_ftx", 1.0, f"{_DPO}, of the newer repository"),
        *_shared("dpo", _DPO),
        Key("sft", "learning_rate", 1e-4, _SFT, ("lora",), why=_ADAPTER),
        *_shared("sft", _SFT),
    ), ("LoRA's rank and alpha", "weight decay", "everything about training all weights",
        "the number of constraints from which a pair is hard"), stages=("dpo",)),
}
TRAINING["released"] = TRAINING["paper"]
