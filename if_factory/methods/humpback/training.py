"""What Humpback's authors train with (arXiv 2308.06259, training details)."""

from __future__ import annotations

from if_factory.methods.training import BATCH, Key, PresetTraining

_PAPER = "paper, training details"

TRAINING = {
    "paper": PresetTraining((
        Key("sft", "learning_rate", 1e-5, _PAPER, ("full",),
            why="the authors train all weights; an adapter learns little at this rate"),
        Key("sft", "lr_scheduler_type", "cosine_with_min_lr", _PAPER, stated="linear, from 1e-5 to 9e-6",
            why="no linear schedule of transformers stops at a floor; this one ends at 0.9 of the rate too"),
        Key("sft", "lr_scheduler_kwargs", {"min_lr_rate": 0.9}, _PAPER, stated="9e-6 of 1e-5",
            why="the same share of whatever rate is set"),
        Key("sft", "warmup_ratio", 0.0, _PAPER, stated="not stated", why="the stated rate falls from its full value"),
        Key("sft", "weight_decay", 0.1, _PAPER),
        Key("sft", BATCH, 32, f"{_PAPER} (8 below 3,000 rows)"),
    ), ("the number of epochs: the paper states steps by the number of rows (methods/humpback.md)", "cutoff_len",
        "everything about LoRA"), ("dropout 0.1 in the model: LLaMA-Factory has no key for it",), bins=1),
}
