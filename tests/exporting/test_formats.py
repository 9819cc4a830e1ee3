"""What leaves the factory is what LLaMA-Factory will train, with its provenance line for line beside it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory import files
from if_factory.errors import UserError
from if_factory.exporting import loading
from if_factory.exporting.acceptance import KTO_BATCH, check_dataset
from if_factory.exporting.dataset_info import merge_entries
from if_factory.exporting.formats import order_apart, write_dataset, write_rows
from if_factory.exporting.rows import Rows, alpaca_row, sharegpt_row
from if_factory.methods.base import get_method, names
from if_factory.records import (
    Constraint,
    KTOExample,
    PreferenceExample,
    SFTExample,
    TripleExample,
    Turn,
    content_id,
    content_id_of_list,
)
from if_factory.training.bins import split_places
from tests.exporting.reference import accepted_by_llamafactory, need_llamafactory

COMMAS = Constraint(type="punctuation:no_comma", text="no commas")
PAST = (Turn(role="user", content="q"), Turn(role="assistant", content="a"))


def examples(kind: str) -> list[Any]:
    """One plain row and one with history and system, as the factory emits them."""
    common: list[dict[str, Any]] = [
        {"record_id": "r1", "prompt": "say", "constraints": (COMMAS,), "difficulty": 1,
         "provenance": {"source": "teacher", "model": "m"}},
        {"record_id": "r2", "prompt": "say \u00e9", "system": "be nice", "history": PAST, "difficulty": 2}]
    if kind == "sft":
        return [SFTExample(response="x", **c) for c in common]
    if kind == "dpo":
        return [PreferenceExample(chosen="x", rejected="y,", violated=(0,), **c) for c in common]
    if kind == "iorpo":
        return [TripleExample(response="x", prompt_rejected=f"shout {i}", corrupted=(0,), **c)
                for i, c in enumerate(common)]
    return [KTOExample(response="xy"[i], label=i == 0, **c) for i, c in enumerate(common)]


def alpaca_rows(given: list[Any]) -> list[dict[str, Any]]:
    return list(map(alpaca_row, given))


def sharegpt_rows(given: list[Any]) -> list[dict[str, Any]]:
    return list(map(sharegpt_row, given))


def apart(given: list[Any], batch: int = KTO_BATCH) -> list[Any]:
    """The order in which ``write_rows`` writes these examples."""
    if not all(isinstance(e, KTOExample) for e in given):
        return list(given)
    return [given[i] for i in order_apart([e.response for e in given], lambda: (e.record_id for e in given), batch)]


KINDS = pytest.mark.parametrize("kind", ["sft", "dpo", "kto", "iorpo"])
FORMATS = pytest.mark.parametrize("fmt", ["alpaca", "sharegpt"])


@KINDS
@FORMATS
def test_written_rows_are_all_accepted(kind: str, fmt: Any, tmp_path: Path) -> None:
    written = write_dataset(f"d_{kind}", examples(kind), tmp_path, fmt)
    merge_entries(tmp_path / "dataset_info.json", {written.name: written.entry})
    report = check_dataset(tmp_path, written.name)
    assert (written.written, written.accepted, report.accepted, report.stage) == (2, 2, 2, kind)
    assert report.problems == []


@pytest.mark.slow
@KINDS
@FORMATS
def test_llamafactory_itself_accepts_them(kind: str, fmt: Any, tmp_path: Path) -> None:
    need_llamafactory()
    written = write_dataset(f"d_{kind}", examples(kind), tmp_path, fmt)
    merge_entries(tmp_path / "dataset_info.json", {written.name: written.entry})
    assert accepted_by_llamafactory(tmp_path, written.name, kind) == (2, "")
    if kind == "iorpo":  # stock LLaMA-Factory reads triples as SFT rows and refuses them for DPO
        assert accepted_by_llamafactory(tmp_path, written.name, "sft") == (2, "")
        accepted, raised = accepted_by_llamafactory(tmp_path, written.name, "dpo")
        assert accepted == 0
        assert "not applicable in the current training stage" in raised


@KINDS
@FORMATS
def test_every_row_has_the_same_keys_in_the_same_order(kind: str, fmt: str) -> None:
    rows = (alpaca_rows if fmt == "alpaca" else sharegpt_rows)(examples(kind))
    assert len({tuple(r) for r in rows}) == 1


def test_history_and_system_are_kept() -> None:
    assert alpaca_rows(examples("sft"))[1] == {
        "instruction": "say \u00e9", "input": "", "output": "x", "system": "be nice", "history": [["q", "a"]]}
    for kind, answer in (("sft", ["x"]), ("dpo", [])):
        talk = sharegpt_rows(examples(kind))[1]["conversations"]
        assert [t["value"] for t in talk] == ["q", "a", "say \u00e9", *answer]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
def test_trl_rows_render_the_whole_prompt_and_only_the_answer_after_it(kind: str, tmp_path: Path) -> None:
    """By trl's own functions: the text of a row is the chat template over system, history, prompt and answer."""
    data_utils = pytest.importorskip("trl.data_utils")
    from tests.exporting.reference import _byte_tokenizer

    tokenizer = _byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    written = write_dataset(f"d_{kind}", examples(kind), tmp_path, "trl")
    assert (written.written, written.entry) == (2, {})
    row = json.loads(written.path.read_text().splitlines()[1])
    assert data_utils.is_conversational(row)
    text = data_utils.apply_chat_template(row, tokenizer)
    prompt = "[system]be nice[user]q[assistant]a[user]say \u00e9"
    assert text["prompt"] == prompt
    assert {k: v for k, v in text.items() if k not in ("prompt", "label")} == {
        "sft": {"completion": "[assistant]x"}, "kto": {"completion": "[assistant]y"},
        "dpo": {"chosen": "[assistant]x", "rejected": "[assistant]y,"}}[kind]


