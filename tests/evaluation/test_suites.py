import json

import pytest

from if_factory.constraints.conflicts import conflict
from if_factory.errors import UserError
from if_factory.evaluation.suites import held_out_suite, load_suite, suite
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin


def test_held_out_is_the_same_suite_for_the_same_seed_only():
    assert held_out_suite(40, seed=3) == held_out_suite(40, seed=3)
    assert held_out_suite(40, seed=3) != held_out_suite(40, seed=4)


def test_a_smaller_suite_is_the_start_of_a_larger_one():
    assert held_out_suite(100, seed=1)[:30] == held_out_suite(30, seed=1)


def test_held_out_is_large_enough_varied_and_satisfiable():
    items = held_out_suite(low=1, high=5)
    assert len(items) >= 100
    assert len({c.type for item in items for c in item.constraints}) >= 25
    assert {len(item.constraints) for item in items} >= {1, 2, 3}
    assert not [item.id for item in items if conflict(item.constraints)]
    assert all(c.text.rstrip(".")[1:] in item.prompt for item in items[:40] for c in item.constraints
               if "\n" not in c.text)


def test_types_restrict_what_is_drawn():
    items = held_out_suite(30, types=["keywords", "punctuation:no_comma"])
    assert {c.type.split(":")[0] for item in items for c in item.constraints} <= {"keywords", "punctuation"}


def test_held_out_prompts_are_not_among_the_seeds():
    seeds = {row["prompt"].strip().lower() for _, row in read_rows(builtin("seeds"))}
    assert not [row["id"] for _, row in read_rows(builtin("held_out")) if row["prompt"].strip().lower() in seeds]


def test_a_file_of_ones_own_is_read_in_both_formats(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"key": 7, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"],
                                "kwargs": [{}]}) + "\n"
                    + json.dumps({"prompt": "q", "system": "be brief", "constraints": [
                        {"type": "keywords:existence", "kwargs": {"keywords": ["x"]}}],
                        "history": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    first, second = suite(str(path))
    assert (first.id, first.constraints[0].type) == ("7", "punctuation:no_comma")
    assert second.messages()[0] == {"role": "system", "content": "be brief"}
    assert [m["content"] for m in second.messages()] == ["be brief", "a", "b", "q"]
    assert len(suite(str(path), 1)) == 1


def _with_history(history):
    return json.dumps({"prompt": "p", "history": history, "constraints": [{"type": "punctuation:no_comma"}]})


@pytest.mark.parametrize(("text", "message"), [
    ("", "no rows"),
    ('{"prompt": "p"}', r"s\.jsonl:1: no constraints"),
    ('{"constraints": [{"type": "punctuation:no_comma"}]}', r"s\.jsonl:1: no prompt"),
    ('{"prompt": "p", "constraints": [{"type": "punctuation:no_coma"}]}', r"s\.jsonl:1: unknown constraint type"),
    ('{"prompt": "p", "instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]}', "did you mean"),
    (_with_history("hi"), r"s\.jsonl:1: field 'history': expected a list"),
    (_with_history({"role": "user", "content": "hi"}), r"s\.jsonl:1: field 'history': expected a list"),
    (_with_history(["hi"]), r"field 'history\[0\]': expected an object"),
    (_with_history([["user", "hi"]]), r"field 'history\[0\]': expected an object"),
    (_with_history([{"role": "user", "content": "hi"}, {"role": "gpt", "content": "x"}]),
     r"field 'history\[1\]': role: .*'assistant'"),
    (_with_history([{"role": "user"}]), r"field 'history\[0\]': content: "),
    (_with_history([{"role": "system", "content": "x"}]), r"field 'history\[0\]': role: a system turn"),
    ('{"prompt": "p", "constraints": [{"type": "a:b", "kwargs": 3}]}', r"field 'constraints\[0\]'"),
])
def test_a_broken_suite_names_the_row(tmp_path, text, message):
    path = tmp_path / "s.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_suite(path)


@pytest.mark.parametrize("options", [{"n": 0}, {"low": 0}, {"low": 3, "high": 2}, {"types": ["no_such"]}])
def test_impossible_suites_are_refused(options):
    with pytest.raises(UserError):
        held_out_suite(**options)
