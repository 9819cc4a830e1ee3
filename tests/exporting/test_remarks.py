"""Situations from public reports, rebuilt: what `check` accepts, refuses, and remarks on."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from if_factory.exporting.acceptance import LoaderOptions, check_dataset, check_rows
from tests.exporting.cases import PAIR, pair, sft, talk
from tests.exporting.reference import need_llamafactory

ASK, SAY = {"from": "human", "value": "Is it raining in Bergen?"}, {"from": "gpt", "value": "Yes, it rains."}
CALL = '{"name": "weather", "arguments": {"city": "Bergen"}}'
TOOLS = {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}}


@pytest.mark.parametrize("call", [CALL, f"[{CALL}]", f"<think>\nThe tool knows.\n</think>\n\n{CALL}",
                                  f"<tool_call>\n{CALL}\n</tool_call>"])
def test_a_function_call_may_have_a_thought_or_tags(call: str) -> None:
    """Schuture/Meissa#4, hiyouga/LlamaFactory#9743."""
    row = talk(ASK, {"from": "function_call", "value": call}, {"from": "observation", "value": "rain"}, SAY)
    assert check_rows([row | {"tools": "[]"}], TOOLS).ok


@pytest.mark.parametrize("tools", ["null", '{"name": "weather", "parameters": {"properties": {}}}', " ",
                                   '[{"name": "weather", "description": "Says the weather."}]'])
def test_tools_that_llamafactory_crashes_on_are_named(tools: str) -> None:
    """hiyouga/LlamaFactory#4400, #7547."""
    report = check_rows([talk(ASK, SAY) | {"tools": tools}], TOOLS)
    assert [p.field for p in report.fails] == ["tools"]


def test_a_template_that_asks_less_of_its_tools_takes_them() -> None:
    need_llamafactory()
    rows = [talk(ASK, SAY) | {"tools": '[{"name": "weather", "description": "Says the weather."}]'}]
    assert check_rows(rows, TOOLS).fails
    assert check_rows(rows, TOOLS, options=LoaderOptions(template="qwen")).ok


@pytest.mark.parametrize(("text", "words"), [
    ("Use the <video> element.", "<video> stands in the text"), ("say {{idx}}", "the turn's number"),
    ("write <|im_end|> here", "control token")])
def test_words_that_a_template_takes_for_something_else_are_remarked(text: str, words: str) -> None:
    """hiyouga/LlamaFactory#8440."""
    report = check_rows([sft(), sft(instruction=text), *[sft()] * 5000], {})
    assert [(p.row, p.effect) for p in report.problems] == [(2, "kept")]
    assert words in report.problems[0].reason
    assert report.ok, "the row is trained all the same"


def test_an_empty_thinking_block_that_a_template_trains_is_remarked() -> None:
    need_llamafactory()
    rows = [sft(), sft(output="<think>\nso\n</think>\n\nword"), *[sft()] * 4998]
    report = check_rows(rows, {}, options=LoaderOptions(template="qwen3"))
    assert "empty thinking block before 4999 answers" in report.problems[-1].reason
    assert check_rows(rows, {}, options=LoaderOptions(template="qwen3_nothink")).problems == []


def test_a_preference_set_without_ranking_is_told_so_and_not_called_iorpo() -> None:
    report = check_rows([pair()], {"columns": PAIR["columns"]})
    assert report.stage == "dpo"
    assert 'stage dpo needs "ranking": true' in report.fails[0].reason


def test_a_csv_file_without_the_library_is_a_note_on_that_dataset(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "d.csv").write_text("instruction,input,output\na,,b\n")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"d": {"file_name": "d.csv"}}))
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    report = check_dataset(tmp_path, "d")
    assert report.unread
    assert report.ok, "it says nothing against the dataset"
    assert "if-factory[datasets]" in report.problems[0].reason


@pytest.mark.parametrize(("entry", "rows"), [
    ({}, [{"instruction": "Name a tool.", "input": "", "output": {"name": "spade", "kg": 2}}]),
    ({"format": "sharegpt", "columns": {"messages": "messages"}},
     [{"messages": [{"role": "user", "content": "Name a tool."}, {"role": "assistant", "content": "A spade."}]}]),
    ({"ranking": True, "columns": {"instruction": "question", "output": "pos", "rejected": "neg"}},
     [{"question": "Which day?", "pos": {"answer": "Monday"}, "neg": {"answer": "Friday"}}])])
def test_mistakes_in_datasets_that_were_right_before_stay_right(entry: dict[str, Any], rows: list[Any]) -> None:
    """hiyouga/LlamaFactory#4249, #7577, #4720."""
    assert check_rows(rows, entry).fails


def test_a_plain_file_and_the_same_file_row_by_row_get_the_same_verdict(tmp_path: Path) -> None:
    """The fast way for plain pieces against the long one, with bad rows at the borders of batches and pieces."""
    for at in (None, 0, 999, 1000, 2500, 4999):
        rows: list[dict[str, Any]] = [sft(output=f"word {i}") for i in range(5000)]
        if at is not None:
            rows[at] = sft(output="")
        (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (tmp_path / "dataset_info.json").write_text(json.dumps({"d": {"file_name": "d.jsonl"}}))
        fast = check_dataset(tmp_path, "d", options=LoaderOptions(piece=40_000))
        slow = check_rows(rows, {})
        assert (fast.rows, fast.accepted, fast.problems) == (slow.rows, slow.accepted, slow.problems)
        assert [p.row for p in fast.problems] == ([at + 1] if at is not None else [])
