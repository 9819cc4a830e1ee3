"""Suri as a user runs it without any model: texts, triples, curriculum, real training of SFT and stage iorpo."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from tests.e2e.command import if_factory
from tests.exporting.reference import _byte_tokenizer

pytestmark = pytest.mark.e2e


def test_texts_become_triples_that_the_stage_trains_on_the_sft_adapter(tmp_path: Path) -> None:
    pytest.importorskip("llamafactory", reason="llamafactory is not installed here")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _byte_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tiny")
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=4096, bos_token_id=0,
        eos_token_id=1)).save_pretrained(tmp_path / "tiny")

    (tmp_path / "suri.yaml").write_text("method: suri\nlimit: 4\n")
    if_factory(tmp_path, "run", "suri.yaml")
    if_factory(tmp_path, "export", "runs/suri", "--into", "data", "--bins", "1")
    if_factory(tmp_path, "curriculum", "runs/suri", "--model", "tiny", "--template", "empty",
               "--dataset-dir", "data", "-o", "yaml", "--bins", "1", "--set", "cutoff_len=4096",
               "--set", "gradient_accumulation_steps=2")
    if_factory(tmp_path, "train", "yaml")

    rows = len((tmp_path / "data" / "suri_iorpo.jsonl").read_text().splitlines())
    for name, loads in (("suri_1_sft_all", None), ("suri_2_iorpo_all", "saves/suri_1_sft_all")):
        config = yaml.safe_load((tmp_path / "yaml" / f"{name}.yaml").read_text())
        assert config.get("adapter_name_or_path") == loads
        state = json.loads((tmp_path / "saves" / name / "trainer_state.json").read_text())
        losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
        assert state["global_step"] == len(losses) > 0
        assert all(map(math.isfinite, losses))
        adapter = json.loads((tmp_path / "saves" / name / "adapter_config.json").read_text())
        assert (adapter["r"], adapter["lora_alpha"]) == (16, 16)
    log = (tmp_path / "saves" / "suri_2_iorpo_all" / "train.log").read_text()
    assert f"{rows} of {rows} training triples are used" in log
