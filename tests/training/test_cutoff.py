"""What `cutoff_len` cuts is counted as LLaMA-Factory's own processors cut it, for every stage."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.records import KTOExample, PreferenceExample, SFTExample, Turn
from if_factory.specs import ModelSpec
from if_factory.training.curriculum import CurriculumOptions
from if_factory.training.cutoff import (
    DEFAULT,
    Encoder,
    Estimate,
    Lengths,
    Settings,
    count_cuts,
    fitting_cutoff,
    lost_of,
    share,
)
from if_factory.training.preflight import preflight
from tests.exporting.reference import _byte_tokenizer, need_llamafactory


@pytest.mark.parametrize(("source", "target", "kept"), [
    (300, 20, (80, 20)), (300, 300, (50, 50)), (300, 49, (51, 49)), (300, 50, (86, 14)), (20, 300, (20, 80))])
def test_the_room_is_shared_as_was_seen(source: int, target: int, kept: tuple[int, int]) -> None:
    assert share(source, target, 100) == kept


def test_five_turns_without_mask_history_lose_the_last_answer_and_with_it_the_first_turns() -> None:
    talk = Lengths(((100, 350),) * 5)
    assert lost_of(talk, "sft", Settings(2048, mask_history=False)) == "answer"
    assert lost_of(talk, "sft", Settings(2048, mask_history=True)) == "history"
    assert lost_of(talk, "sft", Settings(2250)) is None


def test_default_answer_and_default_cutoff_fit_each_other() -> None:
    """An answer as long as the built-in model may write is never the part that is cut, whatever the prompt.

    A model behind a URL has no limit of ours by default: what its answers lose is counted before training.
    """
    answer = ModelSpec().answer_tokens
    assert answer is not None
    assert ModelSpec(endpoint="http://x/v1").answer_tokens is None
    cutoff = CurriculumOptions("m", None).cutoff_len
    assert all(share(prompt, answer, cutoff)[1] == answer for prompt in range(0, 20_000, 100))


def examples(kind: str, rng: Random, count: int) -> list[Any]:
    def text() -> str:
        return "x" * rng.choice([1, 5, 20, 40, 60, 90, 200])

    made: list[Any] = []
    for i in range(count):
        history = tuple(Turn(role=role, content=text()) for _ in range(rng.choice([0, 0, 1, 2]))
                        for role in ("user", "assistant"))
        common: dict[str, Any] = {"record_id": str(i), "prompt": f"{i}" + text(), "history": history,
                                  "system": text() if rng.random() < 0.3 else ""}
        if kind == "sft":
            made.append(SFTExample(response=text(), **common))
        elif kind == "dpo":
            made.append(PreferenceExample(chosen="c" + text(), rejected="r" + text(), violated=(0,), **common))
        else:
            made.append(KTOExample(response=f"{i}" + text(), label=rng.random() < 0.5, **common))
    return made


def labels_of(folder: Path, stage: str, template: str, cutoff_len: int, **keys: Any) -> list[tuple[int, int]]:
    """Per row, by LLaMA-Factory's own processor: its tokens and those of them with loss."""
    from llamafactory.data import loader
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    data = DataArguments(dataset_dir=str(folder), template=template, cutoff_len=cutoff_len, overwrite_cache=True,
                         **keys)
    model = SimpleNamespace(cache_dir=str(folder / ".cache"), hf_hub_token=None)
    training = SimpleNamespace(seed=42, local_process_index=0, should_log=False, predict_with_generate=False,
                               dataloader_num_workers=0)
    inner = "rm" if stage == "dpo" else stage
    merged = loader._get_merged_dataset(["d"], model, data, training, inner)
    tokenizer = _byte_tokenizer()
    chosen = get_template_and_fix_tokenizer(tokenizer, data)
    done = loader._get_preprocessed_dataset(merged, data, training, inner, chosen, tokenizer)
    sides = ("chosen_", "rejected_") if stage == "dpo" else ("",)
    return [(sum(len(row[f"{s}input_ids"]) for s in sides),
             sum(label != -100 for s in sides for label in row[f"{s}labels"])) for row in done]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo", "kto"])
@pytest.mark.parametrize(("template", "mask_history"), [("chatml", True), ("chatml", False), ("empty", True),
                                                        ("bailing", False), ("qwen3", True)])
def test_count_is_that_of_llamafactorys_labels(stage: str, template: str, mask_history: bool, tmp_path: Path
                                               ) -> None:
    need_llamafactory()
    if stage != "sft" and mask_history and template != "qwen3":
        pytest.skip("mask_history is for SFT")
    rows = examples(stage, Random(f"{stage}{template}"), 60)
    written = write_dataset("d", rows, tmp_path, "sharegpt")
    merge_entries(tmp_path / "dataset_info.json", {"d": written.entry})
    _byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    keys: dict[str, Any] = {"mask_history": mask_history} if stage == "sft" else {}
    encoder = Encoder(str(tmp_path / "tokenizer"), {"template": template, **keys})
    whole = labels_of(tmp_path, stage, template, 100_000, **keys)
    for cutoff in (100, 180, 333):
        settings = Settings(cutoff, mask_history=bool(keys.get("mask_history")))
        report = count_cuts(tmp_path, ["d"], stage, encoder, settings)  # type: ignore[arg-type]
        seen = labels_of(tmp_path, stage, template, cutoff, **keys)
        by_row = {c.row: c.lost for c in report.cuts}
        for n, ((tokens, trained), (all_tokens, all_trained)) in enumerate(zip(seen, whole, strict=True), 1):
            assert (n in by_row) == (tokens < all_tokens), (n, cutoff)
            # of a DPO pair the longer answer is asked for, and the shorter one may be whole
            assert (by_row.get(n) == "answer") == (trained < all_trained), (n, cutoff, by_row.get(n))
    assert count_cuts(tmp_path, ["d"], stage, encoder, Settings(report.fitting)).cuts == []  # type: ignore[arg-type]


