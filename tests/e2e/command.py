"""What the end-to-end tests have in common: a command as a user types it, and its files read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def if_factory(folder: Path, *arguments: object) -> str:
    """Run `if-factory ARGUMENTS` in ``folder``, without a GPU; it must end well. Returns what it printed."""
    done = subprocess.run([sys.executable, "-m", "if_factory", *map(str, arguments)], cwd=folder, text=True,
                          capture_output=True, timeout=1200,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def trained_steps(saved: Path) -> int:
    """Steps of a finished training; its adapter must be there."""
    assert (saved / "adapter_model.safetensors").stat().st_size > 0
    steps: int = json.loads((saved / "trainer_state.json").read_text())["global_step"]
    return steps
