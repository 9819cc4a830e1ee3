"""AutoIF: upstream's own samples reproduced, the crafted functions survived, and the method played by a scripted
teacher (named as such)."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

import pytest

from if_factory.api import emit
from if_factory.chat.base import Completion
from if_factory.chat.budget import Usage
from if_factory.chat.parse import Failure
from if_factory.constraints import generated
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.judge.judge import judge_score
from if_factory.methods.autoif import METHOD, PRESETS, Options, stages
from if_factory.methods.autoif.cross_validation import (
    Case,
    Rules,
    Validated,
    WrittenFunction,
    cross_validate,
    holds,
    pairs,
    parse_apart,
)
from if_factory.methods.autoif.votes import put_to_vote
from if_factory.methods.base import Emission
from if_factory.pipeline.runner import run
from if_factory.recipe import commented, parse
from if_factory.records import Candidate, Constraint, Outcome, Record, Verdict
from if_factory.sandbox import Limits
from tests.support.models import scripted_client
from tests.support.scripted_teacher import instruction, teach

WRITTEN = ("write_functions", "cross_validate")
PAPER, CODE = Options(**PRESETS["paper"]), Options(**PRESETS["released"])
GOOD = "def evaluate(response):\n    return 'river' in response.lower()"
CASES = [["By the river.", True], ["By the sea.", False], ["RIVER", True]]


@pytest.fixture(scope="module", autouse=True)
def short_limits():
    """Functions that hang are part of the tests."""
    generated.configure(limits=Limits(cpu_seconds=0.5, wall_seconds=1.5, total_seconds=4))
    yield
    generated.configure()


def play(records, options, *, only=None, seed=0, **roles):
    """Run the method's stages (or those named) with one scripted answer function per role."""
    usage = Usage()
    models = {role: scripted_client(role, answer, usage=usage)
              for role, answer in roles.items()}
    chosen = [s for s in stages(options) if only is None or s.name in only]
    return asyncio.run(run(chosen, records, models, seed=seed)), usage


def scripted(request):
    return teach(request.messages[-1]["content"], request.sample)


def recipe(preset="default", **options):
    return parse({"method": "autoif", "preset": preset, "models": {"teacher": {}}, "options": options})


def rows_of(shared, name):
    return [json.loads(line) for line in (shared / "data" / "autoif" / name).read_text().splitlines()]


def answer_of(source, cases=CASES):
    return f"```json\n{json.dumps({'func': source, 'cases': [{'input': i, 'output': o} for i, o in cases]})}\n```"


# ---------------------------------------------------------------- upstream's samples


def cross_validated(shared, options):
    """The stages that write and validate functions, with the recorded answers as the teacher's."""
    rows = rows_of(shared, "eval_func_rft.jsonl")
    recorded = {r["instruction"]: r["gpt-answer"] for r in rows}

    def teacher(request):
        asked = next(i for i in recorded if i in request.messages[-1]["content"])
        return recorded[asked][request.sample]

    seeds = [Record.from_seed(r["instruction"], extra={"origin": "seed", "verifiable": True, "round": 1}) for r in rows]
    result, _ = play(seeds, options, only=WRITTEN, teacher=teacher)
    return result


def totals(result):
    return (len(result.records), sum(len(r.constraints[0].kwargs["functions"]) for r in result.records),
            sum(len(r.extra["cases"]) for r in result.records))


def test_preset_code_keeps_upstreams_functions_and_cases_to_the_letter(shared):
    result = cross_validated(shared, CODE)
    assert totals(result) == (4, 17, 52)
    canonical = []
    for r in result.records:
        own = r.constraints[0].kwargs
        functions = [[hashlib.sha1(source.encode()).hexdigest()[:10], round(share, 6)]
                     for source, share in zip(own["functions"], own["accuracy"], strict=True)]
        canonical.append([r.prompt, sorted(functions), sorted(json.dumps(case) for case in r.extra["cases"])])
    canonical.sort()
    file = shared / "data" / "autoif" / "expected" / "cross_validation_canonical.json"
    assert canonical == json.loads(file.read_text())
    assert hashlib.sha1(json.dumps(canonical).encode()).hexdigest() == "3d6ca7f2429329ccea313230351bab0e4e649721"
    assert [r.reason for r in result.dropped] == ["no_function_agreed"]


