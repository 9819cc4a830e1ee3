"""The README's first command, at a small size: real model, real server, real training, real evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from if_factory.evaluation.audit import audit

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.e2e


def run(command, **env):
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=2400,
                          env={**os.environ, "PATH": path, "IF_FACTORY_READY": "1", **env})
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    for package in ("llamafactory", "xllamacpp", "scipy", "matplotlib"):
        pytest.importorskip(package, reason=f"needs the extras train, embedded and eval ({package})")
    folder = tmp_path_factory.mktemp("quickstart")
    out = run(["./scripts/quickstart.sh"], QUICKSTART=str(folder), SEEDS="12", PROMPTS="6", EPOCHS="1",
              STAGES="sft,dpo")
    return folder, out


def test_every_stage_trained_and_its_adapter_is_there(quickstart):
    folder, _ = quickstart
    stages = sorted((folder / "saves").iterdir())
    assert [s.name.split("_", 1)[1] for s in stages] == ["1_sft_all", "2_dpo_all"]
    for stage in stages:
        assert json.loads((stage / "trainer_state.json").read_text())["global_step"] > 0
        assert (stage / "adapter_model.safetensors").stat().st_size > 0


def test_what_was_emitted_passes_an_independent_audit(quickstart):
    folder, _ = quickstart
    for name in ("sft", "dpo", "kto"):
        report = audit(folder / "data" / f"quickstart_{name}.jsonl")
        assert report.score == 1.0
        assert report.rows > 0


def test_before_and_after_are_measured_on_the_same_prompts(quickstart):
    folder, out = quickstart
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    assert results["labels"] == ["before", "after"]
    assert results["prompts"] == 6
    assert "after" in results["comparisons"]
    assert "before" in out
    assert (folder / "run" / "report.html").stat().st_size > 10_000


def test_the_first_dpo_step_compares_with_the_model_it_starts_from(quickstart):
    """ln 2 plus the SFT term: the margin between policy and reference is exactly 0 at the first step."""
    folder, _ = quickstart
    state = json.loads((folder / "saves" / "quickstart_2_dpo_all" / "trainer_state.json").read_text())
    assert state["log_history"][0]["rewards/margins"] == pytest.approx(0, abs=2e-3)
