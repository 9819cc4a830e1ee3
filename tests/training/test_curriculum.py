"""Bins are balanced and whole, stages load the right adapters, and the YAML says what it does."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from if_factory.api.curricula import stage_overrides
from if_factory.errors import UserError
from if_factory.records import SFTExample
from if_factory.training.curriculum import (
    CurriculumOptions,
    bin_names,
    cut_bins,
    plan_stages,
    read_bins,
    split_bins,
    write_curriculum,
)
from if_factory.training.few_steps import without_warmup
from if_factory.training.keys import key_notes
from if_factory.training.run import adapters_by_stage, adapters_of

SETS: Any = {(k, b): f"d_{k}_{b}" for k in ("sft", "dpo", "kto", "iorpo", "sft_external")
             for b in ("easy", "hard", "1", "2", "3", "all")}


def rows(*difficulties: float) -> list[SFTExample]:
    return [SFTExample(record_id=str(i), prompt="p", response="r", difficulty=d)
            for i, d in enumerate(difficulties)]


def options(**changes: Any) -> CurriculumOptions:
    return CurriculumOptions(**{"model": "m", "template": None, "name": "c"} | changes)


@given(difficulties=st.lists(st.integers(1, 6), min_size=1, max_size=40), k=st.integers(1, 5))
def test_bins_hold_every_row_once_easy_before_hard(difficulties: list[int], k: int) -> None:
    examples = rows(*difficulties)
    if len(examples) < k:
        with pytest.raises(UserError, match="cannot fill"):
            split_bins(examples, k)
        return
    bins = split_bins(examples, k)
    assert len(bins) == k
    assert all(bins)
    assert sorted((e.record_id for b in bins for e in b), key=int) == [e.record_id for e in examples]
    for easy, hard in itertools.pairwise(bins):
        assert max(e.difficulty for e in easy) <= min(e.difficulty for e in hard)
    for b in bins:
        ids = [int(e.record_id) for e in b]
        assert ids == sorted(ids), "the order given is kept inside a bin"


@given(difficulties=st.lists(st.integers(1, 6), min_size=1, max_size=40), k=st.integers(1, 5))
def test_one_difficulty_is_never_shared_out_unless_there_are_too_few(difficulties: list[int], k: int) -> None:
    if len(set(difficulties)) < k:
        return
    seen = [{e.difficulty for e in b} for b in split_bins(rows(*difficulties), k)]
    assert sum(map(len, seen)) == len(set(difficulties))


def test_cut_is_the_one_nearest_to_equal_shares() -> None:
    assert [len(b) for b in split_bins(rows(1, 1, 1, 2, 3, 3, 3, 3), 2)] == [4, 4]
    assert [len(b) for b in split_bins(rows(1, 2, 2, 2, 2, 2), 2)] == [1, 5]
    assert [len(b) for b in split_bins(rows(2, 2, 2, 2), 2)] == [2, 2]


def test_names_of_bins() -> None:
    assert (bin_names(1), bin_names(2), bin_names(3)) == (["all"], ["easy", "hard"], ["1", "2", "3"])


def chain(**changes: Any) -> list[tuple[str, tuple[str, ...], bool, tuple[str, ...]]]:
    """(stage, loads, new adapter, serve) with the names cut down to kind_bin."""
    def short(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n.split("_", 2)[2] for n in names)

    return [(short((p.output_dir,))[0], short(p.load), p.new_adapter, short(p.serve))
            for p in plan_stages(options(**changes), SETS)]


def test_sft_continues_and_each_dpo_stage_is_compared_with_the_model_it_starts_from() -> None:
    assert chain() == [
        ("sft_easy", (), False, ("sft_easy",)),
        ("sft_hard", ("sft_easy",), False, ("sft_hard",)),
        ("dpo_easy", ("sft_hard",), True, ("sft_hard", "dpo_easy")),
        ("dpo_hard", ("sft_hard", "dpo_easy"), True, ("sft_hard", "dpo_easy", "dpo_hard"))]


def test_reference_sft_keeps_one_preference_adapter_over_the_merged_sft_model() -> None:
    assert chain(reference="sft")[2:] == [
        ("dpo_easy", ("sft_hard",), True, ("sft_hard", "dpo_easy")),
        ("dpo_hard", ("sft_hard", "dpo_easy"), False, ("sft_hard", "dpo_hard"))]
    plans = plan_stages(options(reference="sft"), SETS)
    assert {p.reference for p in plans if p.kind == "dpo"} == {"m + saves/c_2_sft_hard"}


def test_dpo_alone_starts_from_the_base_model() -> None:
    assert chain(stages=("dpo",)) == [
        ("dpo_easy", (), False, ("dpo_easy",)),
        ("dpo_hard", ("dpo_easy",), True, ("dpo_easy", "dpo_hard"))]
    assert plan_stages(options(stages=("dpo",)), SETS)[0].reference == "m"


def test_kto_after_sft_starts_a_new_adapter_too() -> None:
    assert chain(stages=("sft", "kto"), bins=1) == [
        ("sft_all", (), False, ("sft_all",)), ("kto_all", ("sft_all",), True, ("sft_all", "kto_all"))]


def test_iorpo_goes_on_with_the_sft_adapter_and_has_no_reference() -> None:
    assert chain(stages=("sft", "iorpo")) == [
        ("sft_easy", (), False, ("sft_easy",)), ("sft_hard", ("sft_easy",), False, ("sft_hard",)),
        ("iorpo_easy", ("sft_hard",), False, ("iorpo_easy",)),
        ("iorpo_hard", ("iorpo_easy",), False, ("iorpo_hard",))]
    assert {p.reference for p in plan_stages(options(stages=("iorpo",)), SETS)} == {""}


def test_dpo_after_iorpo_is_compared_with_the_iorpo_model() -> None:
    assert chain(stages=("iorpo", "dpo"), bins=1)[1] == (
        "dpo_all", ("iorpo_all",), True, ("iorpo_all", "dpo_all"))


def test_a_dataset_kept_apart_is_trained_in_the_stage_its_name_begins_with(tmp_path: Path) -> None:
    paths, (first, *_) = written(tmp_path, stages=("sft_external",), bins=1)
    assert (first["stage"], first["dataset"]) == ("sft", "d_sft_external_all")
    assert paths[0].name == "c_1_sft_external_all.yaml"
    with pytest.raises(UserError, match="'pretrain' names no stage"):
        plan_stages(options(stages=("pretrain",)), SETS)


def test_iorpo_has_suris_keys_and_its_own_header(tmp_path: Path) -> None:
    paths, (config, *_) = written(tmp_path, stages=("iorpo",), bins=1)
    assert (config["stage"], config["pref_beta"]) == ("iorpo", 0.4)
    assert (config["lora_rank"], config["lora_alpha"]) == (16, 16)
    assert (config["learning_rate"], config["warmup_ratio"], config["cutoff_len"]) == (5e-5, 0.0, 15024)
    assert not {"pref_loss", "pref_ftx", "mask_history", "create_new_adapter"} & set(config)
    header = paths[0].read_text().split("\n\n")[0]
    assert "Stage 1 of 1: I-ORPO" in header
    assert "if-factory[train]" in header
    assert "Reference:" not in header


def test_a_stages_own_override_wins_over_its_kinds(tmp_path: Path) -> None:
    _, (first, second, _) = written(tmp_path, stages=("sft", "sft_external"), bins=1, stage_overrides={
        "sft": {"num_train_epochs": 2, "seed": 1}, "sft_external": {"seed": 3}})
    assert (first["num_train_epochs"], first["seed"]) == (2, 1)
    assert (second["num_train_epochs"], second["seed"]) == (2, 3)


def test_a_method_may_say_what_is_hard_and_a_bin_without_rows_is_left_out() -> None:
    examples = rows(1, 5, 3, 4)
    assert [[e.record_id for e in b] for b in cut_bins(examples, [3])] == [["0", "2"], ["3", "1"]]
    assert cut_bins(examples, [9])[1] == []


def test_bins_by_difficulty_go_from_easy_to_hard_and_keep_equal_rows_in_order() -> None:
    assert [[e.record_id for e in b] for b in cut_bins(rows(3, 1, 5, 1, 4), [3])] == [["1", "3", "0"], ["4", "2"]]


@pytest.mark.parametrize(("text", "bins"), [("2", 2), ("1", 1), ("1-3,4-5", [3]), ("1, 2-3, 4-5", [1, 3]),
                                            ("1-5", []), ("1,2", [1])])
def test_bins_are_a_number_or_spans_of_difficulty(text: str, bins: int | list[float]) -> None:
    assert read_bins(text) == bins


@pytest.mark.parametrize("text", ["0", "", "easy", "1-3,5-6", "1-3,3-5", "4-5,1-3", "3-1", "1-3,", "-1"])
def test_bins_that_cannot_be_read_overlap_or_leave_a_gap_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--bins"):
        read_bins(text)
    plans = plan_stages(options(stages=("sft",)), {("sft", "easy"): "x"})
    assert [p.bin for p in plans] == ["easy"]


def written(tmp_path: Path, **changes: Any) -> tuple[list[Path], list[dict[str, Any]]]:
    paths = write_curriculum(options(**changes), SETS, tmp_path / "yaml")
    return paths, [yaml.safe_load(p.read_text()) for p in paths]


def test_stages_have_their_own_output_dir_and_resume_nothing(tmp_path: Path) -> None:
    paths, configs = written(tmp_path)
    assert [p.name for p in paths] == ["c_1_sft_easy.yaml", "c_2_sft_hard.yaml", "c_3_dpo_easy.yaml",
                                       "c_4_dpo_hard.yaml", "c_export.yaml"]
    outs = [c["output_dir"] for c in configs[:-1]]
    assert len(set(outs)) == 4
    for c in configs[:-1]:
        assert c["resume_from_checkpoint"] is None
        assert (c["do_train"], c["plot_loss"], c["report_to"]) == (True, True, "none")
        assert c["overwrite_output_dir"] is False
        assert isinstance(c["learning_rate"], float)


def test_export_yaml_merges_all_adapters_in_order_and_names_no_stage(tmp_path: Path) -> None:
    _, configs = written(tmp_path)
    assert configs[-1]["adapter_name_or_path"] == "saves/c_2_sft_hard,saves/c_3_dpo_easy,saves/c_4_dpo_hard"
    assert "stage" not in configs[-1]


def test_dpo_keys_and_history_mask(tmp_path: Path) -> None:
    _, (sft, _, dpo, *_) = written(tmp_path)
    assert (dpo["pref_beta"], dpo["pref_loss"], dpo["pref_ftx"]) == (0.1, "sigmoid", 1.0)
    assert dpo["create_new_adapter"] is True
    assert sft["mask_history"] is True
    assert "mask_history" not in dpo, "LLaMA-Factory refuses it outside SFT"


def test_header_has_the_command_the_reference_and_what_to_serve(tmp_path: Path) -> None:
    paths, _ = written(tmp_path)
    header = paths[3].read_text().split("\n\n")[0]
    assert f"#   llamafactory-cli train {paths[3].as_posix()}\n" in header
    assert "# Reference: m + saves/c_2_sft_hard + saves/c_3_dpo_easy." in header
    serve = "saves/c_2_sft_hard,saves/c_3_dpo_easy,saves/c_4_dpo_hard"
    assert f"# Serve after this stage: adapter_name_or_path: {serve} " in header
    assert "QLoRA" in header


def test_the_header_says_how_to_make_the_embedded_model(tmp_path: Path) -> None:
    said = "# The model, once: if-factory model --to models/SmolLM2-135M-Instruct\n"
    paths = written(tmp_path, model="models/SmolLM2-135M-Instruct")[0]
    shipped = sorted((Path(__file__).parents[2] / "yaml").glob("*/*.yaml"))
    assert len(shipped) > 15
    for path in (*paths, *shipped):
        assert (said in path.read_text()) == ("_export" not in path.name), path
    assert not any("if-factory model" in path.read_text() for path in written(tmp_path, model="m")[0])


def test_no_shipped_stage_spends_its_only_steps_on_a_warm_up() -> None:
    root = Path(__file__).parents[2]
    info = json.loads((root / "dataset_info.json").read_text())
    for path in sorted((root / "yaml").glob("*/*.yaml")):
        config = yaml.safe_load(path.read_text())
        names = str(config.get("dataset") or "").split(",") if "output_dir" in config else []
        rows = sum(len((root / info[name]["file_name"]).read_text().splitlines()) for name in names)
        assert not names or without_warmup(config, rows) == (config, ""), path


def test_replay_joins_one_sft_stage_the_last_before_preferences(tmp_path: Path) -> None:
    _, configs = written(tmp_path, replay=("general",))
    assert [c["dataset"] for c in configs[:-1]] == ["d_sft_easy", "d_sft_hard,general", "d_dpo_easy", "d_dpo_hard"]
    plans = plan_stages(options(stages=("sft", "sft_external"), bins=1, replay=("general",)), SETS)
    assert [p.datasets for p in plans] == [("d_sft_all", "general"), ("d_sft_external_all",)]
    plans = plan_stages(options(stages=("sft_external", "dpo"), bins=1, replay=("general",)), SETS)
    assert [p.datasets for p in plans] == [("d_sft_external_all", "general"), ("d_dpo_all",)]


def test_datasets_beside_each_other_are_one_stage(tmp_path: Path) -> None:
    _, configs = written(tmp_path, bins=1, beside={("sft", "all"): ["d_more"]}, replay=("general",))
    assert [c["dataset"] for c in configs[:-1]] == ["d_sft_all,d_more,general", "d_dpo_all"]


def test_cpu_turns_bf16_off_and_overrides_win(tmp_path: Path) -> None:
    _, configs = written(tmp_path, cpu=True, stage_overrides={"dpo": {"learning_rate": 1e-7, "flash_attn": "fa2"}})
    assert (configs[0]["bf16"], configs[0]["use_cpu"]) == (False, True)
    assert (configs[2]["learning_rate"], configs[2]["flash_attn"]) == (1e-7, "fa2")
    assert configs[0]["learning_rate"] == 1e-4


def test_without_a_template_the_key_is_left_out(tmp_path: Path) -> None:
    _, configs = written(tmp_path)
    assert all("template" not in c for c in configs)


def test_unknown_template_is_refused_with_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.exporting.templates.template_names", lambda: frozenset({"qwen3_nothink"}))
    with pytest.raises(UserError, match="did you mean qwen3_nothink"):
        written(tmp_path, template="qwen3_nothing")


def test_stage_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset for stage dpo"):
        write_curriculum(options(), {("sft", b): "x" for b in ("easy", "hard")}, tmp_path)


def test_same_options_are_the_same_bytes(tmp_path: Path) -> None:
    first = [p.read_bytes() for p in written(tmp_path)[0]]
    assert [p.read_bytes() for p in written(tmp_path)[0]] == first


def test_full_stages_start_from_the_model_before_and_name_their_reference(tmp_path: Path) -> None:
    paths, configs = written(tmp_path, finetuning_type="full", bins=1)
    assert [c["model_name_or_path"] for c in configs] == ["m", "saves/c_1_sft_all"]
    assert [p.name for p in paths] == ["c_1_sft_all.yaml", "c_2_dpo_all.yaml"], "there is nothing to merge"
    for config in configs:
        assert config["finetuning_type"] == "full"
        assert not {"adapter_name_or_path", "lora_rank", "create_new_adapter", "ref_model"} & set(config)
    assert "# Reference: saves/c_1_sft_all." in paths[1].read_text()
    assert "# Serve after this stage: saves/c_2_dpo_all" in paths[1].read_text()
    _, configs = written(tmp_path, finetuning_type="full", bins=2, reference="sft")
    assert configs[3]["ref_model"] == "saves/c_2_sft_hard"


def test_one_kind_can_train_the_whole_model_and_the_next_an_adapter_on_it(tmp_path: Path) -> None:
    overrides = {"sft": {"finetuning_type": "full"}}
    _, configs = written(tmp_path, bins=1, stage_overrides=overrides)
    assert [c["finetuning_type"] for c in configs] == ["full", "lora", "lora"]
    assert configs[1]["model_name_or_path"] == configs[2]["model_name_or_path"] == "saves/c_1_sft_all"
    with pytest.raises(UserError, match="the stage before it an adapter"):
        written(tmp_path, bins=1, stage_overrides={"dpo": {"finetuning_type": "freeze"}})


def test_what_a_full_curriculum_leaves_is_a_whole_model_and_adapters_stand_on_it(tmp_path: Path) -> None:
    """`evaluate --curriculum` took such a curriculum for one without an export YAML, or merged into the base model."""
    def trained(folder: str, **changes: Any) -> tuple[tuple[Path, ...], dict[str, tuple[Path, ...]]]:
        write_curriculum(options(bins=1, output_root=str(tmp_path / "saves"), **changes), SETS, tmp_path / folder)
        with pytest.raises(UserError, match="adapter or model is not there"):
            adapters_of(tmp_path / folder)
        for stage in ("c_1_sft_all", "c_2_dpo_all"):
            (tmp_path / "saves" / stage).mkdir(parents=True)
        found = adapters_of(tmp_path / folder), adapters_by_stage(tmp_path / folder)
        shutil.rmtree(tmp_path / "saves")
        return found

    sft, dpo = tmp_path / "saves" / "c_1_sft_all", tmp_path / "saves" / "c_2_dpo_all"
    assert trained("full", finetuning_type="full") == ((dpo,), {"c_1_sft_all": (sft,), "c_2_dpo_all": (dpo,)})
    mixed = trained("mixed", stage_overrides={"sft": {"finetuning_type": "full"}})
    assert mixed == ((sft, dpo), {"c_1_sft_all": (sft,), "c_2_dpo_all": (sft, dpo)})
    assert trained("lora") == ((sft, dpo), {"c_1_sft_all": (sft,), "c_2_dpo_all": (sft, dpo)})


def test_deepspeed_is_written_beside_the_stages_and_named_in_them(tmp_path: Path) -> None:
    paths, configs = written(tmp_path, bins=1, finetuning_type="full", deepspeed="z3")
    file = paths[0].with_name("ds_z3_config.json")
    assert configs[0]["deepspeed"] == file.as_posix()
    assert json.loads(file.read_text())["zero_optimization"]["stage"] == 3
    assert "FORCE_TORCHRUN=1 llamafactory-cli train" in paths[0].read_text()
    with pytest.raises(UserError, match="ZeRO-3 takes a single adapter"):
        written(tmp_path, bins=1, deepspeed="z3")


def test_orpo_does_not_count_its_likelihood_term_twice_and_nan_is_logged_as_such(tmp_path: Path) -> None:
    _, configs = written(tmp_path, bins=1, stage_overrides={"dpo": {"pref_loss": "orpo"}})
    assert configs[1]["pref_ftx"] == 0
    assert [c["logging_nan_inf_filter"] for c in configs[:2]] == [False, False]
    assert not [note for c in configs[:2] for note in key_notes(c)]


def test_chunks_are_written_for_the_stages_that_know_them() -> None:
    """``--set logps_chunk_size=64`` for all of them, with a stage's or a kind's name for some."""
    stages = ("sft", "dpo", "dpo_external", "kto")
    for setting, expected in (("logps_chunk_size", {"dpo", "dpo_external", "kto"}),
                              ("dpo.logps_chunk_size", {"dpo"}), ("dpo_external.logps_chunk_size", {"dpo_external"})):
        found = stage_overrides({setting: 64}, stages, {})
        assert {name for name, keys in found.items() if keys == {"logps_chunk_size": 64}} == expected
        assert found["sft"] == {}
    for setting, trained in (("sft.logps_chunk_size", stages), ("logps_chunk_size", ("sft", "iorpo"))):
        with pytest.raises(UserError, match=r"is for the stages dpo and kto"):
            stage_overrides({setting: 64}, trained, {})
    assert key_notes({"stage": "dpo", "logps_chunk_size": 64}) == []


@pytest.mark.parametrize(("keys", "words", "stops"), [
    ({"stage": "dpo", "pref_loss": "hinge"}, "sigmoid", False),
    ({"stage": "dpo", "pref_loss": "ipo"}, "length-averaged", False),
    ({"stage": "dpo", "pref_loss": "orpo", "pref_ftx": 1.0}, "twice", False),
    ({"stage": "kto", "lora_dropout": 0.1}, "no effect", False),
    ({"mix_strategy": "interleave_once"}, "raises", True), ({"group_by_length": True}, "no key", True),
    ({"dataset": "a,a"}, "trained once", False), ({"stage": "ppo"}, "cannot run", True),
    ({"stage": "sft", "logps_chunk_size": 64}, "dpo and kto, not sft", True),
    ({"streaming": True}, "StopIteration", True), ({"save_only_model": True}, "learning rate", False)])
def test_keys_that_do_not_do_what_they_say_are_told(keys: dict[str, Any], words: str, stops: bool) -> None:
    (note,) = key_notes(keys)
    assert words in note.text
    assert note.stops == stops
