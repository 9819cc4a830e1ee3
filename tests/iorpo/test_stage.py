"""``stage: iorpo`` as LLaMA-Factory runs it, single process: a tiny random Llama, real training, seconds each."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from if_factory.errors import UserError
from tests.iorpo.tiny import (
    ALPACA,
    adapter,
    cap_logits,
    config,
    history,
    losses,
    register_data,
    run,
    same_weights,
    shell,
    triple,
    variables,
    write_yaml,
)

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def plain(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of 12 steps, two epochs."""
    out: Path = tmp_path_factory.mktemp("plain") / "saved"
    run(config(root, out, num_train_epochs=2))
    return out


@pytest.mark.parametrize("nll_on", ["response", "prompt_and_response"])
def test_the_first_steps_loss_is_the_formula_on_the_models_own_probabilities(
        root: Path, tmp_path: Path, nll_on: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(root / "tiny").double()
    tokenizer = AutoTokenizer.from_pretrained(root / "tiny")

    def logps(instruction: str, response: str) -> tuple[Any, Any]:
        """Log-probabilities of the instruction's tokens and of the response's."""
        parts = [tokenizer.encode(text, add_special_tokens=False) for text in (instruction, response)]
        ids = torch.tensor([parts[0] + parts[1]])
        each = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        return each[:len(parts[0]) - 1], each[len(parts[0]) - 1:]

    rows = [triple(i) for i in range(4)]
    odds, response_nll, all_tokens = [], [], []
    for row in rows:
        prompt_w, w = logps(row["instruction"], row["output"])
        _, other = logps(row["instruction_corrupted"], row["output"])
        p, q = w.mean().item(), other.mean().item()
        odds.append(math.log1p(math.exp(-((p - q) - math.log1p(-math.exp(p)) + math.log1p(-math.exp(q))))))
        response_nll.append(-p)
        all_tokens += [*prompt_w.tolist(), *w.tolist()]
    nll = sum(response_nll) / 4 if nll_on == "response" else -sum(all_tokens) / len(all_tokens)
    logged = run(config(root, tmp_path / "x", iorpo_nll_on=nll_on, max_steps=1, disable_shuffling=True))
    assert logged[0]["loss"] == pytest.approx(nll + 0.4 * sum(odds) / 4, abs=1e-5)


def test_it_learns_to_rank_and_logs_and_draws_it(root: Path, tmp_path: Path) -> None:
    register_data(root / "data", "few", [triple(i) for i in range(8)], ALPACA)
    logged = run(config(root, tmp_path / "x", dataset="few", num_train_epochs=30, learning_rate=2e-3,
                        finetuning_type="full", lora_rank=None, eval_dataset="few", do_eval=True,
                        eval_strategy="steps", eval_steps=20, plot_loss=True))
    accuracy, odds = losses(logged, "rewards/accuracies"), losses(logged, "log_odds")
    assert accuracy[-6:] == [1.0] * 6
    assert sum(accuracy[:6]) / 6 < 0.9
    assert min(odds[-6:]) > 10 * max(map(abs, odds[:6]))
    assert losses(logged, "eval_rewards/accuracies")[-1] == 1.0
    assert losses(logged)[-1] < 0.5 * losses(logged)[0]
    assert losses(logged, "eval_loss")[-1] < losses(logged, "eval_loss")[0]
    for name in ("loss", "rewards_accuracies", "log_odds"):
        for part in (name, f"eval_{name}"):
            assert (tmp_path / "x" / f"training_{part}.png").stat().st_size > 1000
    metrics = json.loads((tmp_path / "x" / "all_results.json").read_text())
    assert {"train_loss", "eval_loss", "eval_rewards/accuracies", "eval_log_odds"} <= metrics.keys()


def test_resuming_a_checkpoint_is_exact_to_the_last_bit(root: Path, tmp_path: Path, plain: Path) -> None:
    keys: dict[str, Any] = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 5}
    run(config(root, tmp_path / "whole", **keys))
    (tmp_path / "resumed").mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-5", tmp_path / "resumed" / "checkpoint-5")
    for form in ({}, {"resume_from_checkpoint": str(tmp_path / "resumed" / "checkpoint-5")}):
        logged = run(config(root, tmp_path / "resumed", **keys, **form))
        assert losses(logged) == losses(history(plain))
        assert same_weights(tmp_path / "resumed", plain)
        for later in (*(tmp_path / "resumed").glob("adapter*"), tmp_path / "resumed" / "checkpoint-10",
                      tmp_path / "resumed" / "checkpoint-12"):
            shutil.rmtree(later) if later.is_dir() else later.unlink()


@pytest.mark.parametrize("keys", [
    {"disable_gradient_checkpointing": True}, {"iorpo_chunk_size": 5}, {"iorpo_head": "full"},
    {"iorpo_sequential": True},
    {"preprocessing_num_workers": 2}, {"dataloader_num_workers": 1},
], ids=lambda keys: next(iter(keys)))
def test_how_it_is_computed_changes_nothing(root: Path, tmp_path: Path, plain: Path, keys: dict[str, Any]) -> None:
    logged = run(config(root, tmp_path / "x", num_train_epochs=2, **keys))
    assert losses(logged) == pytest.approx(losses(history(plain)), abs=1e-4)
    assert losses(logged, "log_odds") == pytest.approx(losses(history(plain), "log_odds"), abs=1e-4)


