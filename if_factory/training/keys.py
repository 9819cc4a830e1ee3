"""Keys of a training YAML that do not do what they say in LLaMA-Factory 0.9.5 (trl 0.24, datasets 4.0).

Each was run; docs/llamafactory.md has the figures. ``if-factory train`` says them before it starts, and stops
where LLaMA-Factory can only raise, minutes later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from if_factory.errors import UserError
from if_factory.logps.arguments import KEY as CHUNKS
from if_factory.logps.arguments import STAGES as CHUNKED_STAGES


@dataclass(frozen=True, slots=True)
class KeyNote:
    """``stops``: LLaMA-Factory always raises; else it trains, but not as the key says."""

    key: str
    text: str
    fix: str = ""
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" + (f"; {self.fix}" if self.fix else "")


def key_notes(config: Mapping[str, Any]) -> list[KeyNote]:
    """What to know of a training YAML's keys; empty for those that do what they say."""
    stage, loss = config.get("stage", "sft"), config.get("pref_loss", "sigmoid")
    names = [n.strip() for n in str(config.get("dataset") or "").split(",")]
    notes = []
    if stage == "dpo" and loss in ("hinge", "kto_pair"):
        notes.append(KeyNote(f"pref_loss: {loss}", "trains with the sigmoid loss (trl >= 0.20)",
                             "write sigmoid, ipo, orpo or simpo"))
    if stage == "dpo" and loss == "ipo":
        notes.append(KeyNote("pref_loss: ipo", "trains with the sigmoid loss of length-averaged "
                             "log-probabilities, not with IPO's squared loss"))
    if stage == "dpo" and loss == "orpo" and _number(config.get("pref_ftx")) > 0:
        notes.append(KeyNote("pref_ftx", "ORPO has the NLL term already; with pref_ftx it counts twice",
                             "write pref_ftx: 0"))
    if stage in ("dpo", "kto", "iorpo") and _number(config.get("lora_dropout")) > 0:
        notes.append(KeyNote("lora_dropout", f"has no effect in stage {stage}: the trainer turns dropout off"))
    if config.get("mix_strategy") == "interleave_once":
        notes.append(KeyNote("mix_strategy: interleave_once", "always raises: the datasets library that "
                             "LLaMA-Factory allows does not know it", "write concat or interleave_over",
                             stops=True))
    if "group_by_length" in config:
        notes.append(KeyNote("group_by_length", "is no key of transformers 5: LLaMA-Factory raises",
                             "write train_sampling_strategy: group_by_length", stops=True))
    if len(set(names)) < len(names):
        notes.append(KeyNote("dataset", "a name that is there twice is trained once", "use num_samples in "
                             "dataset_info.json, or a second entry on the same file",
                             stops=config.get("interleave_probs") is not None))
    if config.get(CHUNKS) is not None and stage not in CHUNKED_STAGES:
        notes.append(KeyNote(CHUNKS, f"is for the stages {' and '.join(CHUNKED_STAGES)}, not {stage}",
                             "write iorpo_chunk_size" if stage == "iorpo" else "leave it out", stops=True))
    if stage == "ppo":
        notes.append(KeyNote("stage: ppo", "cannot run: it wants trl 0.8.6 to 0.9.6, and LLaMA-Factory 0.9.5 "
                             "wants 0.18 to 0.24", "train with stage: grpo (docs/grpo.md) or dpo", stops=True))
    if config.get("streaming") is True and not int(_number(config.get("dataloader_num_workers"))):
        notes.append(KeyNote("streaming", "a local file then has 0 shards, and training raises StopIteration",
                             "write dataloader_num_workers: 1", stops=True))
    if config.get("save_only_model") is True:
        notes.append(KeyNote("save_only_model", "a run that is resumed from such a checkpoint starts its learning "
                             "rate schedule again at the full value"))
    return notes


def refuse_keys(config: Mapping[str, Any], where: str) -> None:
    """Stop before LLaMA-Factory is started for nothing.

    Raises:
        UserError: a key with which LLaMA-Factory always raises.
    """
    for note in key_notes(config):
        if note.stops:
            raise UserError(f"{note.key}: {note.text}", where=where, fix=note.fix)


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0
