"""What Humpback's authors train with (arXiv 2308.06259, training details)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

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
    ), ("the number of epochs: the paper states steps by the number of rows (--paper-steps)", "cutoff_len",
        "everything about LoRA"), ("dropout 0.1 in the model: LLaMA-Factory has no key for it",), bins=1),
}

# Rows -> steps, as the paper lists them: batches of 8 below 3,000 rows, of 32 from there on.
_STEPS_8 = ((0, 0), (100, 30), (800, 300), (1600, 600), (3000, 1125))
_STEPS_32 = ((3200, 500), (6400, 600), (12800, 600), (25600, 1200), (51200, 1600))


def paper_steps(rows: int) -> tuple[int, int]:
    """``(steps, batch)`` to train a forward model on so many rows; linear between the numbers that are listed.

    Below 100 and up to 3,000 rows the rate of the nearest listed number goes on; beyond 51,200 the steps stay.
    """
    if rows < 3000:
        return max(1, ceil(_between(_STEPS_8, rows))), 8
    return ceil(_between(_STEPS_32, rows)), 32


def _between(points: Sequence[tuple[int, int]], at: int) -> float:
    for (low, a), (high, b) in pairwise(points):
        if at <= high:
            return a + (b - a) * (max(at, low) - low) / (high - low)
    return points[-1][1]
