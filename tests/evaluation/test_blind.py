"""A person's blind marks are compared with what code and gate decided."""

import json

import pytest

from if_factory.errors import UserError
from if_factory.evaluation.blind import markdown, score_blind, write_blind
from if_factory.evaluation.generate import Answer, Decided, write_results
from if_factory.evaluation.passrate import Item
from if_factory.files import write_jsonl
from if_factory.records import Constraint, Usefulness

ITEMS = [Item(str(i), f"prompt {i}", (Constraint(type="punctuation:no_comma"),)) for i in range(6)]
TEXTS = {"before": {str(i): f"a, b {i}" for i in range(6)}, "after": {str(i): f"a b {i}" for i in range(6)}}


@pytest.fixture
def folder(tmp_path):
    useful = {label: {k: Usefulness(answers=label == "before") for k in by_id} for label, by_id in TEXTS.items()}
    said = {label: {k: Answer(t, "stop") for k, t in by_id.items()} for label, by_id in TEXTS.items()}
    write_results(ITEMS, said, tmp_path, decided=Decided(useful))
    write_blind(ITEMS, TEXTS, tmp_path, 5)
    return tmp_path


def rows(folder):
    return [json.loads(line) for line in (folder / "blind.jsonl").read_text().splitlines()]


def test_the_rows_do_not_say_whose_they_are_and_the_key_does(folder):
    found = rows(folder)
    assert len(found) == 10
    assert set(found[0]) == {"n", "prompt", "response", "satisfied", "answers"}
    key = json.loads((folder / "blind.key.json").read_text())["key"]
    assert [(k["n"], TEXTS[k["label"]][k["id"]]) for k in key] == [(r["n"], r["response"]) for r in found]
    assert [k["label"] for k in key] != sorted(k["label"] for k in key)
    assert sorted(k["id"] for k in key if k["label"] == "before") == sorted(
        k["id"] for k in key if k["label"] == "after")


def test_marks_are_scored_beside_the_programs(folder):
    marked = [{**r, "satisfied": "," not in r["response"], "answers": True} for r in rows(folder)]
    marked[0]["answers"] = None
    write_jsonl(folder / "blind.jsonl", marked)
    scored = score_blind(folder / "blind.jsonl")
    assert scored["unmarked"] == 1
    assert scored["by_label"]["before"]["program"]["answers"]["value"] == 1.0
    assert scored["by_label"]["after"]["program"]["both"]["passed"] == 0
    assert scored["by_label"]["after"]["person"]["both"]["value"] == 1.0
    assert scored["agreement"]["answers"]["yes_no"] == scored["by_label"]["after"]["n"]
    assert scored["differ"]["satisfied"] == []
    assert "| after | person |" in markdown(scored)


def test_a_persons_marks_are_never_written_over(folder):
    marked = [{**r, "satisfied": True, "answers": True} for r in rows(folder)]
    write_jsonl(folder / "blind.jsonl", marked)
    write_blind(ITEMS, TEXTS, folder, 5)
    assert rows(folder) == marked
    with pytest.raises(UserError, match="marks of a person"):
        write_blind(ITEMS, TEXTS, folder, 3)


def test_what_is_not_marked_or_not_boolean_or_of_another_evaluation_is_an_error(folder):
    with pytest.raises(UserError, match="no row is marked"):
        score_blind(folder / "blind.jsonl")
    first = rows(folder)[0]
    write_jsonl(folder / "blind.jsonl", [{**first, "satisfied": "yes", "answers": True}])
    with pytest.raises(UserError, match="expected true or false"):
        score_blind(folder / "blind.jsonl")
    write_jsonl(folder / "blind.jsonl", [{**first, "response": "other", "satisfied": True, "answers": True}])
    with pytest.raises(UserError, match="not in responses"):
        score_blind(folder / "blind.jsonl")
