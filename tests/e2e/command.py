"""What the end-to-end tests have in common: a command as a user types it, and its files read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def if_factory(folder: Path, *arguments: object) -> str:
    """Run `if-factory ARGUMENTS` in ``folder``, without a GPU; it must end well. Returns what it printed."""
    done = subprocess.run([sys.executable, "-m", "if_factory", *map(str, arguments)], cwd=folder, text=True,
                          capture_output=True, timeout=1200,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
                               "WANDB_DISABLED": "true", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows_per_step(stage: str) -> int:
    """As few as the stage takes: a row of the embedded model's is a second or more of a CPU core."""
    return 2 if stage == "kto" else 1  # its KL term compares the rows of a batch


def train_easy_then_hard(folder: Path, method: str, stage: str, model: Path) -> dict[str, Any]:
    """Two steps of both curriculum stages on what `export` wrote into data/, ``model`` as the base.

    Returns the second stage's YAML, which goes on from the first one's adapter.
    """
    given = ("max_steps=2", "cutoff_len=1024", "gradient_accumulation_steps=1",
             f"per_device_train_batch_size={rows_per_step(stage)}")
    if_factory(folder, "curriculum", "run", "--model", model, "--dataset-dir", "data", "-o", "yaml",
               "--stages", stage, *(word for key in given for word in ("--set", key)))
    if_factory(folder, "train", "yaml")
    easy, hard = f"{method}_1_{stage}_easy", f"{method}_2_{stage}_hard"
    for name in (easy, hard):
        saved = folder / "saves" / name
        assert (saved / "adapter_model.safetensors").stat().st_size > 0
        assert json.loads((saved / "trainer_state.json").read_text())["global_step"] == 2
    config: dict[str, Any] = yaml.safe_load((folder / "yaml" / f"{hard}.yaml").read_text())
    assert config["adapter_name_or_path"].endswith(easy)
    return config