@pytest.mark.slow
def test_packing_keeps_one_token_back(tmp_path: Path) -> None:
    need_llamafactory()
    rows = [SFTExample(record_id=str(n), prompt="p", response="x" * n) for n in range(20, 60)]
    written = write_dataset("d", rows, tmp_path)
    merge_entries(tmp_path / "dataset_info.json", {"d": written.entry})
    _byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    encoder = Encoder(str(tmp_path / "tokenizer"), {"template": "empty"})
    report = count_cuts(tmp_path, ["d"], "sft", encoder, Settings(40, packing=True))
    packed = labels_of(tmp_path, "sft", "empty", 40, packing=True)
    whole = labels_of(tmp_path, "sft", "empty", 1000)
    kept = sum(trained for _, trained in whole) - sum(trained for _, trained in packed)
    assert kept == sum(c.tokens - 39 for c in report.cuts)
    assert report.cuts


def long_rows(folder: Path) -> dict[str, Any]:
    """A dataset of which one row is longer than 100 tokens, registered, and a training YAML's keys."""
    rows = [SFTExample(record_id=str(i), prompt="say", response="x" * (150 if i == 2 else 20)) for i in range(4)]
    written = write_dataset("d", rows, folder / "data")
    merge_entries(folder / "data" / "dataset_info.json", {"d": written.entry})
    return {"model_name_or_path": "tokenizer", "stage": "sft", "template": "empty", "cutoff_len": 100,
            "dataset": "d", "dataset_dir": "data", "output_dir": "saves/x"}


@pytest.mark.slow
def test_training_is_refused_where_an_answer_would_be_cut(tmp_path: Path) -> None:
    need_llamafactory()
    config = long_rows(tmp_path)
    _byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    said: list[str] = []
    with pytest.raises(UserError, match=r"end of an answer is cut in 1 of 4 rows: d row 3 \(153 tokens\)") as e:
        preflight({"x.yaml": config}, root=tmp_path, say=said.append)
    assert "cutoff_len: 256" in str(e.value)
    assert preflight({"x.yaml": config}, root=tmp_path, allow_cut=True, say=said.append)[0].harmful
    assert "row 3" in said[-1]
    assert preflight({"x.yaml": config | {"cutoff_len": 256}}, root=tmp_path)[0].cuts == []


def test_training_is_refused_where_the_loader_would_refuse_the_rows(tmp_path: Path) -> None:
    config = long_rows(tmp_path)
    with (tmp_path / "data" / "d.jsonl").open("a") as f:
        f.write(json.dumps({"conversations": 3, "system": ""}) + "\n")
    with pytest.raises(UserError, match="refuses dataset 'd'"):
        preflight({"x.yaml": config}, root=tmp_path)


def test_training_is_refused_where_one_of_the_yamls_workers_is_left_without_a_row(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker trains 19 of these 20 rows; of 16 one has a shard of which every row is dropped."""
    config = long_rows(tmp_path) | {"dataset": "short", "template": None}
    rows = [{"instruction": "say", "input": "", "output": "x" if i < 19 else None} for i in range(20)]
    (tmp_path / "data" / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "data" / "dataset_info.json").write_text('{"short": {"file_name": "short.jsonl"}}')
    with pytest.raises(UserError, match="refuses dataset 'short'"):
        preflight({"x.yaml": config | {"preprocessing_num_workers": 16}}, root=tmp_path)
    monkeypatch.setattr("if_factory.training.preflight._encoder", lambda *args: None)  # no tokens are counted
    assert preflight({"x.yaml": config}, root=tmp_path, say=lambda line: None) == []


def test_without_a_tokenizer_the_fitting_value_is_an_estimate_on_the_safe_side(tmp_path: Path) -> None:
    long_rows(tmp_path)
    report = count_cuts(tmp_path / "data", ["d"], "sft", Estimate(), Settings())
    assert report.estimated
    assert fitting_cutoff([report])[0] == DEFAULT
    rows = [SFTExample(record_id="r", prompt="Tell me about the garden. " * 600, response="x")]
    written = write_dataset("e", rows, tmp_path / "data")
    merge_entries(tmp_path / "data" / "dataset_info.json", {"e": written.entry})
    chosen, words = fitting_cutoff([count_cuts(tmp_path / "data", ["e"], "sft", Estimate(), Settings())])
    assert chosen > 3000, "600 times six words"
    assert "e row 1" in words
    assert "estimated" in words
