"""What is wrong in a training YAML is said before anything starts, with the file, the field and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from if_factory.api.training import train
from if_factory.errors import UserError
from if_factory.training.curriculum import CurriculumOptions, write_curriculum
from if_factory.training.mistakes import refuse_mistakes

STAGE = {"stage": "sft", "output_dir": "saves/c_1_sft_all"}
DATA = {("sft", "all"): "a", ("dpo", "all"): "b"}


@pytest.mark.parametrize(("keys", "field", "problem", "fix"), [
    ({"stage": "sfy", "model_name_or_path": "m"}, "stage", "unknown stage 'sfy'", "did you mean 'sft'"),
    ({}, "model_name_or_path", "is missing; expected", "write model_name_or_path:"),
    ({"model_name_or_path": "models/SmolLM2-135M-Instruct"}, "model_name_or_path", "no folder models/SmolLM2",
     "if-factory model --to models/SmolLM2-135M-Instruct"),
    ({"model_name_or_path": "./m"}, "model_name_or_path", "no folder ./m", "correct the path"),
    ({"model_name_or_path": "/no/such/m"}, "model_name_or_path", "no folder /no/such/m", "correct the path"),
    ({"model_name_or_path": "~/m"}, "model_name_or_path", "no folder ~/m", "`~` is not replaced here: write /"),
    ({"model_name_or_path": "saves/c_0_sft_all"}, "model_name_or_path", "no folder saves/c_0", "that makes it first"),
    ({"model_name_or_path": "m", "adapter_name_or_path": "here,saves/c_0_sft_all"}, "adapter_name_or_path",
     "no adapter in here", "train here first"),
    ({"model_name_or_path": "m", "adapter_name_or_path": "saves/c_0_sft_all"}, "adapter_name_or_path",
     "no adapter in saves/c_0_sft_all", "train c_0_sft_all first"),
])
def test_a_mistake_is_named_with_its_field_and_the_remedy(keys: dict[str, Any], field: str, problem: str, fix: str,
                                                          tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError) as e:
        refuse_mistakes({"x.yaml": STAGE | keys}, tmp_path)
    assert e.value.where == f"x.yaml: field '{field}'"
    assert problem in e.value.problem
    assert fix in str(e.value.fix)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-4B", "gpt2", "here", "here/there"])
def test_hub_names_and_folders_pass(name: str, tmp_path: Path) -> None:
    (tmp_path / "here" / "there").mkdir(parents=True)
    refuse_mistakes({"x.yaml": STAGE | {"model_name_or_path": name, "adapter_name_or_path": "org/adapter"}}, tmp_path)


def test_a_recipe_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("method: suri\nseeds: texts.jsonl\n")
    with pytest.raises(UserError, match=r"is a recipe.*\n.*if-factory run .*recipe\.yaml -o RUN"):
        train(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_stage_before_those_that_it_stands_on_is_refused_and_a_folder_of_them_passes(
        tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = CurriculumOptions("m", None, name="c", bins=1, stages=("sft", "dpo"), finetuning_type=tuning)
    first, second = [p for p in write_curriculum(options, DATA, Path("yaml")) if "export" not in p.name]
    with pytest.raises(UserError, match=r"if-factory train yaml/c_1_sft_all\.yaml"):
        train(second)
    refuse_mistakes({str(p): yaml.safe_load(p.read_text()) for p in (first, second)}, tmp_path)
