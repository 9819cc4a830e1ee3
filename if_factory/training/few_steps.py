"""Stages of few optimizer steps: a warm-up, whose first step has a learning rate of 0, would leave little of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

FEW = 10


def steps_of(config: Mapping[str, Any], rows: int) -> int:
    """The optimizer steps of a stage with this many rows on one device, as transformers counts them."""
    if (most := int(config.get("max_steps") or 0)) > 0:
        return most
    batches = math.ceil(rows / int(config["per_device_train_batch_size"]))
    each = math.ceil(batches / int(config["gradient_accumulation_steps"]))
    return math.ceil(each * float(config["num_train_epochs"]))


def without_warmup(config: Mapping[str, Any], rows: int) -> tuple[dict[str, Any], str]:
    """The keys of a stage, without its warm-up where it has few steps, and a comment that says so."""
    steps = steps_of(config, rows)
    if steps >= FEW or not (config.get("warmup_ratio") or config.get("warmup_steps")):
        return dict(config), ""
    kept = {key: value for key, value in config.items() if key != "warmup_steps"}
    return {**kept, "warmup_ratio": 0.0}, (f"ours: {steps} step{'s'[:steps != 1]} in all, and a warm-up's first has "
                                           "a learning rate of 0")


def rates_of_zero(log: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every learning rate that a trainer logged is 0."""
    rates = [entry["learning_rate"] for entry in log if entry.get("learning_rate") is not None]
    return bool(rates) and not any(rates)
