import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from if_factory.constraints.generated import configure, settings
from if_factory.constraints.verify import verify
from if_factory.emission import emit_kto, emit_preference, emit_sft
from if_factory.errors import UserError
from if_factory.evaluation import audit as auditing
from if_factory.evaluation.audit import audit
from if_factory.evaluation.audit_report import print_report, to_json
from if_factory.exporting.formats import write_dataset
from if_factory.records import Candidate, Constraint, Record
from if_factory.sandbox import Limits
from if_factory.usefulness.settings import UsefulnessSpec
from tests.pipeline.test_spread import pickling

NO_COMMA = {"type": "punctuation:no_comma", "kwargs": {}}
CAT = {"type": "keywords:existence", "kwargs": {"keywords": ["cat"]}}
NO_CAT = {"type": "keywords:forbidden_words", "kwargs": {"forbidden_words": ["cat"]}}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_counts_rows_constraints_and_types(tmp_path):
    report = audit(write(tmp_path / "d.jsonl",
                         {"prompt": "p", "constraints": [NO_COMMA, CAT], "response": "a cat"},
                         {"prompt": "q", "constraints": [NO_COMMA, CAT], "response": "a, cat"}))
    assert (report.good_passing, report.good) == (1, 2)
    assert (report.constraints_passed, report.constraints) == (3, 4)
    assert report.by_type["punctuation:no_comma"].passed == 1
    assert [(f.row, f.type) for f in report.failures] == [(2, "punctuation:no_comma")]


def test_ifeval_rows_with_null_kwargs_are_read(tmp_path):
    row = {"prompt": "p", "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
           "kwargs": [{}, {"keywords": ["cat"], "num_words": None}], "response": "a cat"}
    assert audit(write(tmp_path / "d.jsonl", row)).good_passing == 1


@pytest.mark.parametrize("answer", [
    {"response": "a cat"}, {"response": "a cat", "label": "false"},
    {"output": "a cat"}, {"answer": "a cat"}, {"completion": "a cat"},
    {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a cat"}]},
    {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "a cat"}]},
    {"conversations": [{"from": "human", "value": "p"}], "chosen": {"from": "gpt", "value": "a cat"},
     "rejected": {"from": "gpt", "value": "x,"}},
    {"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a cat"}], "rejected": ","},
])
def test_every_usual_place_of_an_answer_is_found(tmp_path, answer):
    report = audit(write(tmp_path / "d.jsonl", {"constraints": [CAT, NO_COMMA], **answer}))
    assert report.good_passing == report.good == 1


def test_rejected_sides_must_fail_something(tmp_path):
    pair = {"constraints": [CAT], "chosen": "a cat"}
    report = audit(write(tmp_path / "d.jsonl", {**pair, "rejected": "a dog"}, {**pair, "rejected": "cat!"},
                         {"constraints": [CAT], "output": "cats and a cat", "label": False}))
    assert (report.bad_justified, report.bad) == (1, 3)
    assert report.fails_nothing == [2, 3]
    assert report.good_passing == report.good == 2


JUDGED = {"type": "soft_style:tone", "kind": "judge"}


def test_a_checker_that_cannot_decide_neither_passes_nor_justifies_a_rejection(tmp_path):
    undecidable = {"type": "change_case:english_lowercase"}  # too short to tell the language
    text = "dogs are loyal pets."
    report = audit(write(tmp_path / "d.jsonl", {"constraints": [undecidable], "chosen": text, "rejected": text}))
    assert (report.good_passing, report.bad_justified, report.no_verdict) == (0, 0, 1)


def test_what_only_a_judge_decides_is_counted_and_the_rest_is_checked(tmp_path):
    pair = {"constraints": [JUDGED, NO_COMMA], "chosen": "fine"}
    report = audit(write(tmp_path / "d.jsonl", {**pair, "rejected": "a, b"}, {**pair, "rejected": "good by code"},
                         {**pair, "chosen": "not, fine", "rejected": "a, b"}))
    assert (report.good_passing, report.good, report.judged) == (2, 3, 3)
    assert (report.constraints_passed, report.constraints) == (2, 3)
    assert (report.bad_justified, report.bad, report.bad_unchecked) == (2, 2, 1)
    assert report.fails_nothing == []
    assert "soft_style:tone" not in report.by_type


def test_rows_that_only_a_judge_decides_are_skipped_and_said_to_be(tmp_path):
    report = audit(write(tmp_path / "d.jsonl", {"constraints": [JUDGED], "response": "x"},
                         {"constraints": [NO_COMMA], "response": "x"}))
    assert report.skipped == {"only_a_judge_decides": 1}
    assert report.score == 1