def test_trl_sft_rows_train_the_last_answer_unless_the_method_verified_all_of_them(tmp_path: Path) -> None:
    """trl gives loss to a ``completion`` alone, and to every answer of ``messages``."""
    written = write_dataset("d", examples("sft"), tmp_path, "trl")
    last = json.loads(written.path.read_text().splitlines()[1])
    assert [m["role"] for m in last["prompt"]] == ["system", "user", "assistant", "user"]
    assert last["completion"] == [{"role": "assistant", "content": "x"}]
    written = write_dataset("e", examples("sft"), tmp_path, "trl", every_answer=True)
    every = json.loads(written.path.read_text().splitlines()[1])
    assert every == {"messages": last["prompt"] + last["completion"]}


def test_only_conifers_conversations_have_verified_histories() -> None:
    """As in LLaMA-Factory's YAMLs: where ``mask_history`` is false, trl and v1 rows train the history too."""
    verified = {(name, dataset) for name in names() for dataset in ("sft", "sft_external", "sft_external_masked")
                if get_method(name).verifies_history(dataset)}
    assert verified == {("conifer", "sft"), ("conifer", "sft_external")}


def test_triples_are_refused_for_trl(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trainer for I-ORPO"):
        write_dataset("d", examples("iorpo"), tmp_path, "trl")
    assert not list(tmp_path.iterdir())


def test_v1_rows_train_the_last_answer_alone(tmp_path: Path) -> None:
    written = write_dataset("d_sft", examples("sft"), tmp_path, "v1")
    plain, talk = map(json.loads, written.path.read_text().splitlines())
    assert [(m["role"], m["content"], m["loss_weight"]) for m in talk["messages"]] == [
        (role, [{"type": "text", "value": text}], weight) for role, text, weight in (
            ("system", "be nice", 0.0), ("user", "q", 0.0), ("assistant", "a", 0.0), ("user", "say \u00e9", 0.0),
            ("assistant", "x", 1.0))]
    assert [m["role"] for m in plain["messages"]] == ["user", "assistant"]
    every = write_dataset("e_sft", examples("sft"), tmp_path, "v1", every_answer=True)
    weights = [m["loss_weight"] for m in json.loads(every.path.read_text().splitlines()[1])["messages"]]
    assert weights == [0.0, 0.0, 1.0, 0.0, 1.0], "both answers, where the method verified both"
    assert yaml.safe_load((tmp_path / "d_sft.yaml").read_text()) == {
        "d_sft": {"path": str(written.path), "source": "local"}}


@pytest.mark.parametrize("kind", ["dpo", "kto", "iorpo"])
def test_v1_takes_nothing_but_sft(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trains SFT only"):
        write_dataset("d", examples(kind), tmp_path, "v1")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_version_1_of_llamafactory_gives_loss_to_the_last_answer_alone(tmp_path: Path) -> None:
    engine = pytest.importorskip("llamafactory.v1.core.data_engine", exc_type=ImportError)
    rendering = pytest.importorskip("llamafactory.v1.core.utils.rendering", exc_type=ImportError)
    from tests.exporting.reference import _byte_tokenizer

    write_dataset("d_sft", examples("sft"), tmp_path, "v1")
    tokenizer = _byte_tokenizer()
    samples = engine.DataEngine(str(tmp_path / "d_sft.yaml"))
    for sample, prompt in zip(samples[:], ["user\nsay", "user\nq assistant\na user\nsay \u00e9"], strict=True):
        made = rendering.Renderer("chatml", tokenizer).process_samples([sample])[0]
        text = tokenizer.decode(made["input_ids"]).replace("<|im_start|>", "").replace("<|im_end|>\n", " ")
        assert prompt in text
        assert tokenizer.decode([i for i in made["labels"] if i != -100]) == "<|im_start|>assistant\nx<|im_end|>\n"


def test_sidecar_has_one_line_per_row_and_is_no_dataset(tmp_path: Path) -> None:
    written = write_dataset("d", examples("dpo"), tmp_path, "sharegpt")
    rows = [json.loads(line) for line in written.provenance.read_text().splitlines()]
    assert [r["record_id"] for r in rows] == ["r1", "r2"]
    assert rows[0]["constraints"] == [COMMAS.model_dump()]
    assert (rows[0]["violated_positions"], rows[0]["source"], rows[0]["model"]) == ([0], "teacher", "m")
    assert written.provenance.name not in json.dumps(written.entry)

@pytest.mark.slow
def test_a_late_history_comes_first_in_a_large_alpaca_file(tmp_path: Path, monkeypatch: Any) -> None:
    """In curriculum order single turns come first: the loader would fix `history` as a list of nothing."""
    from if_factory.exporting import acceptance

    monkeypatch.setattr(loading, "PIECE", 2000)
    rows = [SFTExample(record_id=str(i), prompt=f"say {i}", response="x" * 50, history=PAST if i >= 90 else ())
            for i in range(100)]
    written = write_dataset("d", rows, tmp_path, "alpaca")
    ids = [json.loads(line)["record_id"] for line in written.provenance.read_text().splitlines()]
    assert ids == ["90", *map(str, range(90)), *map(str, range(91, 100))], "its provenance moves with it"
    in_order = write_dataset("e", rows, tmp_path, "sharegpt")
    assert json.loads(in_order.provenance.read_text().splitlines()[0])["record_id"] == "0"
    merge_entries(tmp_path / "dataset_info.json", {"d": written.entry, "e": in_order.entry})
    options = acceptance.LoaderOptions(piece=2000)
    assert [check_dataset(tmp_path, n, options=options).accepted for n in "de"] == [100, 100]
    plain = alpaca_rows(rows)
    refused = acceptance.check_rows(plain, written.entry, options=options)
    assert "put a row that has it first" in refused.fails[0].reason
    need_llamafactory()
    assert [accepted_by_llamafactory(tmp_path, n, "sft", piece=2000)[0] for n in "de"] == [100, 100]


def test_same_examples_are_the_same_bytes(tmp_path: Path) -> None:
    a = write_dataset("d", examples("sft"), tmp_path / "a")
    b = write_dataset("d", examples("sft"), tmp_path / "b")
    assert a.path.read_bytes() == b.path.read_bytes()
    assert a.provenance.read_bytes() == b.provenance.read_bytes()
    assert a.path.read_bytes().isascii()


def test_no_examples_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no examples"):
        write_dataset("d", [], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mixed_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one kind"):
        write_dataset("d", [*examples("sft"), *examples("kto")], tmp_path)


def test_answers_that_are_all_dates_are_caught_before_writing(tmp_path: Path) -> None:
    dates = [SFTExample(record_id="r", prompt="when?", response="2024-01-01")]
    with pytest.raises(UserError, match="timestamp"):
        write_dataset("d", dates, tmp_path, "alpaca")
    assert list(tmp_path.iterdir()) == []


TEXT = st.text(min_size=1).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, st.text(), TEXT, TEXT, st.booleans()), min_size=1, max_size=4),
       kind=st.sampled_from(["sft", "dpo", "kto", "iorpo"]), fmt=st.sampled_from(["alpaca", "sharegpt"]))