@pytest.mark.parametrize(("options", "expected"), [
    (PAPER.model_copy(update={"booleans": "raw"}), (5, 36, 48)), (PAPER, (5, 36, 56)),
    (CODE.model_copy(update={"booleans": "normalised"}), (4, 17, 61))])
def test_the_other_rules_keep_what_was_measured_for_them(shared, options, expected):
    assert totals(cross_validated(shared, options)) == expected


def test_lenient_parsing_reads_every_recorded_answer(shared):
    records = cross_validated(shared, Options(both_labels=False, test_cases="together")).records
    assert len(records) == 5
    assert not any(r.extra["unread_answers"] for r in records)
    strict = cross_validated(shared, PAPER).records
    assert sum((Counter(r.extra["unread_answers"]) for r in strict), Counter()) == {"wrong_json": 3}


def test_all_22_recorded_function_scores_are_reproduced(shared):
    same = 0
    for row in rows_of(shared, "back_trans.jsonl"):
        cases = [Case(*case) for case in row["cases"]]
        written = [WrittenFunction(source, tuple(cases)) for source, _ in row["eval_func"]]
        pool, texts = generated.shared_pool(), [case.input for case in cases]
        values = {w.source: pool.run(w.source, texts).values for w in written}
        found = cross_validate(written, values, Rules(">= 0", ">= 0", normalise=False))
        assert isinstance(found, Validated)
        same += sum(dict(found.functions)[source] == share for source, share in row["eval_func"])
    assert same == 22


@pytest.mark.parametrize(("said", "source"), [
    (f"Here it is:\n```python\n{GOOD}\n\nprint(evaluate('x'))\nassert evaluate('no')\n```\nIt counts.", GOOD),
    (f"```python\nimport re\nWORDS = ['a']\n\n{GOOD}\n\nif __name__ == '__main__':\n    evaluate('')\n```",
     f"import re\nWORDS = ['a']\n{GOOD}"),
    (f"```py\nimport functools\n@functools.cache\n{GOOD}\n```", f"import functools\n@functools.cache\n{GOOD}"),
    ("```python\ndef evaluate(response):\n    return (\n```", "def evaluate(response):\n    return (")])
def test_of_a_function_in_a_block_of_its_own_definitions_stay_and_what_tries_them_out_goes(said, source):
    cases = json.dumps({"cases": [{"input": "a b", "why": "two words", "output": True},
                                  {"input": "...", "output": False}]})
    assert parse_apart(said, cases) == WrittenFunction(source, (Case("a b", True),), 1)
    assert parse_apart(said, "none come to mind") == WrittenFunction(source, (), 0)


@pytest.mark.parametrize("said", ["I would rather not.", "```python\nprint('hello')\n```",
                                  "```python\ndef evaluate(response):\n    pass\n```"])
def test_a_reply_without_a_function_that_decides_is_unreadable(said):
    assert parse_apart(said, "{}") == Failure("no_evaluate")


def test_strict_reading_needs_function_and_cases_in_one_object():
    with pytest.raises(ValueError, match="test_cases: together"):
        Options(parsing="strict")


@pytest.mark.parametrize(("options", "kept"), [(CODE, 16), (PAPER, 19)])
def test_the_quality_score_keeps_what_upstream_and_the_paper_keep(shared, options, kept):
    async def said(row, messages, **options):
        return Completion(row["gen"][0])

    rows = rows_of(shared, "query_rft_score.jsonl")
    judged = [asyncio.run(judge_score(partial(said, row), row["query"], row["response"], low=0, high=10))
              for row in rows]
    chosen = [row for row, j in zip(rows, judged, strict=True) if holds(options.quality_score, j.mean)]
    assert len(chosen) == kept
    if options is CODE:
        assert chosen == rows_of(shared, "query_score_filter.jsonl")


def test_168_answers_without_a_verdict_make_not_one_negative(shared):
    outcomes, emission = Counter(), Emission()
    for row in rows_of(shared, "dpo_query_w_funcs.jsonl"):
        functions = {"functions": [source for source, _ in row["eval_func"]], "more_than": 0.0}
        constraint = Constraint(type="generated:function", kind="generated_code", kwargs=functions)
        voted = asyncio.run(put_to_vote([constraint], [Candidate(text=t, source="x") for t in row["gpt-answer"]]))
        outcomes.update(v.candidate.verdicts[0].outcome for v in voted)
        record = Record.from_seed(row["prompt"]).child(row["prompt"], [constraint], 1)
        record = record.with_candidates(*(v.candidate for v in voted)).model_copy(
            update={"extra": {"votes": [v.votes for v in voted]}})
        METHOD.emit(record, CODE, emission, 0)
    assert outcomes == {Outcome.NO_VERDICT: 168}
    assert not emission.datasets