def test_one_sequence_after_the_other_has_the_same_steps_with_accumulated_gradients(
        root: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "max_steps": 3,
                            "eval_dataset": "held_out", "do_eval": True, "eval_strategy": "steps", "eval_steps": 2}
    together = run(config(root, tmp_path / "a", **keys))
    after = run(config(root, tmp_path / "b", iorpo_sequential=True, **keys))
    for key in ("loss", "grad_norm", "log_odds", "rewards/accuracies", "sft_loss", "odds_ratio_loss", "eval_loss"):
        assert losses(after, key) == pytest.approx(losses(together, key), rel=1e-5, abs=1e-5), key
    with pytest.raises(UserError, match=r"iorpo_sequential.*neftune_noise_alpha"):
        run(config(root, tmp_path / "c", iorpo_sequential=True, neftune_noise_alpha=5, **keys))


def test_bf16_is_near_float32_and_its_chunked_head_nearer_to_its_full_one(
        root: Path, tmp_path: Path, plain: Path) -> None:
    chunked = losses(run(config(root, tmp_path / "a", num_train_epochs=2, bf16=True)))
    full = losses(run(config(root, tmp_path / "b", num_train_epochs=2, bf16=True, iorpo_head="full")))
    assert chunked == pytest.approx(losses(history(plain)), rel=0.02)
    assert chunked == pytest.approx(full, rel=2e-3)


def test_it_goes_on_from_an_sft_adapter_trained_on_the_same_entry(root: Path, tmp_path: Path, plain: Path) -> None:
    sft = run(config(root, tmp_path / "sft", stage="sft", pref_beta=None, num_train_epochs=3, lora_rank=4))
    logged = run(config(root, tmp_path / "iorpo", adapter_name_or_path=str(tmp_path / "sft"), num_train_epochs=1))
    assert logged[0]["sft_loss"] < losses(sft)[0] - 0.2, "it starts where SFT ended"
    assert logged[0]["sft_loss"] < history(plain)[0]["sft_loss"] - 0.2
    before, after = adapter(tmp_path / "sft"), adapter(tmp_path / "iorpo")
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}, "one, of rank 4"
    assert not same_weights(tmp_path / "sft", tmp_path / "iorpo")


def test_a_model_can_be_evaluated_without_training(root: Path, tmp_path: Path, plain: Path) -> None:
    from llamafactory.train import tuner

    tuner.run_exp(config(root, tmp_path / "x", do_train=None, do_eval=True, dataset=None, eval_dataset="held_out",
                         adapter_name_or_path=str(plain)))
    metrics = json.loads((tmp_path / "x" / "eval_results.json").read_text())
    assert metrics["eval_loss"] < history(plain)[0]["loss"]
    assert 0 <= metrics["eval_rewards/accuracies"] <= 1


def test_full_fine_tuning_streaming_and_token_speed_run(root: Path, tmp_path: Path) -> None:
    logged = run(config(root, tmp_path / "x", finetuning_type="full", lora_rank=None, streaming=True, max_steps=4,
                        num_train_epochs=None, dataloader_num_workers=1, learning_rate=1e-3))
    assert len(losses(logged)) == 4
    assert losses(logged)[-1] < losses(logged)[0]
    run(config(root, tmp_path / "y", max_steps=1, include_effective_tokens_per_second=True))
    assert json.loads((tmp_path / "y" / "train_results.json").read_text())["effective_tokens_per_sec"] > 0


def test_flags_run_the_stage_and_llamafactory_names_flags_that_nobody_knows(root: Path, tmp_path: Path) -> None:
    from llamafactory.train import tuner

    keys = config(root, tmp_path / "x", max_steps=1)
    flags = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    tuner.run_exp([*flags, "--iorpo_chunk_size", "64"])
    assert len(losses(history(tmp_path / "x"))) == 1
    with pytest.raises(UserError, match="did you mean 'iorpo_head'"):
        tuner.run_exp([*flags, "--iorpo_heads", "full"])
    with pytest.raises(ValueError, match="not used by the HfArgumentParser"):
        tuner.run_exp({**keys, "no_such_key": 1})


def test_a_model_that_changes_its_logits_gets_full_logits_or_an_error(
        root: Path, tmp_path: Path, shown: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    cap_logits(monkeypatch)
    auto = run(config(root, tmp_path / "a", max_steps=3))
    assert "I-ORPO uses full logits" in "\n".join(shown.messages)
    assert losses(auto) == losses(run(config(root, tmp_path / "b", max_steps=3, iorpo_head="full")))
    with pytest.raises(UserError, match="iorpo_head"):
        run(config(root, tmp_path / "c", max_steps=3, iorpo_head="chunked"))


def test_a_run_killed_in_the_middle_of_an_epoch_ends_like_one_that_was_not(root: Path, tmp_path: Path) -> None:
    register_data(root / "data", "many", [triple(i) for i in range(80)], ALPACA)
    keys: dict[str, Any] = {"dataset": "many", "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 7,
                            "learning_rate": 1e-3, "per_device_train_batch_size": 2}
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "killed", **keys))
    with subprocess.Popen([sys.executable, "-m", "if_factory.iorpo.launcher", "train", str(path)], cwd=tmp_path,
                          env=variables(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 200
        while not (tmp_path / "killed" / "checkpoint-14" / "trainer_state.json").exists():
            assert process.poll() is None, "it must be killed while it trains"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    reached = max(int(p.name.partition("-")[2]) for p in (tmp_path / "killed").glob("checkpoint-*"))
    assert 14 <= reached < 80
    assert reached % 40, "in the middle of an epoch"
    done = shell([sys.executable, "-m", "if_factory", "train", path], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"checkpoint-{reached}" in done.stdout + done.stderr, "it went on from there"
    whole = run(config(root, tmp_path / "whole", **keys))
    assert len(losses(whole)) == 80
    assert losses(history(tmp_path / "killed")) == losses(whole)
    assert same_weights(tmp_path / "killed", tmp_path / "whole")
