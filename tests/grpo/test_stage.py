"""``stage: grpo`` trains: by the stock command, as trl alone would, and on from a checkpoint."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from if_factory.errors import UserError
from tests.grpo.tiny import config
from tests.iorpo.environments import make_environment
from tests.iorpo.tiny import _process_left_alone, adapter, history, losses, shell, write_yaml

pytestmark = pytest.mark.e2e


def train(keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Train in this process, with the stage registered, and return the trainer's log."""
    import torch
    from llamafactory.train import tuner

    from if_factory.grpo.register import add_stage

    add_stage(tuner)
    torch.set_num_threads(1)
    with _process_left_alone():
        tuner.run_exp(dict(keys))
    return history(Path(keys["output_dir"]))


def test_the_stock_command_trains_the_stage_once_the_package_is_installed(root: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", base=True)
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "saved", plot_loss=True, grpo_beta=0.04, max_steps=3,
                                                  per_device_train_batch_size=8))
    done = shell([python.parent / "llamafactory-cli", "train", path], cwd=tmp_path, timeout=560, PYTHONPATH="")
    assert done.returncode == 0, done.stderr[-3000:]
    logged = [entry for entry in history(tmp_path / "saved") if "reward" in entry]
    assert len(logged) == 3
    assert all(0 <= entry["reward"] <= 1 and {"reward/useless", "kl", "completions/mean_length"} <= set(entry)
               for entry in logged)
    assert any(entry["frac_reward_zero_std"] < 1 for entry in logged), "no group had answers of different reward"
    assert any(entry["grad_norm"] > 0 for entry in logged)
    moved = [w for name, w in adapter(tmp_path / "saved").items() if "lora_B" in name]
    assert any(w.abs().max() > 0 for w in moved), "B starts at zero: nothing was trained"
    plots = {p.name for p in (tmp_path / "saved").glob("*.png")}
    assert {"training_reward.png", "training_kl.png", "training_completions_mean_length.png",
            "training_frac_reward_zero_std.png"} <= plots


def test_losses_and_rewards_are_those_of_trl_alone(root: Path, tmp_path: Path) -> None:
    """The same prompts, seed and reward function in a plain GRPOTrainer."""
    ours = train(config(root, tmp_path / "ours", finetuning_type="full", max_steps=5, per_device_train_batch_size=8,
                        lora_rank=None, learning_rate=1e-3, disable_gradient_checkpointing=True))

    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from if_factory.grpo.trl_repair import grpo_classes, ready
    from if_factory.rewards import reward_of

    trainer_class, config_class = grpo_classes()
    rows = json.loads((root / "data" / "prompts.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(root / "tiny")
    data = Dataset.from_list([{"prompt": f"Human: {r['instruction']}{tokenizer.eos_token}\nAssistant:",
                               "ground_truth": r["ground_truth"]} for r in rows])  # LLaMA-Factory's template `default`
    trainer = trainer_class(
        model=ready(AutoModelForCausalLM.from_pretrained(root / "tiny", dtype="float32")),
        processing_class=tokenizer, train_dataset=data,
        reward_funcs=reward_of(usefulness=False, undecided="group_mean"),
        args=config_class(output_dir=str(tmp_path / "trl"), max_steps=5, per_device_train_batch_size=8, logging_steps=1,
                          learning_rate=1e-3, lr_scheduler_type="constant", num_generations=4, use_cpu=True, bf16=False,
                          max_completion_length=24, max_prompt_length=None, report_to=[], save_strategy="no",
                          gradient_checkpointing=False))
    trainer.train()
    theirs = trainer.state.log_history
    for key in ("reward", "loss", "grad_norm"):
        assert losses(ours, key) == pytest.approx(losses(theirs, key), abs=1e-4), key
    assert len(set(losses(ours, "reward"))) > 1


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(root: Path, tmp_path: Path) -> None:
    """SIGKILL after the second checkpoint; the same command continues, and its curve is the uninterrupted one."""
    whole = train(config(root, tmp_path / "whole", max_steps=6))
    keys = config(root, tmp_path / "killed", max_steps=6, save_strategy="steps", save_steps=1)
    command = [sys.executable, "-m", "if_factory", "train", write_yaml(tmp_path / "x.yaml", keys)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                               env=environment)
    try:
        for _ in range(6000):  # tenths of a second
            if (tmp_path / "killed" / "checkpoint-3" / "trainer_state.json").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    saved = sorted((tmp_path / "killed").glob("checkpoint-*/trainer_state.json"))
    assert 2 <= len(saved) < 6, "it was to be killed in the middle"
    assert not (tmp_path / "killed" / "trainer_state.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    went_on = history(tmp_path / "killed")
    assert losses(went_on, "reward") == losses(whole, "reward")
    assert losses(went_on) == pytest.approx(losses(whole), abs=1e-6)


def test_held_out_prompts_are_answered_and_rewarded(root: Path, tmp_path: Path) -> None:
    train(config(root, tmp_path / "out", max_steps=1, do_eval=True, eval_dataset="held_out_prompts",
                 per_device_eval_batch_size=4))
    found = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert 0 <= found["eval_reward"] <= 1
    assert math.isfinite(found["eval_loss"])


@pytest.mark.parametrize(("keys", "says"), [
    ({"grpo_num_generation": 4}, "did you mean 'num_generations'"),
    ({"grpo_learning_rate": 1e-3}, "write learning_rate without the prefix"),
    ({"grpo_reward": "some"}, "one of: fraction, all"),
    ({"grpo_num_generations": 3}, "multiple of grpo_num_generations"),
    ({"dataset": "no_truth"}, r"training row 1: field 'ground_truth': expected a string"),
    ({"cutoff_len": 16}, "no training prompt is left of 12"),
])
def test_mistakes_are_told_before_anything_is_trained(root: Path, tmp_path: Path, keys: dict[str, Any],
                                                      says: str) -> None:
    with pytest.raises(UserError, match=says):
        train(config(root, tmp_path / "out", **keys))


def test_bf16_draws_the_same_answers_and_its_losses_are_near(root: Path, tmp_path: Path) -> None:
    half, full = (train(config(root, tmp_path / str(bf16), bf16=bf16, max_steps=3, grpo_beta=0.04,
                               per_device_train_batch_size=8)) for bf16 in (True, False))
    assert losses(half, "reward") == losses(full, "reward")
    assert losses(half) == pytest.approx(losses(full), abs=1e-3)
    assert losses(half, "kl") != losses(full, "kl"), "bf16 was not in force"