@pytest.mark.parametrize(("per_side", "expected"), [(None, 18), (2, 6)])
def test_pairs_from_the_recorded_accuracies(shared, per_side, expected):
    made = []
    for row in rows_of(shared, "dpo_query_eval_score_results.jsonl"):
        accuracy = dict(row["response"])
        good = [t for t, a in accuracy.items() if holds(CODE.dpo_positive, a)]
        made.append(pairs(good, [t for t, a in accuracy.items() if a == 0], Random(0), per_side))
    assert len([m for m in made if m]) == 3
    assert sum(map(len, made)) == expected


# ---------------------------------------------------------------- crafted functions


CRAFTED = {
    "loops": "def evaluate(response):\n    while True:\n        pass\n    return True",
    "swallows its timeout": "import time\ndef evaluate(response):\n    while True:\n        try:\n"
                            "            time.sleep(1)\n        except Exception:\n            pass\n    "
                            "return True",
    "loops at the top": "while True:\n    pass\ndef evaluate(response):\n    return True",
    "exits": "def evaluate(response):\n    exit()\n    return True",
    "exits hard": "import os\ndef evaluate(response):\n    os._exit(0)\n    return True",
    "overwrites names": "results = []\nfilter_results = []\ndef evaluate(response):\n    return 3",
    "writes a file": "def evaluate(response):\n    open('/tmp/autoif_escaped', 'w').write('x')\n    return True",
}
MALFORMED = {
    "no func": json.dumps({"cases": []}), "list func": json.dumps({"func": ["def evaluate"], "cases": []}),
    "case is no object": json.dumps({"func": GOOD, "cases": ["x", 3, None]}), "prose": "I cannot help with that.",
    "broken": '{"func": ', "empty": "",
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_function_ends_and_its_row_is_lost_alone_with_a_reason(what, tmp_path):
    texts = ["good one", "crafted one", "good two"]

    def teacher(request):
        crafted = "crafted" in request.messages[-1]["content"]
        return answer_of(CRAFTED[what] if crafted else GOOD)

    seeds = [Record.from_seed(t, extra={"origin": "seed", "verifiable": True, "round": 1}) for t in texts]
    result, _ = play(seeds, Options(answers=1, test_cases="together"), only=WRITTEN, teacher=teacher)
    assert [r.prompt for r in result.records] == ["good one", "good two"]
    (reject,) = result.dropped
    assert reject.reason in ("too_few_functions", "no_function_agreed", "no_case_agreed")
    assert reject.detail


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_function_beside_good_ones_costs_nothing_but_itself(what):
    def teacher(request):
        return answer_of(GOOD + f"\n# {request.sample}" if request.sample else CRAFTED[what])

    seeds = [Record.from_seed("one", extra={"origin": "seed", "verifiable": True, "round": 1})]
    result, _ = play(seeds, Options(answers=4, test_cases="together"), only=WRITTEN, teacher=teacher)
    (record,) = result.records
    assert CRAFTED[what] not in record.constraints[0].kwargs["functions"]
    assert len(record.constraints[0].kwargs["functions"]) == 3


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("parsing", ["lenient", "strict"])
def test_a_malformed_answer_is_counted_and_the_others_go_on(what, parsing):
    text = f"```json\n{MALFORMED[what]}\n```" if MALFORMED[what].startswith("{") else MALFORMED[what]

    def teacher(request):
        return answer_of(GOOD + f"\n# {request.sample}") if request.sample else text

    seeds = [Record.from_seed("one", extra={"origin": "seed", "verifiable": True, "round": 1})]
    result, _ = play(seeds, Options(answers=3, parsing=parsing, test_cases="together"), only=WRITTEN,
                     teacher=teacher)
    (record,) = result.records
    assert sum(record.extra["unread_answers"].values()) + record.extra["unread_cases"] in (1, 3)


def test_a_function_whose_answers_change_from_run_to_run_is_dropped():
    flaky = "import random\ndef evaluate(response):\n    return random.random() < 0.5"

    def teacher(request):
        return answer_of(GOOD if request.sample else flaky)

    seeds = [Record.from_seed("one", extra={"origin": "seed", "verifiable": True, "round": 1})]
    cases_only = play(seeds, Options(answers=2, test_cases="together"), only=WRITTEN, teacher=teacher)[0]
    assert cases_only.records[0].constraints[0].kwargs["functions"] == [GOOD]


def test_helpers_and_imports_at_the_top_still_work_when_answers_are_checked():
    source = "import re\ndef helper(t):\n    return re.search('river', t)\ndef evaluate(response):\n    " \
             "return bool(helper(response))"
    constraint = Constraint(type="generated:function", kind="generated_code", kwargs={"functions": [source]})
    assert verify("a river", [constraint])[0].passed
    assert verify("a lake", [constraint])[0].failed


# ---------------------------------------------------------------- the whole method, by a scripted teacher

SMALL = {"augment_calls": 2, "augment_count": 5, "queries_per_instruction": 3, "answers": 4, "teacher_samples": 4,
         "augment_rounds": 1, "dpo_instruction_apart": True}


POOL = {"round": 1, "pool": ["Use no digit."], "counterexamples": []}


def seeds_file(folder, n=6):
    path = folder / "instructions.jsonl"
    rows = [{"instruction": instruction(i)} for i in range(n)]
    rows.append({"instruction": "Make the reader feel at home.", "verifiable": False})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Recipe, finished run and usage of a small run."""
    options = Options(**SMALL)
    seeds = METHOD.inputs(seeds_file(tmp_path_factory.mktemp("seeds")), options, None)
    result, usage = play(seeds, options, teacher=scripted)
    return recipe(**SMALL), seeds, result, usage


def test_from_instructions_to_rows_with_every_record_accounted_for(made):
    made_recipe, _, result, _ = made
    result.ledger.check()
    assert result.ledger["augment"].produced == 7 + 2 * 5
    assert result.ledger["screen"].dropped == {"marked_as_not_verifiable": 1}
    emission = emit(made_recipe, result.records)
    assert all(emission[name] for name in ("sft", "dpo", "dpo_instruction", "kto"))


def test_everything_emitted_is_verified_again_and_says_which_functions_passed(made):
    made_recipe, _, result, _ = made
    emission = emit(made_recipe, result.records)
    for e in emission["sft"]:
        assert verify(e.response, e.constraints)[0].passed
        (votes,) = e.provenance["functions_passed"]
        assert list(votes) == [generated.name(f) for f in e.constraints[0].kwargs["functions"]]
        assert all(votes.values())
        assert e.provenance["score"] >= 8
    for e in emission["dpo"][::5] + emission["dpo_instruction"][::5]:
        assert verify(e.chosen, e.constraints)[0].passed
        assert verify(e.rejected, e.constraints)[0].failed
        assert not any(e.provenance["functions_passed_rejected"][0].values())


def test_what_was_asked_is_what_is_emitted_in_sft_and_dpo(made):
    made_recipe, _, result, _ = made
    emission = emit(made_recipe, result.records)
    asked = {r.prompt for r in result.records}
    prompts = {e.prompt for name in ("sft", "dpo", "kto") for e in emission[name]}
    assert prompts <= asked
    assert all(e.provenance["seed_prompt"] in e.prompt for e in emission["sft"])
    assert all(e.provenance["instructions"][0] in e.prompt for e in emission["sft"])


def test_pairs_of_the_bare_instruction_are_its_test_cases(made):
    made_recipe, _, result, _ = made
    for e in emit(made_recipe, result.records)["dpo_instruction"]:
        assert e.prompt == e.constraints[0].text
        assert e.provenance["chosen_source"] == e.provenance["rejected_source"] == "test_case"


def test_a_stored_pass_is_not_taken_on_trust(made):
    made_recipe, _, result, _ = made
    forged = [r.model_copy(update={"candidates": tuple(
        c.model_copy(update={"text": "nothing of the kind", "verdicts": (Verdict(outcome=Outcome.PASS),)})
        for c in r.candidates)}) for r in result.records]
    emission = emit(made_recipe, forged)
    assert not any(emission[name] for name in ("sft", "dpo", "dpo_instruction"))


OUTCOME = """
import hashlib, sys
from pathlib import Path
from tests.methods.test_autoif import METHOD, SMALL, Options, play, scripted
from tests.support.models import scripted_client
options = Options(**SMALL)
records = play(METHOD.inputs(Path(sys.argv[1]), options, None), options, teacher=scripted)[0].records
print(hashlib.sha1("".join(r.model_dump_json() for r in records).encode()).hexdigest())
"""


def test_the_outcome_does_not_depend_on_pythons_hash_seed(made, tmp_path):
    _, _, result, _ = made
    here = hashlib.sha1("".join(r.model_dump_json() for r in result.records).encode()).hexdigest()
    done = subprocess.run([sys.executable, "-c", OUTCOME, seeds_file(tmp_path)], capture_output=True, text=True,
                          cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONHASHSEED": "7"})
    assert done.stdout.strip() == here, done.stderr


def test_the_plan_bounds_what_is_asked(made):
    _, seeds, _, usage = made
    for call in METHOD.plan(seeds, Options(**SMALL), {"teacher"}):
        assert call.low <= call.high
        assert usage.tally(call.stage, call.role).requests <= call.high


@pytest.mark.parametrize(("ablation", "stages_gone", "changed"), [
    ("without_back_translation", {"back_translate", "consistency"}, {"back_translate"}),
    ("without_quality_score", {"score"}, {"quality_score"}),
    ("without_cross_validation", set(), {"cross_validation"})])
def test_an_ablation_takes_one_thing_from_the_paper_and_nothing_else(ablation, stages_gone, changed):
    paper, without = (recipe(presets).method_options() for presets in (["paper"], ["paper", ablation]))
    assert {k for k, v in without.model_dump().items() if v != getattr(paper, k)} == changed
    names, left = ([s.name for s in METHOD.stages(o)] for o in (paper, without))
    assert [n for n in names if n not in stages_gone] == left


def test_without_cross_validation_functions_that_nobody_agrees_with_are_kept(tmp_path):
    seeds = [Record.from_seed("Say fig.", extra={"origin": "seed", "verifiable": True, "round": 1})]
    sources = [f"def evaluate(response):\n    return {said}" for said in ("True", "False")]
    written = {**dict(enumerate(sources)), 2: "def evaluate(response):\n    return undefined_name"}

    def teacher(request):
        return answer_of(written[request.sample], [("a fig", True), ("a pear", True)])

    kept = {}
    for ablation in ([], ["without_cross_validation"]):
        options = recipe(["paper", *ablation], answers=3).method_options()
        result, _ = play(seeds, options, only=("write_functions", "cross_validate"), teacher=teacher)
        kept[bool(ablation)] = [r.constraints[0].kwargs["functions"] for r in result.records]
    assert kept[False] == []
    assert kept[True][0][:2] == sources, "no agreement is asked for"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs_and_emits_only_what_is_verified(preset, tmp_path):
    small = {"augment_calls": 0, "queries_per_instruction": 1, "answers": 6, "dpo_instruction_apart": True}
    options = recipe(preset, **small).method_options()
    result, _ = play(METHOD.inputs(seeds_file(tmp_path, 3), options, None), options, teacher=scripted)
    result.ledger.check()
    emission = emit(recipe(preset, **small), result.records)
    for e in emission["sft"]:
        assert verify(e.response, e.constraints)[0].passed
    for e in [*emission["dpo"], *emission["dpo_instruction"]]:
        assert verify(e.chosen, e.constraints)[0].passed
        assert verify(e.rejected, e.constraints)[0].failed
    if preset != "without_cross_validation":  # there functions that always say yes stay, and those refuse nothing
        assert emission["dpo"]


def test_two_instructions_on_a_prompt_are_each_decided_by_their_own_functions(tmp_path):
    options = Options(**{**SMALL, "min_constraints": 2, "max_constraints": 2})
    result, _ = play(METHOD.inputs(seeds_file(tmp_path), options, None), options, teacher=scripted)
    composed = [r for r in result.records if not r.extra.get("bare")]
    assert composed
    for r in composed:
        assert [c.text in r.prompt for c in r.constraints] == [True, True]
        assert 2 <= r.difficulty <= 3
    made_recipe = recipe(**options.model_dump())
    for e in emit(made_recipe, result.records)["sft"]:
        assert [v.passed for v in verify(e.response, e.constraints)] == [True, True]


def test_instructions_that_contradict_each_other_are_not_put_on_one_prompt(tmp_path):
    def teacher(request):
        ask = request.messages[-1]["content"]
        if "Two requirements for a text" in ask and ask.count("Mention") == 2:
            return json.dumps({"reason": "scripted", "relation": "contradiction"})
        return scripted(request)

    options = Options(**{**SMALL, "min_constraints": 2, "max_constraints": 2, "augment_calls": 0})
    seeds = METHOD.inputs(seeds_file(tmp_path), options, None)
    result, _ = play(seeds, options, teacher=teacher)
    assert {r.reason for r in result.dropped} == {"instructions_contradict_each_other", "marked_as_not_verifiable"}
    assert not result.records
    result, _ = play(seeds, options.model_copy(update={"min_constraints": 1}), teacher=teacher)
    assert {r.reason for r in result.dropped} == {"marked_as_not_verifiable"}
    assert {len(r.constraints) for r in result.records} == {1}


@pytest.mark.parametrize(("stage", "mark", "said", "reason"), [
    ("screen", "Could a Python function", '{"checkable": false}', "no_function_can_check_it"),
    ("screen", "Could a Python function", "hm", "screen_no_json"),
    ("write_functions", "Complete this Python function", "No.", "no_readable_function"),
    ("back_translate", "For each function write", "[]", "back_translation_empty"),
    ("back_translate", "For each function write", "No.", "back_translation_no_json"),
    ("consistency", "Two requirements", '{"relation": "contradiction"}', "back_translation_contradiction"),
    ("consistency", "Two requirements", "perhaps", "consistency_no_json"),
    ("augment", "new requirements", "I cannot.", "no_instructions_in_the_answer")])
def test_whatever_is_turned_away_has_a_reason(stage, mark, said, reason, tmp_path):
    def teacher(request):
        return said if mark in request.messages[-1]["content"] else scripted(request)

    options = Options(**{**SMALL, "augment_calls": 1})
    result, _ = play(METHOD.inputs(seeds_file(tmp_path, 2), options, None), options, teacher=teacher)
    assert reason in {r.reason for r in result.dropped if r.stage == stage}
    result.ledger.check()


def test_the_score_has_anchors_for_the_whole_scale_and_the_small_variant_the_three_it_had(tmp_path):
    asked = {}
    for variant in ("full", "small"):
        def judge(request, variant=variant):
            if "You rate one response" not in request.messages[-1]["content"]:
                return scripted(request)
            asked[variant] = request
            return json.dumps({"reasoning": "", "score": 9})

        options = Options(**{**SMALL, "prompt_variant": variant})
        play(METHOD.inputs(seeds_file(tmp_path), options, None), options, teacher=scripted, judge=judge)
    full, small = (asked[v].messages[-1]["content"] for v in ("full", "small"))
    assert all(f"\n{points}: " in full for points in ("10", "8 to 9", "6 to 7", "4 to 5", "2 to 3", "0 to 1"))
    assert "Midpoint: " in small
    assert "Midpoint" not in full
    assert [list(asked[v].schema["properties"]) for v in ("full", "small")] == [
        ["reasoning", "score"], ["reason", "score"]]


def test_a_score_is_asked_for_only_where_an_answer_passes_and_unreadable_ones_are_not_enough(tmp_path):
    rated = []

    def teacher(request):
        ask = request.messages[-1]["content"]
        if "You rate one response" in ask:
            rated.append(ask)
            return "splendid"
        return scripted(request)

    small = {**SMALL, "augment_calls": 0}
    result, _ = play(METHOD.inputs(seeds_file(tmp_path, 2), Options(**small), None), Options(**small),
                     teacher=teacher)
    emission = emit(recipe(**small), result.records)
    assert rated
    assert not emission["sft"]
    assert set(emission.refused["sft"]) == {"score_unread"}
    assert emission["dpo"]  # pairs are about the instruction, as in the paper


def test_the_student_answers_where_there_is_one_and_the_judge_judges(tmp_path):
    options = Options(**{**SMALL, "student_samples": 2, "teacher_samples": 1})
    seeds = METHOD.inputs(seeds_file(tmp_path, 2), options, None)
    _, usage = play(seeds, options, teacher=scripted, student=scripted, judge=scripted)
    assert usage.tally("respond", "student").requests == 2 * usage.tally("respond", "teacher").requests
    assert usage.tally("score", "judge").requests
    assert usage.tally("consistency", "judge").requests
    assert not usage.tally("score", "teacher").requests
    alone, usage = play(seeds, options, teacher=scripted)
    assert usage.tally("respond", "teacher").requests == 3 * (len(alone.records) - sum(
        bool(r.extra.get("bare")) for r in alone.records))


def test_equal_and_nearly_equal_instructions_are_dropped_and_counted(tmp_path):
    path = tmp_path / "instructions.txt"
    path.write_text("- Use exactly ten words.\nUse exactly ten words!\nWrite no digit.\n"
                    "Use exactly ten words in your answer, please.\n"
                    "Use exactly ten words in the answer, please.\n")
    options = Options(**{**SMALL, "augment_calls": 0})
    result, _ = play(METHOD.inputs(path, options, None), options, only=("augment", "deduplicate"))
    assert result.ledger["deduplicate"].dropped == {"duplicate_instruction": 1, "near_duplicate_instruction": 1}
    assert len(result.records) == 3


def test_the_same_instruction_from_two_calls_is_kept_once():
    options = Options(**{**SMALL, "augment_calls": 2})
    result, _ = play(METHOD.inputs(None, options, 1), options, only=("augment", "deduplicate"),
                     teacher=lambda request: Completion(
                         f"- Write no digit at all.\n- Use exactly {request.sample + 3} words.", "stop"))
    assert result.ledger["deduplicate"].dropped == {"duplicate_instruction": 1}
    assert [r.prompt for r in result.records].count("Write no digit at all.") == 1


def test_an_instruction_that_the_token_limit_cut_is_counted_and_hides_no_other():
    def teacher(request):
        if request.sample == 0:
            return Completion("- Write no digit at all.\n- Use exactly ten", "length")
        return "- Use exactly ten.\n- Hm.\n- " + "a b " * 200

    calls = [Record(id=str(i), seed_prompt="x", prompt=f"x{i}", extra={"origin": "augmentation", "call": i, **POOL})
             for i in range(2)]
    result, _ = play(calls, Options(), only=("augment", "deduplicate"), teacher=teacher)
    assert [r.prompt for r in result.records] == ["Write no digit at all.", "Use exactly ten."]
    assert result.ledger["deduplicate"].dropped == {"cut_by_the_token_limit": 1, "too_short_or_too_long": 2}


@pytest.mark.parametrize("text", [
    "- Use ten words.\n* Use no digit.\n", "1. Use ten words.\n2) Use no digit.",
    '["Use ten words.", "Use no digit."]', "Sure!\n\n- **Use ten words.**\n- Use no digit.\n\nHave fun!",
    "<think>- not this one</think>\n- Use ten words.\n- Use no digit."])
def test_instructions_are_read_from_bullets_numbers_and_json(text):
    call = Record(id="call", seed_prompt="x", prompt="x", extra={"origin": "augmentation", "call": 0, **POOL})
    result, _ = play([call], Options(), only=("augment",), teacher=lambda r: text)
    assert [r.prompt for r in result.records] == ["Use ten words.", "Use no digit."]


def test_the_pool_grows_by_what_was_accepted_and_is_drawn_by_the_runs_seed(tmp_path):
    """Two rounds of two calls: the second shows instructions the first accepted, no dropped ones, other seeds with
    another seed of the run; the first shows seeds alone."""
    shown = {}

    def play_with(seed, bad=()):
        asks = []

        def teacher(request):
            ask = request.messages[-1]["content"]
            if "new requirements" in ask:
                asks.append(ask)
            return scripted(request)

        options = Options(**{**SMALL, "augment_rounds": 2, "augment_calls": 4, "queries_per_instruction": 1})
        seeds = METHOD.inputs(seeds_file(tmp_path), options, None)
        result, usage = play(seeds, options, teacher=teacher, seed=seed)
        result.ledger.check()
        for call in METHOD.plan(seeds, options, {"teacher"}):
            assert usage.tally(call.stage, call.role).requests <= call.high
        return result, [re.findall(r"(?m)^- (.*)", ask.split("Write 5 new")[0]) for ask in asks]

    result, shown = play_with(0)
    seeds = {instruction(i) for i in range(6)} | {"Make the reader feel at home."}
    accepted = {r.extra["instructions"][0] for r in result.records if r.extra["origin"] == "augmented" and
                r.extra["round"] == 1}
    assert len(shown) == 4
    assert all(set(texts) <= seeds for texts in shown[:2])
    assert accepted
    assert all(accepted < set(texts) <= seeds | accepted for texts in shown[2:])
    assert {r.extra["round"] for r in result.records} == {1, 2}
    assert play_with(0)[1] == shown
    assert play_with(1)[1][0] != shown[0]


def test_instruction_level_pairs_are_among_the_others_and_never_the_last_stages(tmp_path):
    """By default they are easy pairs of `dpo`; apart, they are trained only where they are named."""
    small = {**SMALL, "dpo_instruction_apart": False}
    result, _ = play(METHOD.inputs(seeds_file(tmp_path), Options(**small), None), Options(**small), teacher=scripted)
    emission = emit(recipe(**small), result.records)
    assert not emission["dpo_instruction"]
    levels = {e.provenance["pair_level"]: e.difficulty for e in emission["dpo"]}
    assert set(levels) == {"query", "instruction"}
    assert all(e.difficulty == 1 for e in emission["dpo"] if e.provenance["pair_level"] == "instruction")
    assert METHOD.separate == ("dpo_instruction",)


def test_the_shipped_instructions_are_many_and_our_own(shared):
    seeds = METHOD.inputs(None, Options(augment_calls=0), None)
    assert len(seeds) >= 36
    assert sum(s.extra["verifiable"] is True for s in seeds) >= 36
    plain = lambda text: re.sub(r"\W+", " ", text.lower()).strip()  # noqa: E731
    theirs = {plain(t) for t in (shared / "data" / "autoif" / "seed_instruction.txt").read_text().splitlines()}
    assert not theirs & {plain(s.prompt) for s in seeds}


def test_queries_of_the_user_keep_their_system_and_earlier_turns(tmp_path):
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    rows = [{"prompt": "Where does the wind come from?", "system": "Be brief.", "history": talk, "id": "q1"},
            {"prompt": "Short."}]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {**SMALL, "augment_calls": 0, "queries": str(tmp_path / "queries.jsonl")}
    result, _ = play(METHOD.inputs(seeds_file(tmp_path, 2), Options(**small), None), Options(**small),
                     teacher=scripted)
    asked = [r for r in result.records if not r.extra.get("bare")]
    assert len(asked) == 2
    assert all(r.system == "Be brief." and len(r.history) == 2 and r.extra["seed_id"] == "q1" for r in asked)


@pytest.mark.parametrize(("row", "problem"), [
    ({"prompt": "Short."}, "no query is longer"),
    ({"prompt": "Where does wind come from?", "constraints": [{"type": "punctuation:no_comma"}]}, "of its own")])
def test_queries_that_cannot_be_used_are_named_before_anything_is_asked(row, problem, tmp_path):
    (tmp_path / "queries.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=problem):
        METHOD.plan([], Options(queries=str(tmp_path / "queries.jsonl")), {"teacher"})


def test_one_seed_alone_still_makes_as_many_calls_as_asked_for(tmp_path):
    options = Options(augment_calls=3, augment_rounds=1)
    result, _ = play(METHOD.inputs(seeds_file(tmp_path, 1), options, None), options, only=("augment",),
                     teacher=scripted)
    assert not result.ledger["seeds"].dropped
    assert result.ledger["augment"].taken == 2 + 3


@pytest.mark.parametrize(("content", "where"), [
    ('{"instruction": ""}\n', "field 'instruction'"), ('{"prompt": "x"}\n', "field 'instruction'"),
    ('{"instruction": "x", "verifiable": "yes"}\n', "field 'verifiable'"),
    ('{"instruction": "x", "verifiable": false}\n', "instructions.jsonl"), ("", "instructions.jsonl")])
def test_a_broken_seed_file_is_named_with_its_row_and_field(content, where, tmp_path):
    path = tmp_path / "instructions.jsonl"
    path.write_text(content)
    with pytest.raises(UserError) as e:
        METHOD.inputs(path, Options(), None)
    assert where in str(e.value)


def test_a_threshold_that_is_none_is_refused_with_its_key():
    with pytest.raises(UserError, match="case_accuracy"):
        recipe(case_accuracy="about half")


def test_the_commented_recipe_parses_to_the_defaults(tmp_path):
    import yaml

    text = commented("autoif")
    assert parse(yaml.safe_load(text)).method_options() == Options()


def test_the_old_name_of_an_option_is_still_read_with_one_line_that_says_so():
    recipe = {"method": "autoif", "models": {"teacher": "http://127.0.0.1:1/v1"}, "options": {"wash": False},
              "preset": "released"}
    with pytest.warns(FutureWarning, match="drop_download_lines"):
        options = parse(recipe).method_options()
    assert options.drop_download_lines is False