@pytest.mark.parametrize("row", [
    {"constraints": [{"type": "made:up"}, NO_COMMA]},
    {"instruction_id_list": ["made:up", "punctuation:no_comma"], "kwargs": [{"x": 1}, {}]},
])
def test_an_unknown_type_is_counted_apart_and_the_rest_is_checked(tmp_path, row):
    report = audit(write(tmp_path / "d.jsonl", {**row, "response": "fine"}))
    assert report.not_checkable == {"made:up": 1}
    assert (report.good, report.good_passing, report.failures, report.doubtful) == (1, 1, [], [])
    assert set(report.by_type) == {"punctuation:no_comma"}


def test_a_row_with_nothing_but_unknown_types_is_not_checkable(tmp_path):
    rows = [{"constraints": ["be brief", "be kind"], "response": "x"},
            {"constraints": [NO_COMMA], "response": "x"}]
    report = audit(write(tmp_path / "d.jsonl", *rows))
    assert report.skipped == {"not_checkable": 1}
    assert report.not_checkable == {"be brief": 1, "be kind": 1}


def test_contradictions_are_found_whatever_the_answer(tmp_path):
    report = audit(write(tmp_path / "d.jsonl", {"constraints": [CAT, NO_CAT], "response": "a dog"},
                         {"constraints": [CAT], "response": "a cat"}))
    assert [row for row, _ in report.contradictions] == [1]


def test_constraints_of_another_file_are_joined_by_prompt(tmp_path):
    write(tmp_path / "c.jsonl", {"prompt": "one  x", "constraints": [CAT]}, {"prompt": "three"},
          {"prompt": "two", "constraints": [CAT]}, {"prompt": "two", "constraints": [NO_COMMA]})
    data = write(tmp_path / "d.jsonl", *({"instruction": p, "input": i, "output": "a cat"} for p, i in
                                         (("one", "x"), ("two", ""), ("three", ""), ("four", ""))))
    report = audit(data, constraints=tmp_path / "c.jsonl")
    assert report.good == 1
    assert report.skipped == {"ambiguous_prompt": 1, "no_constraints": 1, "prompt_not_in_constraints_file": 1}
    assert report.good + report.skipped.total() == report.rows


@pytest.mark.parametrize("fmt", ["alpaca", "sharegpt"])
def test_our_own_exports_are_read_with_their_sidecar_and_hold(tmp_path, fmt):
    constraints = [Constraint.model_validate(c) for c in (CAT, NO_COMMA)]

    def candidate(text):
        return Candidate(text=text, source="vanilla", verdicts=verify(text, constraints))

    record = Record.from_seed("Describe a pet").child("Describe a pet. Use cat.", constraints, 2)
    good, bad = candidate("A cat."), candidate("A dog, loud.")
    for name, examples in (("sft", [emit_sft(record, good)]), ("dpo", [emit_preference(record, good, bad)]),
                           ("kto", [emit_kto(record, good), emit_kto(record, bad)])):
        written = write_dataset(name, examples, tmp_path, fmt)
        report = audit(written.path)
        assert report.score == 1
        assert report.rows == len(examples)
        assert (report.bad, report.bad_justified) == ((0, 0) if name == "sft" else (1, 1))


def test_a_tampered_export_is_caught(tmp_path):
    write(tmp_path / "x.jsonl", {"instruction": "p", "output": "a, b"})
    write(tmp_path / "x.provenance.jsonl", {"row": 1, "constraints": [NO_COMMA]})
    assert audit(tmp_path / "x.jsonl").score == 0


@pytest.mark.parametrize(("rows", "sidecar", "message"), [
    ([], None, "file is empty"),
    ([{"prompt": "p", "response": "x"}], None, "no_constraints 1"),
    ([{"constraints": [NO_COMMA]}], None, "no_response 1"),
    ([{"constraints": [{"kwargs": {}}], "response": "x"}], None, r"d\.jsonl:1: field 'constraints\[0\]': type"),
    ([{"output": "x"}], [], "0 rows, but d.jsonl has 1"),
])
def test_what_cannot_be_audited_is_explained(tmp_path, rows, sidecar, message):
    write(tmp_path / "d.jsonl", *rows)
    if sidecar is not None:
        write(tmp_path / "d.provenance.jsonl", *sidecar)
    with pytest.raises(UserError, match=message):
        audit(tmp_path / "d.jsonl")


