"""What a fresh clone holds of the methods: rows that hold, and YAMLs that stock `llamafactory-cli train` runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from if_factory.evaluation.audit import audit
from if_factory.methods.base import names
from tests.e2e.command import ROOT, read, rows_per_step

pytestmark = pytest.mark.e2e
METHODS = sorted(folder.name for folder in (ROOT / "yaml").iterdir() if folder.is_dir())


def test_rows_and_yamls_are_there_for_the_same_methods() -> None:
    assert sorted(folder.name for folder in (ROOT / "data").iterdir()) == METHODS
    assert set(METHODS) <= set(names())


@pytest.mark.parametrize("method", METHODS)
def test_the_rows_are_registered_and_none_fails_what_code_can_check(method: str) -> None:
    entries = json.loads((ROOT / "dataset_info.json").read_text())
    files = sorted(f for f in (ROOT / "data" / method).glob("*.jsonl")
                   if not f.name.endswith("provenance.jsonl") and not f.name.startswith("recipe"))
    assert files
    for file in files:
        assert entries[file.stem]["file_name"] == file.relative_to(ROOT).as_posix()
        rows = read(file)
        assert 0 < len(rows) <= 400
        provenance = read(file.with_name(f"{file.stem}.provenance.jsonl"))
        assert len(provenance) == len(rows)
        if any(c["kind"] == "code" for row in provenance for c in row["constraints"]):  # Humpback has ratings only
            report = audit(file)
            assert report.rows == len(rows)
            assert report.score == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_the_stages_train_from_the_root_one_after_the_other(method: str, hf_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("llamafactory", reason="needs the extra train")
    saved: dict[str, Path] = {}
    for config in sorted((ROOT / "yaml" / method).glob("*.yaml")):
        keys = yaml.safe_load(config.read_text())
        if "stage" not in keys:
            continue  # the YAML that merges the adapters
        out = tmp_path / config.stem
        overrides = {"model_name_or_path": hf_model, "output_dir": out, "max_steps": 2, "use_cpu": "true",
                     "gradient_accumulation_steps": 1, "per_device_train_batch_size": rows_per_step(keys["stage"])}
        if start := keys.get("adapter_name_or_path"):
            overrides["adapter_name_or_path"] = ",".join(str(saved[adapter]) for adapter in start.split(","))
        done = subprocess.run(
            [str(Path(sys.executable).parent / "llamafactory-cli"), "train", str(config.relative_to(ROOT)),
             *(f"{key}={value}" for key, value in overrides.items())],
            cwd=ROOT, text=True, capture_output=True, timeout=1200,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true", "CUDA_VISIBLE_DEVICES": ""})
        assert done.returncode == 0, f"{config}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert json.loads((out / "trainer_state.json").read_text())["global_step"] == 2
        assert (out / "adapter_model.safetensors").stat().st_size > 0
        saved[keys["output_dir"]] = out
    assert saved
