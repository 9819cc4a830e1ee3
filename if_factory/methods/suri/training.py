"""What Suri's authors train with: ``ft/`` of their repository, for SFT and for I-ORPO (arXiv 2406.19371).

Both start from Mistral-7B-Instruct-v0.2; I-ORPO does not continue SFT, and nothing is ordered by difficulty.
"""

from __future__ import annotations

from if_factory.methods.training import BATCH, Key, PresetTraining

_ORPO, _SFT = "ft/i-orpo/orpo.yaml", "ft/ settings of SFT"
_ADAPTER = "the rate is for an adapter; for all weights none is stated"


def _shared(stage: str, place: str) -> tuple[Key, ...]:
    return (
        Key(stage, "lora_rank", 16, place, ("lora",)),
        Key(stage, "lora_alpha", 16, place, ("lora",)),
        Key(stage, "learning_rate", 5e-5, place, ("lora",), why=_ADAPTER),
        Key(stage, "lr_scheduler_type", "cosine", place),
        Key(stage, "num_train_epochs", 2.0, place),
        Key(stage, "cutoff_len", 15024, place),
        Key(stage, BATCH, 4, f"{place}: 4 GPUs x 1 x 1"),
    )


TRAINING = {
    "paper": PresetTraining((
        *_shared("iorpo", _ORPO),
        Key("iorpo", "pref_beta", 0.4, f"{_ORPO}: lambda"),
        Key("iorpo", "warmup_ratio", 0.0, f"{_ORPO}: the warm-up is commented out"),
        Key("iorpo", "lora_dropout", 0.0, _ORPO, ("lora",), stated=0.05,
            why="dropout has no effect in stage iorpo, whose trainer turns it off"),
        *_shared("sft", _SFT),
        Key("sft", "warmup_ratio", 0.1, _SFT),
        Key("sft", "lora_dropout", 0.05, _SFT, ("lora",)),
        Key("sft", "packing", False, "ft/sft/run_sft.py:195", stated=True,
            why="packed rows would be cut and see each other; the SFT loss is on the answer alone, not on the prompt"),
    ), ("weight decay", "everything about training all weights"), stages=("iorpo",), bins=1),
}
TRAINING["released"] = TRAINING["paper"]