def test_exit_status_follows_the_worse_side(tmp_path):
    report = audit(write(tmp_path / "d.jsonl", {"constraints": [CAT], "chosen": "cat", "rejected": "dog"},
                         {"constraints": [CAT], "chosen": "cat", "rejected": "a cat"}))
    assert report.score == 0.5
    assert [report.exit_status(x) for x in (None, 0.5, 0.51)] == [0, 0, 1]


def test_text_and_json_say_the_same(tmp_path):
    report = audit(write(tmp_path / "d.jsonl", {"constraints": [CAT, NO_COMMA], "response": "[red]cat,[/red]"}))
    out = io.StringIO()
    print_report(report, Console(file=out, width=100))
    assert "0 of 1" in out.getvalue()
    assert "1 of 2" in out.getvalue()
    assert json.loads(to_json(report))["constraints_passed"] == 1


@pytest.mark.parametrize(("name", "joined", "rows", "constraints"), [
    ("ift_train.jsonl", "data.jsonl", (514, 1467), (3806, 5574)),
    ("checked_res_llama2.jsonl", None, (81, 1500), (2361, 5712)),
])
def test_reference_tables_are_reproduced(shared, name, joined, rows, constraints):
    folder = shared / "data" / "complex"
    report = audit(folder / name, constraints=folder / joined if joined else None, ifeval_compat=True)
    assert (report.good_passing, report.good) == rows
    assert (report.constraints_passed, report.constraints) == constraints
    assert report.no_verdict == 0
    assert not report.skipped


def test_an_audit_of_many_blocks_is_that_of_one(tmp_path, monkeypatch):
    rows = [{"prompt": f"Describe place {i}.", "constraints": [NO_COMMA, *([CAT] if i % 3 else [{"type": "no:such"}])],
             "response": ["A cat sleeps there.", "Cats, dogs.", "I cannot help with that."][i % 3],
             **({"rejected": "No commas here."} if i % 4 == 0 else {})} for i in range(40)]
    rows[5] = {"prompt": "p", "response": "r"}
    rows[7]["constraints"] = [CAT, NO_CAT]
    path = write(tmp_path / "d.jsonl", *rows)
    spec = UsefulnessSpec(relevance="off")
    whole = audit(path, useful=spec)
    assert whole.attempts is not None
    assert whole.attempts.useless
    assert whole.contradictions
    assert whole.not_checkable
    monkeypatch.setattr(auditing, "_TOGETHER", 3)
    monkeypatch.setattr(auditing, "spread", pickling)
    assert audit(path, useful=spec, workers=2) == whole


def test_a_time_out_decides_nothing_about_rows_of_another_block(tmp_path, monkeypatch):
    source = "def evaluate(response):\n    while 'slow' in response:\n        pass\n    return True\n"
    given = {"type": "autoif", "kind": "generated_code", "kwargs": {"functions": [source]}}
    path = write(tmp_path / "d.jsonl", *({"prompt": text, "constraints": [given], "response": text}
                                         for text in ("slow", "fast")))
    before = settings()
    configure(limits=Limits(cpu_seconds=0.5, wall_seconds=0.5))
    try:
        assert audit(path).no_verdict == 2, "not run again in the same block"
        monkeypatch.setattr(auditing, "_TOGETHER", 1)
        assert (audit(path).no_verdict, audit(path).good_passing) == (1, 1)
    finally:
        configure(workers=before[0], limits=before[1], allow_weak=before[2])


def test_a_plugins_types_are_checked_where_it_is_named(tmp_path):
    """A process of its own: a type that is registered stays."""
    (tmp_path / "mine.py").write_text(
        "from if_factory.constraints.base import ConstraintType, register\n\n\n@register\n"
        "class NoMoon(ConstraintType):\n    type = 'audit:no_moon'\n    descriptions = ('Do not name the moon',)\n\n"
        "    def check(self, response, kwargs):\n        return 'moon' not in response\n\n"
        "    def sample(self, rng, seed_prompt):\n        return {}\n")
    path = write(tmp_path / "d.jsonl", *({"prompt": "p", "constraints": [{"type": "audit:no_moon"}], "response": text}
                                         for text in ("A moon.", "A sun.")))

    def said(*more: str) -> str:
        command = [sys.executable, "-m", "if_factory", "audit", str(path), "--json", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout or done.stderr

    assert "not_checkable" in said()
    assert json.loads(said("--plugin", str(tmp_path / "mine.py")))["by_type"]["audit:no_moon"]["passed"] == 1
