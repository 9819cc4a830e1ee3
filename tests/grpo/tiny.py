"""Prompts for a random model of 0.2 M parameters, and the YAML of a GRPO run of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.iorpo.tiny import make_root, register_data

COLUMNS = {"prompt": "instruction", "query": "input", "system": "system", "history": "history"}


def prompt(i: int) -> dict[str, Any]:
    """A random model writes random bytes: some answers have a comma or a second word, some have not."""
    text = f"Write about number {i}. Use no comma. Use one word."
    truth = {"instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
             "kwargs": [{}, {"relation": "less than", "num_words": 2}],
             "constraints": ["Use no comma", "Use one word"], "prompt": text}
    return {"instruction": text, "input": "", "system": "", "history": [], "ground_truth": json.dumps(truth)}


def make_prompts(folder: Path) -> Path:
    """``make_root`` with the datasets ``prompts`` (12), ``held_out_prompts`` (4) and ``no_truth`` (2)."""
    make_root(folder)
    entry = {"columns": COLUMNS}
    register_data(folder / "data", "prompts", [prompt(i) for i in range(12)], entry)
    register_data(folder / "data", "held_out_prompts", [prompt(i) for i in range(100, 104)], entry)
    register_data(folder / "data", "no_truth", [{k: v for k, v in prompt(0).items() if k != "ground_truth"}] * 2, entry)
    return folder


def config(root: Path, out: Path, **keys: Any) -> dict[str, Any]:
    """The keys of a short run; ``keys`` override them, ``None`` takes one out."""
    base = {"model_name_or_path": str(root / "tiny"), "stage": "grpo", "do_train": True, "dataset": "prompts",
            "dataset_dir": str(root / "data"), "template": "default", "cutoff_len": 256, "lora_rank": 8,
            "output_dir": str(out), "logging_steps": 1, "save_strategy": "no", "report_to": "none", "max_steps": 2,
            "per_device_train_batch_size": 4, "learning_rate": 5e-3, "use_cpu": True, "bf16": False,
            "lr_scheduler_type": "constant", "overwrite_output_dir": False, "grpo_num_generations": 4,
            "grpo_max_completion_length": 24, "grpo_usefulness": False}
    return {k: v for k, v in (base | keys).items() if v is not None}
