"""Triples through LLaMA-Factory's own pipeline: what is tokenised, dropped, said, and left as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import dataset_entry
from tests.iorpo.tiny import ALPACA, COLUMNS, SHAREGPT, chat, config, register_data, triple

pytestmark = pytest.mark.slow
IGNORE = -100
# LLaMA-Factory makes as many shards of a local file as there are workers
STREAM: dict[str, Any] = {"streaming": True, "dataloader_num_workers": 1, "max_steps": 1, "buffer_size": 1}


def load(root: Path, rows: list[dict[str, Any]] | None = None, entry: dict[str, Any] | None = None,
         **keys: Any) -> Any:
    """The datasets of an I-ORPO run on these rows, tokenised by LLaMA-Factory."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.model import load_tokenizer
    from llamafactory.train import tuner

    from if_factory.iorpo.arguments import STAGE
    from if_factory.iorpo.data import triples
    from if_factory.iorpo.register import add_stage

    add_stage(tuner)
    if rows is not None:
        register_data(root / "data", "rows", rows, entry or ALPACA)
        keys = {"dataset": "rows", "overwrite_cache": True, **keys}
    model, data, training, _, _ = tuner.get_train_args(config(root, root / "unused", **keys))
    tokenizer_module = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data)
    with triples():
        return get_dataset(template, model, data, training, stage=STAGE, **tokenizer_module)


