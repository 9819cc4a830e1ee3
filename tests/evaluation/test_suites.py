import json

import pytest

from if_factory.api.evaluation import suite_like
from if_factory.chat.budget import Usage
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.held_out import HELD_OUT_TYPES
from if_factory.errors import UserError
from if_factory.evaluation.passrate import markdown, measure
from if_factory.evaluation.suites import (
    held_out_suite,
    load_suite,
    named_types,
    never_trained,
    suite,
    types_trained,
)
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.rundir import RunDir
from if_factory.records import Constraint, Record


def write_run(folder):
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        "method: complex_to_simple\nseed: 7\nmodels: {student: {endpoint: embedded}}\n")
    record = Record.from_seed("p").child("p. No commas.", [Constraint(type="punctuation:no_comma")], 1)
    RunDir(folder).write(RunResult([record], [], Ledger(["compose"]), True), Usage(), {})
    return folder


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


def test_every_third_prompt_has_types_that_were_never_trained_only():
    trained = {"punctuation:no_comma", "end:question", "markdown:bold"}
    unseen = never_trained(trained)
    assert set(unseen) == set(HELD_OUT_TYPES) - {"markdown:bold"}
    items = held_out_suite(30, types=sorted(trained), unseen=unseen)
    kinds = [{c.type for c in item.constraints} for item in items]
    assert all(k <= set(unseen) for k in kinds[2::3])
    assert all(k <= trained for i, k in enumerate(kinds, 1) if i % 3)
    assert all(item.prompt.startswith(item.request[:10]) or item.request in item.prompt for item in items)
    assert items[:10] == held_out_suite(10, types=sorted(trained), unseen=unseen)


def test_where_all_held_out_types_were_trained_other_types_are_the_test():
    unseen = never_trained(HELD_OUT_TYPES)
    assert unseen
    assert not set(unseen) & set(HELD_OUT_TYPES)


def test_what_a_run_trained_is_what_its_records_have_and_names_are_types_or_families(tmp_path):
    run = write_run(tmp_path / "run")
    assert types_trained(run) == {"punctuation:no_comma"}
    items, trained = suite_like("held_out", 9, run_folder=run)
    assert trained == {"punctuation:no_comma"}
    kinds = [{c.type for c in item.constraints} for item in items]
    assert all(k == {"punctuation:no_comma"} for i, k in enumerate(kinds, 1) if i % 3)
    assert all(k <= set(HELD_OUT_TYPES) for k in kinds[2::3])
    assert named_types(["keywords"]) == {k for k in named_types([]) if k.startswith("keywords:")}
    assert not named_types([]) & set(HELD_OUT_TYPES)


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
    ('{"prompt": "p", "constraints": [{"type": "punctuation:no_coma"}]}', r"s\.jsonl: no row can be checked: unknown"),
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


def test_constraints_of_unknown_types_are_counted_apart_and_the_rest_is_evaluated(tmp_path, caplog):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (
        {"prompt": "p", "instruction_id_list": ["punctuation:no_comma", "new:kind"], "kwargs": [{}, {"n": 1}]},
        {"prompt": "q", "instruction_id_list": ["new:kind"], "kwargs": [{}]},
        {"prompt": "r", "constraints": [{"type": "punctuation:no_comma"}]})))
    first, last = items = load_suite(path)
    assert [c.type for c in first.constraints] == ["punctuation:no_comma"]
    assert (first.not_checkable, last.prompt, last.not_checkable) == (("new:kind",), "r", ())
    assert "2 constraints of unknown types are not checkable (new:kind 2); rows left out for them: 1" in caplog.text
    results = measure(items, {"before": {i.id: "fine" for i in items}})
    assert (results.constraints, results.not_checkable) == (2, {"new:kind": 1})
    assert "Not checkable (unknown types, in no rate): new:kind 1." in markdown(results)


@pytest.mark.parametrize("options", [{"n": 0}, {"low": 0}, {"low": 3, "high": 2}, {"types": ["no_such"]}])
def test_impossible_suites_are_refused(options):
    with pytest.raises(UserError):
        held_out_suite(**options)
