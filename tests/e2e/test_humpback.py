"""Humpback's whole loop with real training of a random model of 0.2 M parameters, killed in a training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.iorpo.tiny import make_root, need_llamafactory, variables

pytestmark = pytest.mark.e2e

CHAT = ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}")


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    need_llamafactory()
    pytest.importorskip("llguidance", reason="llguidance is not installed here")
    make_root(tmp_path)
    for name, key, value in (("tokenizer_config.json", "chat_template", CHAT),
                             ("config.json", "max_position_embeddings", 8192)):
        path = tmp_path / "tiny" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    recipe = {"method": "humpback", "limit": 8, "options": {
        "min_chars": 150, "max_chars": 400, "judgements": 2, "threshold": 2.5, "similarity": 1.0}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "if_factory", "humpback", "recipe.yaml", "--model", "tiny",
               "--template", "empty", "-o", "out", "--iterations", "1"]
    for setting in ("num_train_epochs=4", "learning_rate=5e-3", "save_steps=2", "cutoff_len=512",
                    "gradient_accumulation_steps=8", "plot_loss=false"):
        command += ["--set", setting]
    return subprocess.Popen(command, cwd=folder, env=variables(), text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_the_loop_trains_rates_and_survives_kill_9_in_a_training(bench: Path) -> None:
    process = start(bench)
    limit = time.monotonic() + 150
    while not any((bench / "out" / "saves").glob("m0*/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (bench / "out" / "rated_1.jsonl").exists()

    process = start(bench)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said[-3000:]
    assert "backward_1_sft_all.yaml: finished before, skipped" in said
    assert "m0_1_sft_all.yaml: going on from checkpoint-" in said
    for name in ("backward", "m0", "m1"):
        state = json.loads((bench / "out" / "saves" / f"{name}_1_sft_all" / "trainer_state.json").read_text())
        assert state["global_step"] > 0

    report, = json.loads((bench / "out" / "curation.json").read_text())
    assert report["rated"] > 0
    assert report["unread_share"] < 0.05
    assert sum(report["histogram"].values()) == report["rated"]
    stages = json.loads((bench / "out" / "ledger.json").read_text())["stages"]
    assert stages[-1]["stage"] == "curate_1"
    print(f"\n{json.dumps(report)}\n{json.dumps(stages)}")
