"""Raw ShareGPT files are seeds, AutoIF's queries and general data; what cannot be used is counted, not fatal."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.inputs.conversations import Conversation, first_question, read_conversation
from if_factory.inputs.general import read_general
from if_factory.inputs.seeds import read_seeds
from if_factory.methods.autoif.answers import queries
from if_factory.recipe import parse
from if_factory.records import Turn
from if_factory.specs import ReplaySpec


def chat(*texts: str, first: str = "human", **row: Any) -> dict[str, Any]:
    """A ShareGPT row whose turns alternate."""
    roles = ("human", "gpt") if first == "human" else ("gpt", "human")
    return {**row, "conversations": [{"from": roles[i % 2], "value": t} for i, t in enumerate(texts)]}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_a_chat_is_read_in_either_spelling_with_its_system_prompt() -> None:
    expected = Conversation("Be kind.", (Turn(role="user", content="a"), Turn(role="assistant", content="b")))
    share = {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "a "},
                               {"from": "gpt", "value": "b"}]}
    openai = {"system": "Be kind.", "messages": [{"role": "user", "content": "a"},
                                                {"role": "assistant", "content": "b"}]}
    assert read_conversation(share, "x") == read_conversation(openai, "x") == expected


@pytest.mark.parametrize(("row", "reason"), [
    ({"conversations": []}, "no_turns"), (chat("a", "b", first="gpt"), "begins_with_assistant"),
    (chat("a", " "), "empty_turn"), ({"conversations": [{"from": "tool", "value": "x"}]}, "unknown_role"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}, "roles_repeat")])
def test_why_a_chat_cannot_be_used(row: dict[str, Any], reason: str) -> None:
    assert read_conversation(row, "x") == reason


def test_a_first_question_stands_whatever_comes_after_it() -> None:
    row = {"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}, {"from": "tool"}]}
    found = first_question(row, "x")
    assert isinstance(found, Conversation)
    assert found.turns == (Turn(role="user", content="a"),)


@pytest.mark.parametrize("row", [{"conversations": "text"}, {"messages": ["text"]}])
def test_what_is_no_list_of_turns_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected"):
        first_question(row, "x:1")


@pytest.mark.parametrize("name", ["share.json", "share.jsonl"])
def test_a_raw_sharegpt_file_is_seeds_and_queries(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / name, chat("How do tides work on a round planet?", "The moon.", "Why?", id="q1_0"),
                 chat("Sure, I can.", "Thanks", first="gpt", id="q2_3"),
                 {"prompt": "A row with a prompt of its own stays one.", "messages": [{"role": "user"}]})
    with caplog.at_level(logging.WARNING):
        seeds = read_seeds(path, method="conifer")
    assert [s.prompt for s in seeds] == ["How do tides work on a round planet?",
                                         "A row with a prompt of its own stays one."]
    assert seeds[0].history == ()
    assert seeds[0].extra == {"seed_id": "q1_0"}
    assert "begins_with_assistant 1" in caplog.text
    assert [q.prompt for q in queries(str(path), (20, 300))] == [s.prompt for s in seeds]


def test_a_file_without_any_first_question_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chat of the file begins"):
        read_seeds(write(tmp_path / "x.jsonl", chat("a", "b", first="gpt")))


def test_general_rows_of_every_form_keep_their_turns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", chat("q1", "a1", "q2", "a2", "q3"),
                 {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
                 {"instruction": "i", "input": "n", "output": "o", "history": [["hq", "ha"]], "system": "s"})
    found = read_general(path, 9, seed=0)
    rows = {e.prompt: (e.response, [t.content for t in e.history], e.system) for e in found.examples}
    assert rows == {"q2": ("a2", ["q1", "a1"], ""), "q": ("a", [], ""), "i\nn": ("o", ["hq", "ha"], "s")}
    assert "3 of the 9 asked for" in found.note()


def test_general_rows_are_filtered_by_length_and_language_and_counted(tmp_path: Path) -> None:
    german = "Die Gezeiten entstehen, weil der Mond das Wasser der Meere anzieht, und das zweimal an jedem Tag."
    english = "The tides come about because the moon pulls the water of the seas, and this twice on every day."
    path = write(tmp_path / "x.jsonl", chat("Warum gibt es eigentlich Ebbe und Flut?", german),
                 chat("Why are there tides at all?", english), chat("Why?", english * 9), chat("q"),
                 chat("a", "b", first="gpt"))
    found = read_general(path, 5, seed=0, max_characters=500, languages=["en"])
    assert [e.response for e in found.examples] == [english]
    assert found.left_out == {"language": 1, "too_long": 1, "no_answer": 1, "begins_with_assistant": 1}


def test_the_same_seed_draws_the_same_general_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", *(chat(f"q{i}", f"a{i}") for i in range(30)))
    drawn = [[e.prompt for e in read_general(path, 5, seed=seed).examples] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 5


def test_a_broken_general_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="field 'output'"):
        read_general(write(tmp_path / "x.jsonl", {"instruction": "i", "output": ""}), 1, seed=0)


@pytest.mark.parametrize(("ratio", "own", "wanted"), [
    ("53k to 13k", 13, 53), ("53:13", 13_000, 53_000), ("1k:500", 10, 20), (4.1, 10, 41), ("2 to 1", 0, 0)])
def test_the_share_of_general_data_is_a_ratio(ratio: str | float, own: int, wanted: int) -> None:
    assert ReplaySpec(file="x.jsonl", ratio=ratio).wanted(own) == wanted


@pytest.mark.parametrize(("ratio", "problem"), [
    (3193, "write `53k to 13k`"), ("many", "two numbers above 0"), ("1 to 0", "two numbers above 0"), (-1, "above 0")])
def test_a_ratio_that_says_nothing_is_refused(ratio: str | int, problem: str) -> None:
    """3193 is what YAML makes of an unquoted 53:13."""
    with pytest.raises(UserError, match=problem):
        parse({"replay": {"file": "x.jsonl", "ratio": ratio}})


def test_rows_and_ratio_exclude_each_other() -> None:
    with pytest.raises(UserError, match="not both"):
        parse({"replay": {"file": "x.jsonl", "ratio": "1 to 1", "rows": 5}})
