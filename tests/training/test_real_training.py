"""Stock ``llamafactory-cli`` through whole curricula on a tiny random Llama: adapters, references, merging."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from if_factory.exporting.dataset_info import merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.records import PreferenceExample, SFTExample
from if_factory.training.curriculum import CurriculumOptions, write_curriculum
from if_factory.training.run import run_curriculum
from tests.exporting.reference import _byte_tokenizer

pytestmark = pytest.mark.e2e
LN2 = math.log(2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: Any) -> Path:
    """A folder with a 2-layer model and easy and hard data, 12 rows each."""
    pytest.importorskip("llamafactory", reason="llamafactory is not installed here")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder: Path = tmp_path_factory.mktemp("curriculum")
    torch.manual_seed(0)
    tokenizer = _byte_tokenizer()
    tokenizer.save_pretrained(folder / "tiny")
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, bos_token_id=0, eos_token_id=1)).save_pretrained(folder / "tiny")
    for label, d in (("easy", 1), ("hard", 3)):
        sft = [SFTExample(record_id=str(i), prompt=f"say {i}", response=f"{label} {i}", difficulty=d)
               for i in range(12)]
        dpo = [PreferenceExample(record_id=str(i), prompt=f"say {i}", chosen=f"{label} {i}",
                                 rejected=f"no {i * 7}", violated=(0,), difficulty=d) for i in range(12)]
        for kind, rows, fmt in (("sft", sft, "alpaca"), ("dpo", dpo, "sharegpt")):
            done = write_dataset(f"d_{kind}_{label}", rows, folder / "data", fmt)  # type: ignore[arg-type]
            merge_entries(folder / "data" / "dataset_info.json", {done.name: done.entry})
    return folder


OPTIONS = CurriculumOptions("tiny", "empty", name="c", batch=4, per_device_batch=4, cutoff_len=64, cpu=True,
                            lr=5e-3, pref_lr=5e-3, pref_ftx=0.0)
DATASETS: Any = {(k, b): f"d_{k}_{b}" for k in ("sft", "dpo") for b in ("easy", "hard")}


def train(root: Path, paths: list[Path]) -> list[tuple[bool, dict[str, Any]]]:
    """(skipped, what was logged after the first step) of every stage."""
    results = run_curriculum(paths, root=root, env={"OMP_NUM_THREADS": "1"}, say=lambda line: None)
    assert all(r.steps == 3 for r in results)
    logs = [json.loads((r.output_dir / "trainer_state.json").read_text())["log_history"] for r in results]
    return [(r.skipped, log[0]) for r, log in zip(results, logs, strict=True)]


def test_references_adapters_and_merge_of_a_real_curriculum(root: Path) -> None:
    paths = write_curriculum(OPTIONS, DATASETS, root / "yaml")
    stages = train(root, paths)
    for _, first in stages[2:]:
        assert first["loss"] == pytest.approx(LN2, abs=1e-4), "the stage is compared with the model it starts from"
        assert first["rewards/margins"] == 0
    assert _merged_weight(root, OPTIONS.name) < 1e-5

    # reference="sft": the first three stages are the same and are skipped; the last one continues the adapter
    again = train(root, write_curriculum(replace(OPTIONS, reference="sft"), DATASETS, root / "yaml")[:-1])
    assert [skipped for skipped, _ in again] == [True, True, True, False]
    assert again[3][1]["rewards/margins"] != 0, "the policy has left the SFT model it is compared with"

    # and this is the mistake the chaining avoids: DPO on the live SFT adapter is compared with the bare base model
    config = yaml.safe_load(paths[2].read_text())
    del config["create_new_adapter"]
    wrong = root / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(config | {"output_dir": "saves/wrong"}))
    assert train(root, [wrong])[0][1]["rewards/margins"] != 0


def test_full_fine_tuning_starts_each_stage_from_the_model_before(root: Path) -> None:
    """No adapters: DPO's reference is the SFT stage's model, so its first step has the loss ln 2."""
    options = replace(OPTIONS, name="full", bins=1, finetuning_type="full")
    whole: Any = {("sft", "all"): "d_sft_easy", ("dpo", "all"): "d_dpo_easy"}
    paths = write_curriculum(options, whole, root / "yaml")
    assert [p.name for p in paths] == ["full_1_sft_all.yaml", "full_2_dpo_all.yaml"], "no export YAML"
    stages = train(root, paths)
    assert stages[1][1]["loss"] == pytest.approx(LN2, abs=1e-4)
    for out in ("full_1_sft_all", "full_2_dpo_all"):
        assert (root / "saves" / out / "model.safetensors").is_file()
        assert not (root / "saves" / out / "adapter_model.safetensors").exists()
    assert [skipped for skipped, _ in train(root, paths)] == [True, True]


def _merged_weight(root: Path, name: str) -> float:
    """Greatest difference between the exported weights and base + B A scale of the adapters the YAML names."""
    from safetensors.torch import load_file

    config = yaml.safe_load((root / "yaml" / f"{name}_export.yaml").read_text())
    key = "model.layers.1.self_attn.q_proj"
    expected = load_file(root / "tiny" / "model.safetensors")[f"{key}.weight"].double()
    for adapter in config["adapter_name_or_path"].split(","):
        weights = load_file(root / adapter / "adapter_model.safetensors")
        lora = {k.split("lora_")[1][0]: v.double() for k, v in weights.items() if f"{key}.lora_" in k}
        expected += 2 * lora["B"] @ lora["A"]  # lora_alpha / lora_rank = 2
    merged = load_file(root / config["export_dir"] / "model.safetensors")[f"{key}.weight"].double()
    return float((merged - expected).abs().max())
