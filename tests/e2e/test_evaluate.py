"""`if-factory evaluate` on the small real model: generated, checked, decided, shown, and continued."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def command(model: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "if_factory", "evaluate", "--model", str(model), "-n", "6",
                           "--max-tokens", "48", "--read", "4", "-o", str(out)],
                          text=True, capture_output=True, timeout=900, cwd=Path(__file__).parents[2],
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


def test_the_small_model_is_evaluated_without_noise_and_continued(tmp_path: Path, hf_model: Path) -> None:
    if find_spec("scipy") is None:
        pytest.skip("scipy is not installed")
    out = tmp_path / "out"
    done = command(hf_model, out)
    assert done.returncode == 0, done.stderr
    for noise in ("%|", "it/s", "Warning:", "warn("):
        assert noise not in done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    first = results["headline"]["measures"][0]
    assert (first["key"], first["values"]["before"]["n"]) == ("satisfied_and_useful", 6)
    assert results["generation"]["before"]["completion_tokens"] > 6
    rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    assert all(row["responses"]["before"]["useful"]["answers"] in (True, False) for row in rows)
    assert len((out / "blind.jsonl").read_text().splitlines()) == 4
    assert "tokens/s" in (out / "evaluation.log").read_text()
    before = (out / "results.json").read_bytes()
    assert command(hf_model, out).returncode == 0
    assert (out / "results.json").read_bytes() == before
    assert "6 of 6 answers\n" in (out / "evaluation.log").read_text()  # from the log: no tokens were generated