def test_any_text_survives_the_file(rows: Any, kind: str, fmt: Any, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("d")
    given_examples: list[Any] = []
    for prompt, system, good, bad, label in rows:
        common: dict[str, Any] = {"record_id": "r", "prompt": prompt, "system": system}
        given_examples.append(
            SFTExample(response=good, **common) if kind == "sft" else
            PreferenceExample(chosen=good, rejected=bad, violated=(0,), **common) if kind == "dpo" else
            TripleExample(response=good, prompt_rejected=bad + prompt, corrupted=(0,), **common)
            if kind == "iorpo" else
            KTOExample(response=good, label=label, **common))
    written = write_dataset("d", given_examples, folder, fmt)
    assert written.accepted == len(rows)
    given_examples = apart(given_examples)
    back = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert back == (alpaca_rows if fmt == "alpaca" else sharegpt_rows)(given_examples)


def triple(i: int) -> TripleExample:
    return TripleExample(record_id=f"r{i}", prompt=f"say {i}", prompt_rejected=f"shout {i}", response=f"y{i}",
                         corrupted=(0,), system="s", history=PAST, constraints=(COMMAS,))


def test_a_triple_is_an_sft_row_with_the_corrupted_instruction_in_a_column_of_its_own() -> None:
    assert alpaca_rows([triple(1)]) == [{
        "instruction": "say 1", "input": "", "output": "y1", "instruction_corrupted": "shout 1", "system": "s",
        "history": [["q", "a"]]}]
    assert sharegpt_rows([triple(1)])[0]["instruction_corrupted"] == "shout 1"
    assert [t["value"] for t in sharegpt_rows([triple(1)])[0]["conversations"]] == ["q", "a", "say 1", "y1"]


@FORMATS
def test_the_entry_of_triples_never_lets_stock_dpo_take_an_instruction_for_an_answer(
        fmt: Any, tmp_path: Path) -> None:
    written = write_dataset("t", [triple(1)], tmp_path, fmt)
    assert written.entry["ranking"] is False
    assert written.entry["columns"]["rejected"] == "instruction_corrupted"
    assert {"chosen"}.isdisjoint(written.entry["columns"])
    merge_entries(tmp_path / "dataset_info.json", {"t": written.entry})
    assert check_dataset(tmp_path, "t").stage == "iorpo"
    assert check_dataset(tmp_path, "t", stage="sft").ok
    assert check_dataset(tmp_path, "t", stage="dpo").fails


def test_the_sidecar_of_a_triple_says_which_constraints_were_corrupted(tmp_path: Path) -> None:
    written = write_dataset("t", [triple(1)], tmp_path, "alpaca")
    assert json.loads(written.provenance.read_text())["corrupted_positions"] == [0]


def twins(answers: list[int]) -> list[KTOExample]:
    return [KTOExample(record_id=f"{i}{label}", prompt=f"{i} {label}", response=f"y{i}", label=label)
            for i in answers for label in (True, False)]


def touching(rows: list[Any], batch: int) -> int:
    """How many rows follow their own answer, as LLaMA-Factory pairs them."""
    batches = [rows[i:i + batch] for i in range(0, len(rows), batch)]
    return sum(b[i].response == b[i - 1].response for b in batches for i in range(len(b)) if len(b) > 1)


@settings(deadline=None)
@given(n=st.integers(3, 40), batch=st.integers(7, 20))
def test_twins_of_one_answer_are_moved_apart_and_no_row_is_lost(n: int, batch: int) -> None:
    rows = twins(list(range(n)))
    out = apart(rows, batch)
    assert sorted(e.record_id for e in out) == sorted(e.record_id for e in rows)
    assert touching(out, batch) == 0
    assert apart(rows, batch) == out


def test_rows_that_need_no_moving_keep_their_order() -> None:
    rows = [twins([i])[0] for i in range(9)]
    assert apart(rows) == rows
    assert apart(examples("sft")) == examples("sft")


def test_check_says_where_a_kto_row_follows_its_own_answer(tmp_path: Path) -> None:
    written = write_dataset("k", twins([1]), tmp_path, "alpaca")
    assert ["own text" in p.reason for p in written.problems] == [True, True], "one answer alone has no way out"
    assert write_dataset("k", twins([1, 2, 3]), tmp_path, "alpaca").problems == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python holds while rows are filed, cut and written is far less than the rows: 10 MB of them here."""
    monkeypatch.setattr(loading, "PIECE", 100_000)
    monkeypatch.setattr(files, "_IN_MEMORY", 1)
    rows = Rows("alpaca", tmp_path)
    tracemalloc.start()
    try:
        for i in range(600):
            rows.append(SFTExample(record_id=str(i), prompt="q" * 10_000, response=f"y{i}" * 2000, difficulty=i % 3))
        written = [write_rows(f"d{n}", rows, places, tmp_path) for n, places in enumerate(
            (range(600), *split_places(rows.difficulties, 3)))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [w.written for w in written] == [600, 200, 200, 200]
    assert written[0].path.stat().st_size > 10**7
    assert peak < 3 * 2**20


@given(st.lists(st.text(max_size=5)))
def test_the_id_of_a_list_needs_no_list(texts: list[str]) -> None:
    assert content_id_of_list(iter(texts)) == content_id(texts)