@pytest.fixture(scope="module")
def text(root: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(root / "tiny")
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def sides(row: dict[str, Any]) -> tuple[list[int], list[int], list[int]]:
    """(ids of x_w, ids of x_l, ids of y), after checking that masks and labels say the same."""
    found = []
    for side in ("chosen", "rejected"):
        ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
        assert row[f"{side}_attention_mask"] == [1] * len(ids)
        n = labels.count(IGNORE)
        assert labels == [IGNORE] * n + ids[n:]
        found.append((ids[:n], ids[n:]))
    (prompt_w, answer), (prompt_l, same) = found
    assert answer == same, "both sides are about the same response"
    return prompt_w, prompt_l, answer


def test_alpaca_the_corrupted_instruction_replaces_the_instruction_and_the_input_follows_both(
        root: Path, text: Any) -> None:
    row = {**triple(0), "input": "Use the past tense.", "history": [["Hi", "Hello."], ["More", "Yes."]],
           "system": "Be kind."}
    entry = {"columns": {**COLUMNS, "history": "history", "system": "system"}}
    (done,) = load(root, [row], entry, template="llama3", cutoff_len=1024)["train_dataset"]
    prompt_w, prompt_l, answer = map(text, sides(done))
    assert prompt_w.replace(row["instruction"], row["instruction_corrupted"]) == prompt_l
    for said in ("Be kind.", "Hi", "Hello.", "More", "Yes.", "\nUse the past tense."):
        assert said in prompt_w
    assert answer.startswith(row["output"].strip()[:10])


@pytest.mark.parametrize("form", ["string", "message"])
def test_sharegpt_the_corrupted_instruction_replaces_the_last_user_turn(root: Path, text: Any, form: str) -> None:
    row = chat(3)
    corrupted = row["instruction_corrupted"]
    if form == "message":
        row["instruction_corrupted"] = {"from": "human", "value": corrupted}
    (done,) = load(root, [row], SHAREGPT, template="llama3", cutoff_len=1024)["train_dataset"]
    prompt_w, prompt_l, _ = map(text, sides(done))
    assert prompt_w.replace(row["conversations"][3]["value"], corrupted) == prompt_l
    for said in ("Be brief.", "Hello", "Hello 3."):
        assert said in prompt_w
        assert said in prompt_l


@pytest.mark.parametrize("fmt", ["alpaca", "sharegpt"])
def test_the_entry_that_export_writes_is_read(root: Path, fmt: Any) -> None:
    row = {**triple(0), "history": []} if fmt == "alpaca" else chat(0)
    entry = {k: v for k, v in dataset_entry("x", fmt, "iorpo").items() if k != "file_name"}
    assert len(load(root, [{**row, "system": ""}], entry)["train_dataset"]) == 1


def test_whatever_cannot_be_trained_is_dropped_counted_and_said(
        root: Path, shown: pytest.LogCaptureFixture) -> None:
    good = [triple(i) for i in range(5)]
    bad = [{**triple(0), "instruction_corrupted": None}, {**triple(0), "instruction_corrupted": " "},
           {**triple(0), "instruction_corrupted": triple(0)["instruction"]},
           {**triple(0), "output": ""}, {**triple(0), "output": " \n"}, {**triple(0), "output": None},
           {**triple(0), "instruction": "word " * 200}, {**triple(0), "instruction_corrupted": "word " * 200}]
    done = load(root, [*bad, *good])["train_dataset"]
    assert len(done) == len(good)
    assert [sides(row) for row in done] == [sides(row) for row in load(root, good)["train_dataset"]]
    assert set(done.column_names) == {f"{s}_{c}" for s in ("chosen", "rejected") for c in (
        "input_ids", "attention_mask", "labels")} | {"images", "videos", "audios"}
    said = "\n".join(shown.messages)
    assert "I-ORPO: 5 of 13 training triples are used." in said
    assert ("8 training triples dropped: 2 an instruction does not fit cutoff_len; 2 empty response; 2 no "
            "corrupted instruction; 1 not a conversation that ends with one answer to the user; 1 the two "
            "instructions tokenise alike.") in said


def test_sharegpt_rows_that_are_no_triples_are_dropped_and_said(
        root: Path, shown: pytest.LogCaptureFixture) -> None:
    odd = {**chat(0), "conversations": chat(0)["conversations"][:-1]}
    done = load(root, [odd, chat(1), {**chat(2), "conversations": []}], SHAREGPT)["train_dataset"]
    assert len(done) == 1
    assert "2 training triples dropped: 2 not a conversation" in "\n".join(shown.messages)


def test_the_counts_are_shown_again_when_datasets_answers_from_its_cache(
        root: Path, shown: pytest.LogCaptureFixture) -> None:
    register_data(root / "data", "cached", [triple(0), {**triple(1), "output": ""}], ALPACA)
    for _ in range(2):
        shown.clear()
        assert len(load(root, dataset="cached")["train_dataset"]) == 1
        assert "1 training triples dropped: 1 empty response." in "\n".join(shown.messages)


def test_two_preprocessing_workers_drop_and_count_the_same(root: Path, shown: pytest.LogCaptureFixture) -> None:
    rows = [triple(i) if i % 3 else {**triple(i), "output": ""} for i in range(12)]
    done = load(root, rows, preprocessing_num_workers=2)["train_dataset"]
    assert [sides(r) for r in done] == [sides(r) for r in load(root, rows)["train_dataset"]]
    assert "4 training triples dropped: 4 empty response." in "\n".join(shown.messages)


def test_no_triple_left_is_an_error_that_says_why(root: Path) -> None:
    with pytest.raises(UserError, match="none of the 3 training triples can be trained: 3 empty response"):
        load(root, [{**triple(i), "output": ""} for i in range(3)])
    with pytest.raises(UserError, match="none of the training triples can be trained"):
        load(root, [{**triple(i), "output": ""} for i in range(3)], **STREAM)


def test_a_stream_drops_the_same_triples_and_says_each(root: Path, shown: pytest.LogCaptureFixture) -> None:
    rows = [triple(i) if i % 2 else {**triple(i), "output": ""} for i in range(6)]
    done = load(root, rows, **STREAM)["train_dataset"]
    assert [sides(r) for r in done] == [sides(r) for r in load(root, rows)["train_dataset"]]
    assert "triple dropped: empty response (3 so far)" in "\n".join(shown.messages)


def test_datasets_of_both_formats_are_mixed_split_and_evaluated(root: Path) -> None:
    mixed = load(root, dataset="alpaca,chats", eval_dataset="held_out")
    assert (len(mixed["train_dataset"]), len(mixed["eval_dataset"])) == (36, 6)
    split = load(root, dataset="alpaca,chats", val_size=0.25)
    assert (len(split["train_dataset"]), len(split["eval_dataset"])) == (27, 9)
    named = load(root, dataset="alpaca", eval_dataset="held_out,chats", eval_on_each_dataset=True)
    assert {k: len(v) for k, v in named["eval_dataset"].items()} == {"held_out": 6, "chats": 12}


@pytest.mark.parametrize(("entry", "words"), [
    ({"columns": {k: v for k, v in COLUMNS.items() if k != "rejected"}}, "columns.rejected"),
    ({**ALPACA, "formatting": "openai"}, "formatting: openai, which stage iorpo does not take"),
])
def test_an_entry_that_names_no_triples_is_refused(root: Path, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(root, [triple(0)], entry)


def test_a_paired_dataset_is_refused_by_llamafactorys_own_rule(root: Path) -> None:
    entry = {"ranking": True, "columns": {**COLUMNS, "chosen": "output"}}
    with pytest.raises(ValueError, match="not applicable in the current training stage"):
        load(root, [triple(0)], entry)


def test_stock_sft_trains_the_same_entry_and_stock_dpo_refuses_it(root: Path, text: Any) -> None:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.model import load_tokenizer
    from llamafactory.train import tuner

    model, data, training, _, _ = tuner.get_train_args(config(root, root / "unused", stage="sft", pref_beta=None))
    tokenizer_module = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data)
    row = get_dataset(template, model, data, training, stage="sft", **tokenizer_module)["train_dataset"][0]
    assert text(row["input_ids"]) == triple(0)["instruction"] + triple(0)["output"]
    with pytest.raises(ValueError, match="not applicable in the current training stage"):
        get_dataset(template, model, data, training, stage="rm", **tokenizer_module)


def test_the_hooks_are_gone_afterwards_also_after_an_error(root: Path) -> None:
    from llamafactory.data import converter, loader

    before = dict(converter.DATASET_CONVERTERS), loader._get_dataset_processor, loader._get_preprocessed_dataset
    with pytest.raises(UserError):
        load(root, [{**triple(0), "output": ""}])
    after = converter.DATASET_CONVERTERS, loader._get_dataset_processor, loader._get_preprocessed_dataset
    assert before == after


@pytest.mark.parametrize("name", ["_get_dataset_processor", "_get_preprocessed_dataset"])
def test_a_data_pipeline_that_moved_is_one_sentence(
        root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamafactory.data import loader

    monkeypatch.setattr(loader, name, lambda other: None)
    with pytest.raises(UserError, match=f"tested with llamafactory 0.9.2 to 0.9.5; in .*{name} has changed"):
        load(root, [triple(0)])


@pytest.fixture(scope="module")
def processor(root: Path) -> Any:
    """A processor over byte tokens with a cutoff_len that a test can set."""
    from types import SimpleNamespace

    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    from if_factory.iorpo.data import TripleProcessor

    tokenizer = AutoTokenizer.from_pretrained(root / "tiny")
    template = get_template_and_fix_tokenizer(tokenizer, DataArguments(template="empty"))
    return TripleProcessor(template, tokenizer, None, SimpleNamespace(cutoff_len=64))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 120))
