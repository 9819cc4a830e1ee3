"""`curriculum --stages grpo`: YAMLs from the prompts that an export registered, easy then hard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from if_factory.api import curriculum, export_rl
from if_factory.errors import UserError
from if_factory.grpo.arguments import split
from if_factory.training.curriculum import CurriculumOptions, plan_stages, stage_config
from if_factory.training.run import StageResult, _trained_something
from tests.rewards.runs import some_records, write_run


def keys(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def test_easy_prompts_then_hard_ones_each_going_on_from_the_adapter_before(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", some_records())
    export_rl(run, tmp_path / "data", bins=2)
    made = curriculum(run, model="some/model", dataset_dir=tmp_path / "data", out=tmp_path / "yaml", stages=["grpo"],
                      bins=2, settings={"grpo.grpo_num_generations": 4})
    easy, hard = map(keys, made.stages)
    assert [c["stage"] for c in (easy, hard)] == ["grpo", "grpo"]
    assert [c["dataset"].rpartition("_")[2] for c in (easy, hard)] == ["easy", "hard"]
    assert hard["adapter_name_or_path"] == easy["output_dir"]
    assert "create_new_adapter" not in hard, "with grpo_beta 0 there is no reference to keep apart"
    arguments = split(easy)[1]
    assert arguments.trl == {"num_generations": 4, "max_completion_length": 256, "beta": 0.0}
    assert easy["per_device_train_batch_size"] * easy["gradient_accumulation_steps"] % 4 == 0
    assert "GRPO on the 'easy' prompts" in made.stages[0].read_text()
    assert made.merge is not None


def test_the_plugins_of_the_run_are_those_of_the_stage(own_types, tmp_path: Path) -> None:
    plugin = tmp_path / "types.py"
    plugin.write_text("")
    run = write_run(tmp_path / "run", some_records(), [plugin])
    export_rl(run, tmp_path / "data")
    made = curriculum(run, model="some/model", dataset_dir=tmp_path / "data", out=tmp_path / "yaml", stages=["grpo"],
                      bins=1)
    assert split(keys(made.stages[0]))[1].plugins == [str(plugin)]


def test_after_sft_the_same_adapter_goes_on(tmp_path: Path) -> None:
    options = CurriculumOptions(model="m", template=None, bins=1, stages=("sft", "grpo"))
    first, second = plan_stages(options, {("sft", "all"): "a_sft", ("grpo", "all"): "a_rl"})
    assert (second.load, second.new_adapter, second.reference) == ((first.output_dir,), False, "")
    config = stage_config(options, second)
    assert config["learning_rate"] == 1e-5
    assert "mask_history" not in config
    assert "pref_beta" not in config


def test_without_exported_prompts_the_command_to_write_them_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", some_records())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="no prompt dataset") as e:
        curriculum(run, model="some/model", dataset_dir=tmp_path / "data", out=tmp_path / "yaml", stages=["grpo"])
    assert "--rl trl" in str(e.value.fix)


def test_a_loss_of_zero_is_no_fault_of_grpo(tmp_path: Path) -> None:
    """Where every group earned the same, or the policy is the one that answered, its loss is 0."""
    result = StageResult(tmp_path / "x.yaml", tmp_path, False, 3, (0.0, 0.0, 0.0))
    _trained_something(result, {"train_loss": 0.0}, resumed=False, stage="grpo")
    with pytest.raises(UserError, match="nothing was learnt"):
        _trained_something(result, {"train_loss": 0.0}, resumed=False, stage="sft")
