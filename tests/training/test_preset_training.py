"""What a preset trains with: its authors' values in the YAMLs, each with its place, and the user's above them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from if_factory import curriculum, export, run
from if_factory.api.curricula import preset_keys
from if_factory.methods.base import get_method, names
from if_factory.methods.training import Key, PresetTraining, combine, training_table
from if_factory.recipe import Recipe, parse
from if_factory.training.curriculum import CurriculumOptions, write_curriculum
from tests.exporting.reference import need_llamafactory
from tests.support.texts import story

DOCS = Path(__file__).parents[2] / "docs" / "methods"


def recipe(method: str, preset: str | list[str] = "paper") -> Recipe:
    return parse({"method": method, "preset": preset, "models": {r: {} for r in get_method(method).roles}})


def stages(tmp_path: Path, made: Recipe, kinds: tuple[str, ...], **settings: Any) -> list[tuple[dict[str, Any], str]]:
    """Keys and text of each stage that is written for these kinds, in one bin."""
    options = CurriculumOptions(model="m", template=None, name="c", bins=1, stages=kinds,
                                **preset_keys(made, kinds, settings))
    paths = write_curriculum(options, {(kind, "all"): f"d_{kind}" for kind in kinds}, tmp_path)
    return [(yaml.safe_load(p.read_text()), p.read_text()) for p in paths if "_export" not in p.name]


def test_the_papers_keys_are_written_with_their_place_for_all_weights_and_for_an_adapter(tmp_path: Path) -> None:
    paper = {"num_train_epochs": 3, "cutoff_len": 8192, "lr_scheduler_type": "linear", "warmup_steps": 20,
             "weight_decay": 0.1, "adam_beta2": 0.95, "gradient_accumulation_steps": 128}
    for tuning, rate in (("full", 7e-6), ("lora", 1e-4)):
        (sft, text), (dpo, _) = stages(tmp_path, recipe("autoif"), ("sft", "dpo"), finetuning_type=tuning)
        assert {key: sft[key] for key in paper} == paper
        assert "warmup_ratio" not in sft, "20 steps, not a share as well"
        assert sft["learning_rate"] == rate
        assert (dpo["pref_beta"], dpo["pref_ftx"], dpo["num_train_epochs"], dpo["cutoff_len"]) == (0.3, 0, 2, 4096)
        assert dpo["learning_rate"] == (5e-7 if tuning == "full" else 5e-6)
        assert "num_train_epochs: 3.0  # README, '(1) SFT Training'\n" in text
        assert ("learning_rate: 7.0e-06  # README" in text) == (tuning == "full")
        assert "# Not stated by them: weight decay of DPO." in text


def test_what_the_user_sets_wins_and_loses_the_comment(tmp_path: Path) -> None:
    (sft, text), (dpo, other) = stages(
        tmp_path, recipe("autoif"), ("sft", "dpo"), num_train_epochs=1, per_device_train_batch_size=4,
        **{"dpo.pref_beta": 0.2})
    assert (sft["num_train_epochs"], dpo["num_train_epochs"], dpo["pref_beta"]) == (1, 1, 0.2)
    assert "num_train_epochs: 1\n" in text
    assert "pref_beta: 0.2\n" in other
    assert sft["gradient_accumulation_steps"] == 32, "4 x 32 are the paper's 128"
    (sft, _), _ = stages(tmp_path, recipe("autoif"), ("sft", "dpo"), gradient_accumulation_steps=2)
    assert sft["gradient_accumulation_steps"] == 2


def test_the_default_preset_trains_as_before(tmp_path: Path) -> None:
    (sft, text), = stages(tmp_path, recipe("autoif", "default"), ("sft",))
    assert (sft["num_train_epochs"], sft["learning_rate"], sft["warmup_ratio"]) == (1, 1e-4, 0.1)
    assert "Preset" not in text


def test_stacked_presets_train_with_the_last_ones_keys_and_name_the_others_value(tmp_path: Path) -> None:
    _, (dpo, text) = stages(tmp_path, recipe("autoif", ["released", "self_alignment", "paper"]), ("sft", "dpo"))
    assert dpo["pref_beta"] == 0.3
    assert "pref_beta: 0.3  # preset paper: paper, settings of DPO; preset released: 0.1\n" in text
    first = PresetTraining((Key("sft", "a", 1, "x"),), ("b",), stages=("sft",), bins=1)
    both = combine([("one", first), ("two", PresetTraining((Key("sft", "a", 1, "y"),), stages=("dpo",)))])
    assert (both.keys[0].place, both.stages, both.bins, both.not_stated) == ("preset two: y", ("dpo",), 1, ("b",))


@pytest.mark.parametrize(("preset", "datasets"), [("paper", ["suri_iorpo"]),
                                                  ("default", ["suri_sft_easy", "suri_sft_hard", "suri_iorpo_easy",
                                                               "suri_iorpo_hard"])])
def test_preset_paper_of_suri_trains_i_orpo_alone_and_a_stated_cutoff_grows_with_the_rows(
        preset: str, datasets: list[str], tmp_path: Path) -> None:
    """The paper's I-ORPO starts from the base model, for two epochs, in one bin; ``--stages sft`` trains its SFT."""
    rows = [{"text": f"Harbour {i}, on a cold day. " + story(16 + 4 * i)} for i in range(6)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "suri.yaml").write_text(yaml.safe_dump(
        {"method": "suri", "preset": preset, "seeds": "texts.jsonl",
         "options": {"source": "composer", "min_words": 50, "max_words": 1500, "triples_per_text": 2,
                     "included": "sampled", "corrupted": "sampled"}}))
    run(tmp_path / "suri.yaml", tmp_path / "run")
    export(tmp_path / "run", tmp_path / "data")
    done = curriculum(tmp_path / "run", model="m", dataset_dir=tmp_path / "data", out=tmp_path / "yaml")
    configs = [yaml.safe_load(p.read_text()) for p in done.stages]
    assert [c["dataset"] for c in configs] == datasets
    if preset == "paper":
        assert "adapter_name_or_path" not in configs[0]
        expected = {"num_train_epochs": 2, "pref_beta": 0.4, "lora_rank": 16, "learning_rate": 5e-5,
                    "cutoff_len": 15024, "warmup_ratio": 0, "gradient_accumulation_steps": 4}
        assert {key: configs[0][key] for key in expected} == expected
        sft = curriculum(tmp_path / "run", model="m", dataset_dir=tmp_path / "data", out=tmp_path / "sft",
                         stages=["sft"]).stages
        assert [yaml.safe_load(p.read_text())["num_train_epochs"] for p in sft] == [2]