@settings(deadline=None, max_examples=300)
def test_truncation_never_cuts_an_instruction_and_is_the_same_for_both_sides(
        processor: Any, n_w: int, n_l: int, n_y: int, cutoff: int) -> None:
    processor.data_args.cutoff_len = cutoff
    def turn(role: str, content: str) -> list[dict[str, str]]:
        return [{"role": role, "content": content}]
    columns = processor.preprocess_dataset({
        "_prompt": [turn("user", "w" * n_w)], "_corrupted": [turn("user", "l" * n_l)],
        "_response": [turn("assistant", "y" * n_y)],
        **{f"_{name}": [None] for name in ("system", "tools", "images", "videos", "audios")}})
    row = {name: values[0] for name, values in columns.items()}
    if row["_dropped"]:
        assert row["_dropped"] == "an instruction does not fit cutoff_len"
        assert max(n_w, n_l) + n_y > cutoff, "what fits is never dropped"
        return
    prompt_w, prompt_l, answer = sides(row)
    assert (len(prompt_w), len(prompt_l)) == (n_w, n_l)
    assert 0 < len(answer) <= n_y
    assert row["_truncated"] == n_y - len(answer)
    assert max(n_w, n_l) + len(answer) <= cutoff
    if row["_truncated"]:
        assert max(n_w, n_l) + len(answer) == cutoff, "no more is cut than must be"


def test_responses_that_are_cut_are_counted(root: Path, shown: pytest.LogCaptureFixture) -> None:
    rows = [triple(0), {**triple(1), "output": "long " * 200}]
    done = load(root, rows)["train_dataset"]
    assert len(done[1]["rejected_input_ids"]) <= 256
    assert "1 responses are cut at cutoff_len 256" in "\n".join(shown.messages)


def test_a_template_that_tokenises_a_response_by_its_prompt_is_refused(processor: Any) -> None:
    class Wrong:
        mm_plugin, efficient_eos = processor.template.mm_plugin, False

        def encode_oneturn(self, tokenizer: Any, messages: Any, system: Any, tools: Any) -> Any:
            return [1], [len(messages[0]["content"])]

    from dataclasses import replace

    row = {"_prompt": [{"role": "user", "content": "a"}], "_corrupted": [{"role": "user", "content": "bb"}],
           "_response": [{"role": "assistant", "content": "y"}]}
    media = {f"_{name}": [None] for name in ("system", "tools", "images", "videos", "audios")}
    with pytest.raises(RuntimeError, match="one response in two ways"):
        replace(processor, template=Wrong()).preprocess_dataset({k: [v] for k, v in row.items()} | media)


def test_dataset_info_is_as_the_documentation_shows_it(root: Path) -> None:
    entry = json.loads((root / "data" / "dataset_info.json").read_text())["alpaca"]
    assert "ranking" not in entry, "false by default, so stock SFT reads it too"
    assert entry["columns"]["rejected"] == "instruction_corrupted"