def test_a_cutoff_that_would_cut_a_row_is_raised_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from if_factory.methods.suri import training

    short = tuple(Key(k.stage, k.name, 64 if k.name == "cutoff_len" else k.value, k.place, k.tuning)
                  for k in training.TRAINING["paper"].keys)
    monkeypatch.setitem(training.TRAINING, "paper", PresetTraining(short, stages=("iorpo",), bins=1))
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "Harbour, on a cold day. " + story(20)}) + "\n")
    (tmp_path / "suri.yaml").write_text(yaml.safe_dump(
        {"method": "suri", "preset": ["paper", "composer"], "seeds": "texts.jsonl", "options": {"min_words": 50}}))
    run(tmp_path / "suri.yaml", tmp_path / "run")
    export(tmp_path / "run", tmp_path / "data")
    where = {"model": "m", "dataset_dir": tmp_path / "data", "out": tmp_path / "yaml"}
    text = curriculum(tmp_path / "run", **where).stages[0].read_text()
    assert "# ft/i-orpo/orpo.yaml; raised from 64, which would cut a row\n" in text
    text = curriculum(tmp_path / "run", settings={"cutoff_len": 99}, **where).stages[0].read_text()
    assert "cutoff_len: 99\n" in text, "what the user sets is not raised"


@pytest.mark.parametrize("method", names())
def test_every_methods_page_has_the_table_of_its_papers_training(method: str) -> None:
    """The table is written from the values the curriculum writes: see ``training_table``."""
    paper = get_method(method).preset_training["paper"]
    assert paper.not_stated, "what is not stated is said"
    assert all(key.place for key in paper.keys)
    assert all(key.why for key in paper.keys if key.stated is not None or (len(key.tuning) < 2 and
               not key.name.startswith("lora_"))), "whatever is changed has its reason"
    assert training_table(paper) in (DOCS / f"{method}.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("method", names())
def test_llamafactory_reads_every_key_that_a_preset_writes(method: str, tmp_path: Path) -> None:
    need_llamafactory()
    from llamafactory.hparams import get_train_args

    for preset in get_method(method).preset_training:
        for tuning in ("lora", "full"):
            for config, _ in stages(tmp_path, recipe(method, preset), ("sft", "dpo"), finetuning_type=tuning):
                get_train_args({**config, "bf16": False, "use_cpu": True})
